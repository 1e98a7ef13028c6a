"""Which files of several directories are of one recording: those of the same relative name, whatever their ending.

Where a directory has talk.wav and talk.mp3, these names have their endings, as in `pse enhance`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pse.commands.files import audio_below, names_of
from pse.errors import PseError, first_three

# What `pse separate` makes of <name>: <name>_1, <name>_2, .. and <name>_residual.
PART = re.compile(r"(.+)_([1-9][0-9]?|residual)")
# Numbers of parts that are no speakers; what is left over comes last.
WHOLE, RESIDUAL = 0, 100


@dataclass(frozen=True)
class Matched:
    """Recordings by their names, in order, and their files in each condition (a directory).

    files: condition -> recording -> part -> its file; a part is WHOLE, the number of a speaker, or RESIDUAL. notes:
    what has no counterpart.
    """

    recordings: Sequence[str]
    files: Mapping[str, Mapping[str, Mapping[int, Path]]]
    notes: Sequence[str]


def match(directories: Sequence[Path]) -> Matched:
    """The files of directories that belong together; the recordings are those of the first one.

    Raises PseError for a directory without audio, and where no name fits.
    """
    places = {name: found(path, directories) for name, path in zip(_names(directories), directories, strict=True)}
    (first, recordings), *others = places.items()
    files: dict[str, Mapping[str, Mapping[int, Path]]] = {first: {n: {WHOLE: path} for n, path in recordings.items()}}
    notes = []
    for (condition, here), directory in zip(others, directories[1:], strict=True):
        mine: dict[str, dict[int, Path]] = {}
        strange = []
        for name in sorted(here, key=_of_which):
            of, part = (name, WHOLE) if name in recordings else _of_which(name)
            if of not in recordings:
                strange.append(name)
            # The whole recording stands for itself, where its parts are there as well.
            elif part == WHOLE or of not in here:
                mine.setdefault(of, {})[part] = here[name]
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
    """The audio files below a directory by their names (`names_of`); `others` inside it are left out.

    Raises PseError where there are none.
    """
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "no such directory"
        raise PseError(what, directory, "give a directory of recordings")
    names = names_of(path.relative_to(directory) for path in audio_below(directory, others))
    return {name: directory / path for path, name in names.items()}


def _names(directories: Sequence[Path]) -> list[str]:
    """What the directories are called: as short as tells them apart. Raises PseError for one that is given twice."""
    parts = [Path(os.path.abspath(path)).parts for path in directories]
    twice = [str(d) for d, p in zip(directories, parts, strict=True) if parts.count(p) > 1]
    if twice:
        raise PseError("is given twice", twice[0], "name each directory once")
    longest = max(map(len, parts))
    told = ([os.path.join(*p[-size:]) for p in parts] for size in range(1, longest + 1))
    return next(names for names in told if len(set(names)) == len(names))


def _of_which(name: str) -> tuple[str, int]:
    """The recording and the part that a name would be of; speaker 10 comes after speaker 9."""
    split = PART.fullmatch(name)
    if split is None:
        return name, WHOLE
    return split[1], RESIDUAL if split[2] == "residual" else int(split[2])


def _no_counterpart(directory: Path, names: Sequence[str], first: Path, wanted: Sequence[str]) -> PseError:
    told = f"no file is called as one of {first}: here are {first_three(names)}, there {first_three(wanted)}"
    return PseError(told, directory, "files are matched by their relative names without ending")
