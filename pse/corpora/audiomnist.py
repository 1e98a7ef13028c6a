"""AudioMNIST as it is cloned from github.com/soerenab/AudioMNIST (Becker et al., 1807.03418): spoken digits.

60 speakers, twelve of them women, say each digit 50 times, in 48 kHz. The Free Spoken Digit Dataset in the
same layout, with or without a table of its speakers, is read too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pse.corpora.base import Recording, check_ids, measured, need_directory, refusal, tell, walk
from pse.corpora.naming import safe, unique_ids
from pse.errors import PseError, first_three
from pse.io.jsonl import read_json

PREFIX = "audiomnist"
TABLE = "audioMNIST_meta.txt"
FORMATS = (".wav", ".flac")
# How far below the loudest moment the silence at both ends lies; for `cache_build.build(trim_db=..)`.
TRIM_DB = 40.0
# An age beyond is a slip of the keyboard: the published table says 1234 of one speaker.
AGES = range(10, 111)
SEXES = {"female": "F", "f": "F", "woman": "F", "male": "M", "m": "M", "man": "M"}
_NAME = re.compile(r"([0-9])_(.+)_([0-9]+)")
FIX = "give the directory that holds data/<speaker>/<digit>_<speaker>_<repetition>.wav"


@dataclass(frozen=True)
class Person:
    """What the table says of a speaker: sex (F, M or unknown, empty) and age in years, None where it is none."""

    sex: str = ""
    age: int | None = None


def find_root(root: str | Path) -> Path:
    """The directory with a folder for each speaker: `root`, `root`/data or `root`/AudioMNIST/data, else PseError."""
    root = need_directory(root, FIX)
    for place in (root / "data", root / "AudioMNIST" / "data", root):
        if place.is_dir() and any(_in_place(p) for folder in place.iterdir() if folder.is_dir() for p in walk(folder)):
            return place
    raise PseError("holds no spoken digits", root, FIX)


def _in_place(path: Path) -> re.Match[str] | None:
    """The match of a recording's name, when it is in the folder of its speaker."""
    match = _NAME.fullmatch(path.stem)
    return match if match and path.suffix.lower() in FORMATS and path.parent.name == match[2] else None


def read_people(path: Path) -> dict[str, Person]:
    """Speaker's folder -> sex and age out of a table like audioMNIST_meta.txt (JSON).

    Ages are numbers or text; sexes are words in any case. Raises PseError for a file that is no such table.
    """
    table = read_json(path)
    if not isinstance(table, dict) or not all(isinstance(row, dict) for row in table.values()):
        raise PseError("is no JSON table of speakers", path, "copy it again")
    return {str(name): Person(_sex(row), _age(row.get("age"))) for name, row in table.items()}


def _sex(row: Mapping[str, Any]) -> str:
    return SEXES.get(str(row.get("gender", "")).strip().lower(), "")


def _age(value: Any) -> int | None:
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 4 and int(text) in AGES else None


def scan(root: str | Path, prefix: str = PREFIX, min_duration_s: float = 0.0) -> list[Recording]:
    """All recordings in order of speaker and id; category is the speaker's sex where the table says it.

    id is `<prefix>-<folder>-<digit>_<folder>_<repetition>`, speaker `<prefix>-<folder>`: speakers of other
    corpora are numbers too. A FLAC is taken before a WAV of the same name. Speakers who are not in the table
    are told, and a missing table. Raises PseError for names that do not fit their folders, files that cannot
    be read, and a tree without recordings.
    """
    root = find_root(root)
    by_stem = {p.with_suffix(""): p for suffix in FORMATS for p in walk(root) if p.suffix.lower() == suffix}
    # By place: two folders are never one speaker, and the order does not depend on the format.
    files = [by_stem[stem] for stem in sorted(by_stem)]
    faults = [f"{p}: the name is not <speaker>/<digit>_<speaker>_<repetition>" for p in files if not _in_place(p)]
    if faults:
        raise refusal(faults, len(files), root, "move these files out of the tree")
    people = _people(root, sorted({p.parent.name for p in files}))
    speakers = [f"{prefix}-{safe(p.parent.name)}" for p in files]
    drafts = [
        Recording(name, path, speaker, category=people.get(path.parent.name, Person()).sex)
        for name, path, speaker in zip(_ids(files, root, prefix), files, speakers, strict=True)
    ]
    check_ids(drafts, root)
    return measured(sorted(drafts, key=lambda r: (r.speaker, r.id)), root, min_duration_s)


def _ids(files: list[Path], root: Path, prefix: str) -> list[str]:
    inside = [p.relative_to(root) for p in files]
    return [f"{prefix}-{i}" for i in unique_ids(inside, [safe(p.parent.name) for p in inside])]


def _people(root: Path, speakers: list[str]) -> dict[str, Person]:
    """The table's rows, with a line on what it does not tell."""
    found = sorted(root.glob("*_meta.txt"), key=lambda p: p.name != TABLE)
    if not found:
        tell(f"{root} has no {TABLE}: the sex of {len(speakers)} speakers is unknown")
        return {}
    people = read_people(found[0])
    if unknown := [s for s in speakers if not people.get(s, Person()).sex]:
        tell(f"{found[0]}: the sex of {len(unknown)} of {len(speakers)} speakers is unknown: {first_three(unknown)}")
    return people


PLUGIN = scan
