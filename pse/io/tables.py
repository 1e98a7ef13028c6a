"""One text file of a Kaldi data directory, `id value` a line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pse.errors import PseError, first_three, printable

VALID_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
BAD_ID = "do not match [A-Za-z0-9._-]{1,200}, or start with - or ."
_LINE = re.compile(r"([^ \t]+)[ \t]+(.*)")
# Files whose value may be empty: an utterance in which nothing is said.
_MAY_BE_EMPTY = ("text",)


@dataclass
class Table:
    """The entries of a file, {id: rest of the line}, in the order of the file, and its faults in words."""

    name: str
    entries: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def is_table(name: str) -> bool:
    """Whether a file of this name is one of a data directory's tables."""
    return name.endswith(".scp") or name in ("text", "segments") or name.startswith(("utt2", "spk2", "reco2"))


def is_pipe(value: str) -> bool:
    """Whether an entry of an scp is a command, which is never run."""
    return value.strip().startswith("|") or value.strip().endswith("|")


def counted(name: str, what: str, items: Iterable[object]) -> list[str]:
    """One fault line `name: count what: first three`, or none when there are no items."""
    found = list(items)
    return [printable(f"{name}: {len(found)} {what}: {first_three(found)}")] if found else []


def parse(name: str, content: bytes) -> Table:
    """Read the content of table `name`. Raises nothing: what is wrong is in `faults`.

    A line that is malformed has no entry; of an id that stands twice the first counts.
    """
    table = Table(name)
    if content.startswith(b"\xef\xbb\xbf"):
        table.faults.append(f"{name}: starts with a byte order mark")
        content = content[3:]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        table.faults.append(f"{name}: is not UTF-8 (byte {error.start})")
        text = content.decode("utf-8", "replace")
    if not text.strip():
        table.faults.append(f"{name}: is empty")
        return table
    if not text.endswith("\n"):
        table.faults.append(f"{name}: the last line has no newline")
    lines = text.removesuffix("\n").split("\n")
    windows = [f"line {n}" for n, s in enumerate(lines, 1) if s.endswith("\r")]
    table.faults += counted(name, "lines end in CR LF", windows)
    _read_lines(table, lines)
    keys = list(table.entries)
    out_of_order = [b for a, b in zip(keys, keys[1:], strict=False) if a > b]
    table.faults += counted(name, "ids are not in C order", out_of_order)
    table.faults += counted(name, f"ids {BAD_ID}", (k for k in keys if not VALID_ID.fullmatch(k)))
    return table


def _read_lines(table: Table, lines: list[str]) -> None:
    malformed, twice = [], []
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r \t")
        match = _LINE.fullmatch(line)
        if match:
            key, value = match.groups()
        elif line and not line[0].isspace() and table.name in _MAY_BE_EMPTY:
            key, value = line, ""
        else:
            malformed.append(f"line {number}")
            continue
        if key in table.entries:
            twice.append(key)
        else:
            table.entries[key] = value
    table.faults += counted(table.name, "malformed lines (not `id value`)", malformed)
    table.faults += counted(table.name, "ids stand twice", twice)


def read_table(path: str | Path) -> dict[str, str]:
    """The entries of one file. Raises PseError naming every fault of the file that would lose data.

    The order of the lines and a missing newline at the end do not matter.
    """
    path = Path(path)
    try:
        table = parse(path.name, path.read_bytes())
    except OSError as error:
        raise PseError(f"cannot be read ({error.strerror})", path) from error
    harmless = ("the last line has no newline", "ids are not in C order")
    faults = [f for f in table.faults if not any(h in f for h in harmless)]
    if path.suffix == ".scp":
        faults += counted(path.name, "entries are commands, which are not run", _pipes(table.entries))
    if faults:
        what = "; ".join(f.removeprefix(f"{path.name}: ") for f in faults)
        raise PseError(what, path, f"utils/fix_data_dir.sh {path.parent} shows how to mend it")
    return table.entries


def _pipes(entries: Mapping[str, str]) -> list[str]:
    return [k for k, v in entries.items() if is_pipe(v)]


def render(name: str, entries: Mapping[str, str]) -> str:
    """The text of a table, ids in C order. Raises PseError for what would not be read back as it is."""
    bad_ids = [k for k in entries if not VALID_ID.fullmatch(k)]
    if bad_ids:
        raise PseError(f"{len(bad_ids)} ids {BAD_ID}: {first_three(bad_ids)}", name)
    bad = [k for k, v in entries.items() if not _can_be_read_back(name, v)]
    if bad:
        what = f"{len(bad)} values are empty, or hold a newline or blanks at an end: {first_three(bad)}"
        raise PseError(what, name)
    return "".join(f"{k} {entries[k]}".rstrip(" ") + "\n" for k in sorted(entries))


def _can_be_read_back(name: str, value: str) -> bool:
    return value == value.strip(" \t\r") and "\n" not in value and bool(value or name in _MAY_BE_EMPTY)


def invert(utt2spk: Mapping[str, str]) -> dict[str, str]:
    """The table spk2utt, {speaker: its utterances}, that belongs to a table utt2spk."""
    utterances: dict[str, list[str]] = {}
    for utterance in sorted(utt2spk):
        utterances.setdefault(utt2spk[utterance], []).append(utterance)
    return {speaker: " ".join(utterances[speaker]) for speaker in sorted(utterances)}
