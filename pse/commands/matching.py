"""Which files of several directories are of one recording: those of the same relative name, whatever their ending."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pse.commands.files import audio_below
from pse.errors import PseError, first_three

# What `pse separate` makes of <name>: <name>_1, <name>_2, ..
SPEAKER = re.compile(r"(.+)_([1-9][0-9]?)")


@dataclass(frozen=True)
class Matched:
    """Recordings by their names, in order, and their files in each condition (a directory).

    files: condition -> recording -> its file, or those of its speakers. notes: what has no counterpart.
    """

    recordings: Sequence[str]
    files: Mapping[str, Mapping[str, Sequence[Path]]]
    notes: Sequence[str]


def match(directories: Sequence[Path]) -> Matched:
    """The files of directories that belong together; the recordings are those of the first one.

    Raises PseError for a directory without audio or with two files of one name, and where no name fits.
    """
    places = {name: found(path, directories) for name, path in zip(_names(directories), directories, strict=True)}
    (first, recordings), *others = places.items()
    files: dict[str, Mapping[str, Sequence[Path]]] = {first: {name: [path] for name, path in recordings.items()}}
    notes = []
    for (condition, here), directory in zip(others, directories[1:], strict=True):
        mine: dict[str, list[Path]] = {}
        strange = []
        for name in sorted(here, key=_in_order):
            split = SPEAKER.fullmatch(name)
            of = name if name in recordings else split[1] if split and split[1] in recordings else None
            if of is None:
                strange.append(name)
            # The whole recording stands for itself, where its speakers are there as well.
            elif of == name or of not in here:
                mine.setdefault(of, []).append(here[name])
        if not mine:
            raise _no_counterpart(directory, strange, directories[0], recordings)
        if strange:
            notes.append(f"in {condition}, but not in {first}, and left out: {first_three(strange)}")
        lacking = [name for name in recordings if name not in mine]
        if lacking:
            notes.append(f"missing in {condition}: {first_three(lacking)}")
        files[condition] = mine
    return Matched(list(recordings), files, notes)


def references(directory: Path, recordings: Sequence[str], where: Path) -> dict[str, Path]:
    """The clean speech of recordings, of those that have some. Raises PseError where none of them has."""
    here = found(directory, [where])
    if not set(here) & set(recordings):
        raise _no_counterpart(directory, sorted(here), where, recordings)
    return {name: here[name] for name in recordings if name in here}


def found(directory: Path, others: Sequence[Path] = ()) -> dict[str, Path]:
    """The audio files below a directory by their relative names without ending; `others` inside it are left out.

    Raises PseError where there are none, and for two of one name.
    """
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "no such directory"
        raise PseError(what, directory, "give a directory of recordings")
    paths = audio_below(directory, others)
    names = [str(path.relative_to(directory).with_suffix("")) for path in paths]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise PseError(f"{len(twice)} names have two files: {first_three(twice)}", directory, "keep one of each")
    return dict(zip(names, paths, strict=True))


def _names(directories: Sequence[Path]) -> list[str]:
    """What the directories are called: as short as tells them apart. Raises PseError for one that is given twice."""
    parts = [Path(os.path.abspath(path)).parts for path in directories]
    twice = [str(d) for d, p in zip(directories, parts, strict=True) if parts.count(p) > 1]
    if twice:
        raise PseError("is given twice", twice[0], "name each directory once")
    longest = max(map(len, parts))
    told = ([os.path.join(*p[-size:]) for p in parts] for size in range(1, longest + 1))
    return next(names for names in told if len(set(names)) == len(names))


def _in_order(name: str) -> tuple[str, int]:
    """Speaker 10 comes after speaker 9."""
    split = SPEAKER.fullmatch(name)
    return (split[1], int(split[2])) if split else (name, 0)


def _no_counterpart(directory: Path, names: Sequence[str], first: Path, wanted: Sequence[str]) -> PseError:
    told = f"no file is called as one of {first}: here are {first_three(names)}, there {first_three(wanted)}"
    return PseError(told, directory, "files are matched by their relative names without ending")
