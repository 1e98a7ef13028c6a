"""Every fault of a data directory at once: in the files, between them, and in the audio they name."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pse.errors import PseError
from pse.io.audio import AudioInfo, probe
from pse.io.tables import VALID_ID, Table, counted, invert, is_pipe, is_table, parse

DURATION_TOLERANCE_S = 0.01
NOT_AUDIO = ("feats.scp", "cmvn.scp", "vad.scp", "ivector.scp", "xvector.scp")
_SAME_LENGTH = re.compile(r"(spk|noise|dereverb)\d+\.scp")
_ARCHIVE = re.compile(r"(.+):(\d+)")
Infos = dict[str, dict[str, AudioInfo]]  # scp name -> {id: header}


@dataclass
class Audit:
    """What was found: faults make a directory invalid, warnings are worth knowing."""

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    num_ids: int = 0


def kind_of_key(name: str) -> str:
    """What the ids of a table are: `recording`, `utterance` (the same without segments) or `speaker`."""
    if name.startswith("spk2") or name == "cmvn.scp":
        return "speaker"
    if name.startswith("reco2") or (name.endswith(".scp") and name not in NOT_AUDIO):
        return "recording"
    return "utterance"


def load(directory: Path) -> dict[str, Table]:
    """All tables of a directory, with their own faults. Raises PseError when it is no data directory."""
    if not directory.is_dir():
        raise PseError("no such directory", directory)
    names = sorted(p.name for p in directory.iterdir() if p.is_file() and is_table(p.name))
    if "wav.scp" not in names:
        raise PseError("is no data directory: it has no wav.scp", directory)
    return {name: parse(name, (directory / name).read_bytes()) for name in names}


def audit(directory: str | Path, check_audio: bool = True, sample_rate: int | None = None) -> Audit:
    """Look at everything; see `pse.io.datadir.validate`. Raises PseError when there is nothing to look at."""
    tables = load(Path(directory))
    found = Audit(num_ids=len(tables.get("segments", tables["wav.scp"]).entries))
    for table in tables.values():
        found.faults += table.faults
        if table.name.endswith(".scp"):
            pipes = [k for k, v in table.entries.items() if is_pipe(v)]
            found.faults += counted(table.name, "entries are commands, which are not run", pipes)
    _check_speakers(tables, found)
    _check_ids(tables, found)
    what = "lines are not `id recording start end` with start < end"
    found.faults += counted("segments", what, bad_segments(tables))
    if check_audio:
        infos, problems = probe_all(tables)
        for (name, what), ids in problems.items():
            found.faults += counted(name, f"audio files: {what}", ids)
        _check_rates(infos, sample_rate, found)
        for (name, what), ids in mismatches(tables, infos).items():
            found.faults += counted(name, what, ids)
        _check_durations(tables, infos, found)
    return found


def _check_speakers(tables: Mapping[str, Table], found: Audit) -> None:
    for name in ("utt2spk", "spk2utt"):
        if name not in tables:
            found.faults.append(f"{name}: there is no such file")
    if "utt2spk" not in tables:
        return
    utt2spk = tables["utt2spk"].entries
    bad = [u for u, s in utt2spk.items() if not VALID_ID.fullmatch(s)]
    found.faults += counted("utt2spk", "lines do not name one speaker", bad)
    foreign = [u for u, s in utt2spk.items() if not u.startswith(s)]
    found.warnings += counted("utt2spk", "utterance ids do not begin with their speaker's id", foreign)
    if "spk2utt" in tables:
        ours = {s: sorted(u.split()) for s, u in invert(utt2spk).items()}
        theirs = {s: sorted(u.split()) for s, u in tables["spk2utt"].entries.items()}
        differing = [s for s in sorted({*ours, *theirs}) if ours.get(s) != theirs.get(s)]
        found.faults += counted("spk2utt", "speakers for which it is not the inverse of utt2spk", differing)


def _check_ids(tables: Mapping[str, Table], found: Audit) -> None:
    recordings = tables["wav.scp"].entries
    # Empty files have been named already; comparing ids would only repeat it.
    utterances = tables["segments"].entries if "segments" in tables else recordings
    speakers = set(tables["utt2spk"].entries.values()) if "utt2spk" in tables else set()
    owner = {
        "recording": (set(recordings), "wav.scp"),
        "utterance": (set(utterances), "segments" if "segments" in tables else "wav.scp"),
        "speaker": (speakers, "utt2spk"),
    }
    for name, table in tables.items():
        expected, where = owner[kind_of_key(name)]
        if name in (where, "spk2utt") or not table.entries or not expected:
            continue
        ids = set(table.entries)
        found.faults += counted(name, f"ids of {where} are missing", sorted(expected - ids))
        found.faults += counted(name, f"ids are not in {where}", sorted(ids - expected))


def bad_segments(tables: Mapping[str, Table]) -> list[str]:
    """Ids of the lines of `segments` that name no recording or no stretch of time."""
    if "segments" not in tables:
        return []
    return [k for k, v in tables["segments"].entries.items() if segment(v, tables["wav.scp"].entries) is None]


def segment(value: str, recordings: Mapping[str, str]) -> tuple[str, float, float] | None:
    """(recording, start in s, end in s) of a line of `segments`; None when it is not sound."""
    parts = value.split()
    try:
        recording, start_s, end_s = parts[0], float(parts[1]), float(parts[2])
    except (IndexError, ValueError):
        return None
    sound = len(parts) == 3 and recording in recordings and 0 <= start_s < end_s < float("inf")
    return (recording, start_s, end_s) if sound else None


def probe_all(
    tables: Mapping[str, Table],
) -> tuple[Infos, dict[tuple[str, str], list[str]]]:
    """Look at the header of all audio: ({scp: {id: info}}, {(scp, what is wrong): ids}).

    An entry of an archive, `file.ark:offset`, only has to lie inside the archive.
    """
    scps = {n: t.entries for n, t in tables.items() if n.endswith(".scp")}
    values = sorted({(v, n in NOT_AUDIO) for n, e in scps.items() for v in e.values() if not is_pipe(v)})
    with ThreadPoolExecutor(8) as pool:
        results = dict(zip(values, pool.map(lambda v: _look(*v), values), strict=True))
    infos: Infos = defaultdict(dict)
    problems: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, entries in scps.items():
        for key, value in entries.items():
            result = results.get((value, name in NOT_AUDIO))
            if isinstance(result, str):
                problems[name, result].append(key)
            elif result is not None:
                infos[name][key] = result
    return infos, problems


def _look(value: str, is_archive: bool) -> AudioInfo | str | None:
    """The header of one entry, or what is wrong with it, or None when it lies in an archive."""
    match = _ARCHIVE.fullmatch(value)
    if is_archive or (match and not Path(value).is_file()):
        path, offset = (Path(match[1]), int(match[2])) if match else (Path(value), 0)
        if not path.is_file():
            return "no such file"
        return None if offset < path.stat().st_size else "the archive ends before the entry"
    try:
        return probe(value)
    except PseError as error:
        return error.what
    except OSError as error:
        return error.strerror or str(error)


def _check_rates(infos: Infos, wanted: int | None, found: Audit) -> None:
    rates = Counter(info.sample_rate for of_scp in infos.values() for info in of_scp.values())
    if not rates:
        return
    usual = wanted or rates.most_common(1)[0][0]
    for name, of_scp in infos.items():
        others = [f"{k} ({i.sample_rate} Hz)" for k, i in of_scp.items() if i.sample_rate != usual]
        what = f"files are not at {usual} Hz" if wanted else f"files are not at {usual} Hz, as most are"
        found.faults += counted(name, what, others)


def mismatches(tables: Mapping[str, Table], infos: Infos) -> dict[tuple[str, str], list[str]]:
    """{(table, what is wrong): ids} of entries that do not fit the recording they belong to."""
    main = infos.get("wav.scp", {})
    found = {}
    for name in filter(_SAME_LENGTH.fullmatch, infos):
        differing = [k for k, i in infos[name].items() if k in main and i.num_samples != main[k].num_samples]
        found[name, "files are not as long as those of wav.scp"] = differing
    if "segments" in tables:
        pieces = {k: segment(v, tables["wav.scp"].entries) for k, v in tables["segments"].entries.items()}
        ends_s = {r: i.duration_s + DURATION_TOLERANCE_S for r, i in main.items()}
        late = [k for k, p in pieces.items() if p and p[0] in ends_s and p[2] > ends_s[p[0]]]
        found["segments", "segments end after their recording"] = late
    return found


def _check_durations(tables: Mapping[str, Table], infos: Infos, found: Audit) -> None:
    for name in ("utt2dur", "utt2num_samples"):
        if name in tables:
            known = true_lengths(name, tables, infos.get("wav.scp", {}))
            values = tables[name].entries
            wrong = [k for k in values if k in known and not agrees(name, values[k], known[k])]
            found.faults += counted(name, "values differ from the audio", wrong)


def true_lengths(name: str, tables: Mapping[str, Table], main: Mapping[str, AudioInfo]) -> dict[str, float]:
    """What utt2dur (in s) or utt2num_samples should say, for the ids for which it can be known."""
    if "segments" not in tables:
        return {k: i.duration_s if name == "utt2dur" else i.num_samples for k, i in main.items()}
    if name != "utt2dur":
        return {}
    pieces = {k: segment(v, tables["wav.scp"].entries) for k, v in tables["segments"].entries.items()}
    return {k: p[2] - p[1] for k, p in pieces.items() if p}


def agrees(name: str, value: str, truth: float) -> bool:
    """Whether a value of utt2dur or utt2num_samples is right."""
    try:
        difference = abs(float(value) - truth)
    except ValueError:
        return False
    return difference <= (DURATION_TOLERANCE_S if name == "utt2dur" else 0)
