"""The noises of MUSAN as it is unpacked from OpenSLR 17."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pse.corpora.base import Recording, check_ids, measured, need_directory, walk
from pse.errors import PseError

# free-sound trains and validates, sound-bible tests (2104.02017).
SOURCES = ("free-sound", "sound-bible")
FIX = "give the directory that holds musan/noise/, or leave --musan_dir out to download it"


def find_root(root: str | Path) -> Path:
    """The directory that holds noise/free-sound: `root` or `root`/musan. PseError when it is neither."""
    root = need_directory(root, FIX)
    for place in (root, root / "musan", root / "MUSAN"):
        if (place / "noise" / SOURCES[0]).is_dir():
            return place
    raise PseError("holds no noise/free-sound", root, FIX)


def scan(root: str | Path, num_valid: int = 60, min_duration_s: float = 4.0) -> list[Recording]:
    """The noises of at least `min_duration_s`, in path order; category is their source.

    split: the last `num_valid` free-sound files are `valid`, those before `train`, sound-bible is
    `test`. Raises PseError for a missing source, unreadable files, or when no training noise is left.
    """
    root = find_root(root)
    lost = [s for s in SOURCES if not (root / "noise" / s).is_dir()]
    if lost:
        raise PseError(f"has no noise/{', noise/'.join(lost)}", root, FIX)
    drafts = [
        Recording(p.stem, p, p.stem, category=source, split="test")
        for source in SOURCES
        for p in walk(root / "noise" / source)
        if p.suffix.lower() in (".wav", ".flac")
    ]
    check_ids(drafts, root)
    usable = measured(drafts, root, min_duration_s)
    free = [r for r in usable if r.category == SOURCES[0]]
    test = [r for r in usable if r.category == SOURCES[1]]
    if not 0 < num_valid < len(free) or not test:
        raise PseError(
            f"{len(free)} free-sound and {len(test)} sound-bible noises last {min_duration_s:g} s or more, "
            f"{num_valid} are to validate: a part would be empty", root,
            "set num_valid_noises lower, or complete the corpus",
        )  # fmt: skip
    first = len(free) - num_valid
    return [replace(r, split="train" if n < first else "valid") for n, r in enumerate(free)] + test


PLUGIN = scan
