"""A manifest of recordings: a TSV file with a header, of which only the column `path` is needed."""

from __future__ import annotations

import csv
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pse.errors import PseError

_SPLITS = {
    "train": ("train", "tr", "training"),
    "valid": ("valid", "validation", "val", "dev", "cv"),
    "test": ("test", "tt", "eval", "evaluation"),
}


@dataclass(frozen=True)
class Row:
    """What a manifest or a layout says of one file."""

    path: Path
    recording: str = ""
    speaker: str = ""
    category: str = ""
    split: str = ""
    duration_s: float | None = None


def split_name(text: str) -> str:
    """train, valid or test for any usual spelling of them, else an empty string."""
    return next((name for name, spellings in _SPLITS.items() if text.lower() in spellings), "")


def read_manifest(table: str | Path, root: Path) -> tuple[list[Row], list[str]]:
    """The rows below `root`, and what is wrong with others of them.

    Paths are relative to the manifest's directory; `-` stands for nothing. Raises PseError when the
    file cannot be read, has no column `path`, or names nothing below `root`.
    """
    table = Path(table)
    try:
        with open(table, encoding="utf-8", newline="") as file:
            # Quotes are part of a name, not a way to write one.
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            header = [*(reader.fieldnames or [])]
            lines = [{k: (v or "").strip() for k, v in line.items() if isinstance(k, str)} for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PseError(f"cannot be read ({error})", table, "check the path and that it is UTF-8 text") from error
    if "path" not in header:
        raise PseError("has no column `path`", table, "its first line names the columns, separated by tabs")
    base, inside = os.path.realpath(table.parent), os.path.realpath(root)
    rows: list[Row] = []
    faults: list[str] = []
    for number, line in enumerate(lines, 2):
        place = os.path.normpath(os.path.join(base, line["path"]))
        if not place.startswith(inside + os.sep):
            continue
        path = root / os.path.relpath(place, inside)
        try:
            rows.append(_row(path, line))
        except ValueError as error:
            faults.append(f"{path}: line {number} of the manifest {error}")
    twice = [path for path, n in Counter(r.path for r in rows).items() if n > 1]
    faults += [f"{path}: the manifest names it more than once" for path in twice]
    if not rows and not faults:
        raise PseError(f"names no file below {root}", table, "its paths are relative to its own directory")
    return [r for r in rows if r.path not in set(twice)], faults


def _row(path: Path, line: dict[str, str]) -> Row:
    value = {k: "" if v == "-" else v for k, v in line.items()}
    split = split_name(value.get("split", ""))
    if value.get("split") and not split:
        raise ValueError(f"has the split {value['split']!r}, not train, valid or test")
    try:
        duration_s = float(value["duration_s"]) if value.get("duration_s") else None
    except ValueError as error:
        raise ValueError(f"has the duration {value['duration_s']!r}") from error
    return Row(
        path, value.get("recording", ""), value.get("speaker", ""), value.get("category", ""), split, duration_s
    )
