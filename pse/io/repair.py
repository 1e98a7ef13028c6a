"""Mend a data directory: propose first, then write, and keep what was there."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from functools import reduce
from pathlib import Path

from pse.errors import PseError, printable
from pse.io.atomic import write_text, writing_dir
from pse.io.audit import agrees, bad_segments, kind_of_key, load, mismatches, probe_all, true_lengths
from pse.io.tables import VALID_ID, Table, invert, is_pipe, render

DERIVED = ("utt2dur", "utt2num_samples")
_MOST_LINES = 20


def fix(directory: str | Path, apply: bool = False, check_audio: bool = True) -> str:
    """The changes that make a data directory sound, as text; with `apply` they are written.

    Ids without usable audio or not in all files go, files are sorted and cleaned, spk2utt is derived,
    utt2dur and utt2num_samples are corrected from the audio. What was there is kept in `.backup/<n>`.
    The result is empty when there is nothing to mend. A wrong sample rate cannot be mended here.
    Raises PseError when nothing would be left.
    """
    directory = Path(directory)
    mended = _mend(directory, load(directory), check_audio)
    there = [name for name in mended if (directory / name).is_file()]
    old = {name: (directory / name).read_bytes() if name in there else b"" for name in mended}
    changed = {name: text for name, text in mended.items() if text.encode() != old[name]}
    if apply and changed:
        _back_up(directory, [name for name in there if name in changed])
        for name, text in changed.items():
            write_text(directory / name, text)
    return "".join(_difference(directory / name, old[name], text) for name, text in changed.items())


def _mend(directory: Path, tables: dict[str, Table], check_audio: bool) -> dict[str, str]:
    """File name -> text of the sound directory."""
    infos, problems = probe_all(tables) if check_audio else ({}, {})
    problems = {**problems, **mismatches(tables, infos)}
    broken = {name: {k for (n, _), ids in problems.items() if n == name for k in ids} for name in tables}
    entries = {}
    for name, table in tables.items():
        sound = {k: v for k, v in table.entries.items() if _usable(name, k, v)}
        entries[name] = {k: v for k, v in sound.items() if k not in broken[name]}
    for key in bad_segments(tables):
        entries["segments"].pop(key, None)
    old_inverse = entries.pop("spk2utt", {})
    if not entries.get("utt2spk"):
        entries["utt2spk"] = {u: s for s, us in old_inverse.items() for u in us.split() if _usable("", u, s)}
    # Values that come from the audio are made new, so a gap in them costs no utterance.
    can_derive = ("utt2dur",) if "segments" in entries else DERIVED
    derived = [n for n in can_derive if n in entries and check_audio]
    kept = _keep_common(directory, {n: e for n, e in entries.items() if n not in derived})
    for name in derived:
        truth = true_lengths(name, tables, infos.get("wav.scp", {}))
        kept[name] = {k: _length(name, entries[name].get(k, ""), truth[k]) for k in kept["utt2spk"]}
    kept["spk2utt"] = invert(kept["utt2spk"])
    return {name: render(name, kept[name]) for name in sorted(kept)}


def _usable(name: str, key: str, value: str) -> bool:
    one_speaker = name != "utt2spk" or VALID_ID.fullmatch(value)
    runs_something = name.endswith(".scp") and is_pipe(value)
    return bool(VALID_ID.fullmatch(key) and one_speaker and not runs_something and "\ufffd" not in value)


def _length(name: str, value: str, truth: float) -> str:
    if agrees(name, value, truth):
        return value
    return f"{truth:.3f}" if name == "utt2dur" else str(int(truth))


def _keep_common(directory: Path, entries: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Keep the ids that all files of the same kind have."""
    empty = [name for name, table in entries.items() if not table]
    if empty:
        raise PseError(f"{empty[0]} has no usable line", directory, "restore the file, or remove it")
    kinds = {name: kind_of_key(name) for name in entries}
    of = {kind: [n for n in entries if kinds[n] == kind] for kind in ("recording", "utterance")}
    if "segments" in entries:
        recordings = _common(entries, of["recording"])
        inside = {k: v for k, v in entries["segments"].items() if v.split()[0] in recordings}
        utterances = _common({**entries, "segments": inside}, of["utterance"])
    else:
        recordings = utterances = _common(entries, of["recording"] + of["utterance"])
    if not recordings or not utterances:
        raise PseError(f"no id is in all of {', '.join(sorted(entries))}", directory, "make the files again")
    speakers = {s for u, s in entries["utt2spk"].items() if u in utterances}
    keep = {"recording": recordings, "utterance": utterances, "speaker": speakers}
    return {n: {k: v for k, v in table.items() if k in keep[kinds[n]]} for n, table in entries.items()}


def _common(entries: Mapping[str, Mapping[str, str]], names: list[str]) -> set[str]:
    return reduce(set.intersection, (set(entries[n]) for n in names))


def _back_up(directory: Path, names: list[str]) -> None:
    taken = [int(p.name) for p in (directory / ".backup").glob("*") if p.name.isdecimal()]
    with writing_dir(directory / ".backup" / str(max(taken, default=0) + 1)) as place:
        for name in names:
            shutil.copy2(directory / name, place / name)


def _difference(path: Path, old: bytes, new: str) -> str:
    """The lines that go and come, without those that only move."""
    before, after = Counter(old.decode("utf-8", "replace").splitlines()), Counter(new.splitlines())
    rows = [f"-{s}" for s in (before - after).elements()] + [f"+{s}" for s in (after - before).elements()]
    more = [f" ... and {len(rows) - _MOST_LINES} more lines"] if len(rows) > _MOST_LINES else []
    moved = [] if rows else [" the same lines in another order, or with other line ends"]
    return "".join(f"{printable(line)}\n" for line in [f"--- {path}", *rows[:_MOST_LINES], *more, *moved])
