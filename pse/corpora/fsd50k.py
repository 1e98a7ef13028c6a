"""FSD50K as it is unpacked from Zenodo record 4060432: clips by number, labels in CSV files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from pse.corpora.base import Recording, check_ids, measured, need_directory
from pse.errors import PseError, first_three

# Our names of the corpus's own split: dev.csv says train or val, eval.csv is its third part.
SPLITS = ("train", "valid", "eval")
_SPLIT_OF = {"dev": {"train": "train", "val": "valid"}, "eval": {"": "eval"}}
# Speech and music in the noise would teach a denoiser to remove voices; searched for inside the
# whole label string, so `Musical_instrument` goes too (2104.02017).
DROPPED_LABELS = ("speech", "music")
_FOLDERS = {
    "dev": ("FSD50K.dev_audio", "dev_audio", "FSD50K.dev", "dev"),
    "eval": ("FSD50K.eval_audio", "eval_audio", "FSD50K.eval", "eval"),
    "truth": ("FSD50K.ground_truth", "ground_truth", "labels"),
}
FIX = "give the directory that holds FSD50K.dev_audio/, or leave --fsd50k_dir out to download it"


def find_root(root: str | Path) -> Path:
    """The directory with the audio folders: `root` or `root`/FSD50K. PseError when it is neither."""
    root = need_directory(root, FIX)
    for place in (root, root / "FSD50K", root / "fsd50k"):
        if place.is_dir() and (_folder(place, "dev") or _folder(place, "eval")):
            return place
    raise PseError("holds no folder FSD50K.dev_audio or FSD50K.eval_audio", root, FIX)


def scan(
    root: str | Path,
    min_duration_s: float = 4.0,
    splits: Sequence[str] = SPLITS,
    dropped_labels: Sequence[str] = DROPPED_LABELS,
) -> list[Recording]:
    """The clips of the ground truth, by split and number, at whatever rate they are stored.

    Dropped are clips whose lower-cased label string contains one of `dropped_labels`, and clips
    shorter than `min_duration_s`. category is the first, most specific label. Only the parts that
    `splits` names have to be on the disk. Raises PseError for a missing part, CSV rows that make
    no sense, and clips that are listed but missing or unreadable.
    """
    root = find_root(root)
    drafts: list[Recording] = []
    lost: list[str] = []
    for part, names in _SPLIT_OF.items():
        if not set(names.values()) & set(splits):
            continue
        table, folder = _part(root, part)
        clips = {p.stem: p for p in folder.iterdir() if p.suffix.lower() in (".wav", ".flac")}
        for name, labels, split in _read_truth(table, part):
            if split not in splits or any(word in labels.lower() for word in dropped_labels):
                continue
            if name not in clips:
                lost.append(f"{folder.name}/{name}.wav")
                continue
            number = f"fsd50k-{name}"
            drafts.append(Recording(number, clips[name], number, category=labels.split(",")[0], split=split))
    if lost:
        total = len(lost) + len(drafts)
        raise PseError(f"{len(lost)} of {total} listed clips are missing: {first_three(lost)}", root, FIX)
    check_ids(drafts, root)
    drafts.sort(key=lambda r: (SPLITS.index(r.split), len(r.id), r.id))
    return measured(drafts, root, min_duration_s)


def _folder(root: Path, part: str) -> Path | None:
    """The folder of a part under any of its usual spellings, whatever their case."""
    by_name = {p.name.lower(): p for p in root.iterdir() if p.is_dir()}
    return next((by_name[n.lower()] for n in _FOLDERS[part] if n.lower() in by_name), None)


def _part(root: Path, part: str) -> tuple[Path, Path]:
    """The CSV file and the audio folder of `dev` or `eval`."""
    folder, table = _folder(root, part), (_folder(root, "truth") or root) / f"{part}.csv"
    if folder is not None and table.is_file():
        return table, folder
    lost = [] if folder else [_FOLDERS[part][0]]
    lost += [] if table.is_file() else [f"{_FOLDERS['truth'][0]}/{part}.csv"]
    raise PseError(f"has no {' and no '.join(lost)}", root, FIX)


def _read_truth(path: Path, part: str) -> list[tuple[str, str, str]]:
    """Rows (number, labels, split by our name) of dev.csv or eval.csv."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [[row.get(key) or "" for key in ("fname", "labels", "split")] for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PseError(f"cannot be read ({error})", path, "unpack FSD50K.ground_truth.zip again") from error
    known = _SPLIT_OF[part]
    bad = [f"line {n}" for n, (name, labels, split) in enumerate(rows, 2) if not name.isdigit() or split not in known]
    if bad or not rows:
        what = f"{len(bad)} rows have no number or no known split: {first_three(bad)}" if bad else "lists no clip"
        raise PseError(what, path, "unpack FSD50K.ground_truth.zip again")
    return [(name, labels, known[split]) for name, labels, split in rows]


PLUGIN = scan
