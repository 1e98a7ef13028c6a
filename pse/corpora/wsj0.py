"""WSJ0 (LDC93S6A or LDC93S6B) as it lies on its discs: the three directories that WSJ0-mix is made of."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pse.corpora.base import Recording, check_ids, in_parallel, need_directory, refusal, tell, walk
from pse.errors import PseError, first_three
from pse.io import sound

SETS = ("si_tr_s", "si_dt_05", "si_et_05")
# The speakers of the two test directories (github.com/funcwj/deep-clustering, scripts/spk2gender).
TEST_SPEAKERS = {
    "F": ("050", "053", "420", "421", "441", "444", "445"),
    "M": ("051", "052", "22g", "22h", "422", "423", "440", "442", "443", "446", "447"),
}
SAMPLE_RATE = 16000
FIX = "give the directory that holds the WSJ0 discs, with the .wv1 files of si_tr_s, si_dt_05 and si_et_05"
_ID = re.compile(r"([0-9a-z]{3})[a-z][0-9a-z]{4}")
_SEX = re.compile(r"\s*([0-9a-z]{3})\s+([fm])\b")
_INDEXED = re.compile(r"\s*(\d+)_(\d+)_(\d+):\s*\S*/([0-9a-z]{8})(?:\.wv1)?\s*")


def scan(root: str | Path, sets: Sequence[str] = SETS) -> list[Recording]:
    """All utterances of the sets, in order of id.

    id is the file's stem in small letters, speaker its first three, category the speaker's sex,
    split the set. Directories are found by name in any layout and case; WSJ1 has directories of
    the same names and is left out. `.wv1` is taken before a `.wav` of the same name; `.wv2`, the
    second microphone of the same utterances, never. Raises PseError for a missing set, a tree of
    .wv2 only, ids that are malformed or occur twice, and files that cannot be read or are not at
    16 kHz.
    """
    root = need_directory(root, FIX)
    files = [p for p in walk(root) if "wsj1" not in _below(root, p)]
    found: dict[str, dict[str, list[Path]]] = {s: {".wv1": [], ".wav": [], ".wv2": []} for s in sets}
    for path in files:
        name = _set_of(root, path, sets)
        if name is not None and _kind(path) in found[name]:
            found[name][_kind(path)].append(path)
    _check_sets(root, found)
    sexes = read_speakers(files)
    drafts = [d for name in sets for d in _drafts(root, name, found[name], sexes)]
    check_ids(drafts, root)
    unknown = sorted({d.speaker for d in drafts if not d.category})
    if unknown:
        what = f"{root}: the sex of {len(unknown)} speakers is unknown ({first_three(unknown)})"
        tell(f"{what}; put wsj0-train-spkrinfo.txt of catalog.ldc.upenn.edu/docs/LDC93S6A/ there")
    recordings, faults = in_parallel(_probed, drafts)
    if faults:
        raise refusal(faults, len(drafts), root, "copy them again from the discs")
    return sorted(recordings, key=lambda r: r.id)


def _below(root: Path, path: Path) -> tuple[str, ...]:
    """The directories of a file from `root` itself on, in small letters."""
    return (root.name.lower(), *(p.lower() for p in path.relative_to(root).parts[:-1]))


def _set_of(root: Path, path: Path, sets: Sequence[str]) -> str | None:
    return next((p for p in reversed(_below(root, path)) if p in sets), None)


def _kind(path: Path) -> str:
    """`.wv1`, `.wv2` or `.wav`; a conversion that kept the first ending, x.wv2.wav, is what it was made from."""
    endings = [s.lower() for s in path.suffixes]
    return ".wv2" if ".wv2" in endings else endings[-1] if endings else ""


def _check_sets(root: Path, found: dict[str, dict[str, list[Path]]]) -> None:
    empty = [s for s, files in found.items() if not files[".wv1"] and not files[".wav"]]
    second = [p.name for s in empty for p in found[s][".wv2"]]
    if second:
        what = f"{', '.join(empty)} hold .wv2 files only ({first_three(second)}), which are of the second microphone"
        raise PseError(what, root, "copy the .wv1 files of the same names from the discs")
    if empty:
        raise PseError(f"has no {', '.join(empty)}", root, FIX)


def _drafts(root: Path, name: str, files: dict[str, list[Path]], sexes: dict[str, str]) -> list[Recording]:
    first = {_stem(p) for p in files[".wv1"]}
    paths = files[".wv1"] + [p for p in files[".wav"] if _stem(p) not in first]
    faults = [f"{p}: the name is not eight letters and digits" for p in paths if not _ID.fullmatch(_stem(p))]
    if faults:
        raise refusal(faults, len(paths), root, "move these files out of the tree")
    drafts = ((_stem(p), p, _stem(p)[:3]) for p in paths)
    return [Recording(i, p, speaker, category=sexes.get(speaker, ""), split=name) for i, p, speaker in drafts]


def _stem(path: Path) -> str:
    return path.name.lower().removesuffix(".wav").removesuffix(".wv1")


def _probed(draft: Recording) -> Recording:
    info = sound.probe(draft.path)
    if info.sample_rate != SAMPLE_RATE:
        raise PseError(f"is at {info.sample_rate} Hz, WSJ0 is at {SAMPLE_RATE}", draft.path)
    return replace(draft, duration_s=info.duration_s, sample_rate=info.sample_rate)


def read_speakers(files: Iterable[Path]) -> dict[str, str]:
    """Speaker -> F or M out of every *spkrinfo*.txt among the files; of the 18 test speakers always.

    A line is `id sex ...`; lines that start with `;` are comments.
    """
    sexes = {s: sex for sex, ids in TEST_SPEAKERS.items() for s in ids}
    for path in files:
        if "spkrinfo" in path.name.lower():
            lines = path.read_text(encoding="latin-1").lower().splitlines()
            sexes |= {m[1]: m[2].upper() for m in map(_SEX.match, lines) if m}
    return sexes


def discs(root: str | Path) -> dict[str, str]:
    """Utterance -> disc (`11-1.1`), as the discs' own indices (*.ndx) say; empty without them."""
    found: dict[str, str] = {}
    for path in walk(Path(root)):
        if path.suffix.lower() == ".ndx":
            lines = path.read_text(encoding="latin-1").lower().splitlines()
            found |= {m[4]: f"{m[1]}-{m[2]}.{m[3]}" for m in map(_INDEXED.fullmatch, lines) if m}
    return found


def require(recordings: Iterable[Recording], wanted: Iterable[str], root: str | Path) -> dict[str, Recording]:
    """The wanted utterances (`si_tr_s/01t/01to030v`) by id.

    Raises PseError that counts the missing ones by disc and directory, the first three of each named.
    """
    by_id = {r.id: r for r in recordings}
    wanted = sorted(set(wanted))
    missing = [w for w in wanted if w.rpartition("/")[2] not in by_id]
    if missing:
        where, groups = discs(root), defaultdict(list)
        for path in missing:
            utt = path.rpartition("/")[2]
            groups[f"{where.get(utt, '')} {path.split('/')[0]}".strip()].append(utt)
        total = Counter(w.split("/")[0] for w in wanted)
        parts = [f"{name}: {len(u)} of {total[name.split()[-1]]} ({first_three(u)})" for name, u in groups.items()]
        what = f"{len(missing)} of the {len(wanted)} utterances that the lists need are not there: {'; '.join(parts)}"
        raise PseError(what, root, "copy the .wv1 files of these directories from the discs")
    return {i: by_id[i] for i in (w.rpartition("/")[2] for w in wanted)}


def read(recording: Recording) -> tuple[np.ndarray, int]:
    """The samples of an utterance: ([T] float32 in [-1, 1), rate in Hz); raises PseError when it is damaged."""
    return sound.read(recording.path)


PLUGIN = scan
