"""RESULTS.md: what was run, on what, and what came out, as tables that read back to the same numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

from pse.errors import PseError, printable
from pse.scoring.metrics import available

HEADLINE = "si_sdr_i"
COLUMNS = ("si_sdr_in", "si_sdr_i", "sdr_i", "pesq_out", "estoi_out")
TEST_SET = "## Test set: "
NONE = "-"
# What Markdown would take for markup in a cell; underscores inside words are safe and stay readable.
MARKUP = r"\|*`<[~"


class Interval(NamedTuple):
    """A mean and the half-width of its 95 % confidence interval (None where there is none)."""

    mean: float
    half_width: float | None


@dataclass(frozen=True)
class Row:
    """One system on one test set.

    values: by column of `summary.json` (`si_sdr_in`, `si_sdr_i`, `pesq_out`, ...); None where every score
    failed. n_failed: how many scores of this row failed, in any metric. clean_s: seconds of clean speech it
    has seen of its speaker. Numbers that do not apply are None.
    """

    test_set: str
    tag: str
    start: str = ""
    clean_s: float | None = None
    params: int | None = None
    macs_per_s: int | None = None
    seeds: tuple[int, ...] = ()
    n: int = 0
    values: dict[str, Interval | None] = field(default_factory=dict)
    n_failed: int = 0
    commit: str = ""


@dataclass(frozen=True)
class Claim:
    """A statement of a paper beside our evidence for or against it."""

    claim: str
    source: str
    evidence: str
    verdict: str


@dataclass(frozen=True)
class Extra:
    """A table that no test set's rows make: a heading, and cells of plain text, the first column left."""

    heading: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def from_summary(
    summary: Mapping[str, Any], columns: Sequence[str] = COLUMNS, **fields: Any
) -> tuple[Row, list[str]]:
    """A row out of the content of `summary.json`, and a note for each reason why scores of it failed.

    `fields` are the other fields of Row. A score counts as failed where that of the input or the output is.
    """
    found = summary["columns"]
    values = {
        name: None if found[name]["mean"] is None else Interval(found[name]["mean"], found[name]["ci95"])
        for name in columns
        if name in found
    }
    labels = {metric.name: metric.label for metric in available().values()}
    failed = {k.removesuffix("_i"): c for k, c in found.items() if k.endswith("_i") and c["n_failed"]}
    notes = [
        f"{fields.get('tag', '')}: no {labels.get(metric, metric)} for {count} of {summary['n']} ({reason})"
        for metric, c in failed.items()
        for reason, count in c["reasons"].items()
    ]
    n_failed = sum(c["n_failed"] for c in failed.values())
    return Row(n=summary["n"], n_failed=n_failed, values=values, **fields), notes


class Header(TypedDict, total=False):
    """All of RESULTS.md that is not a row; `commands` and `notes` are by test set, one line each."""

    title: str
    generated_by: str
    date: str
    python: str
    torch: str
    commit: str
    machine: str
    commands: Mapping[str, Sequence[str]]
    notes: Mapping[str, Sequence[str]]
    claims: Sequence[Claim]
    extras: Sequence[Extra]


ENVIRONMENT = {
    "date": "date",
    "python": "Python",
    "torch": "PyTorch",
    "commit": "commit",
    "machine": "machine",
}
FIXED = {
    "system": "tag",
    "start": "start",
    "clean (s)": "clean_s",
    "params": "params",
    "MACs/s": "macs_per_s",
    "seed": "seeds",
    "n": "n",
}
LAST = {"n failed": "n_failed", "commit": "commit"}
TEXT = ("tag", "start", "commit")
# Columns that a recipe may have no use for: left out where all rows are empty.
OPTIONAL = ("start", "clean (s)")
# What a terminal has no room for.
WIDE = ("params", "MACs/s", "seed", "commit")


def _line(text: object) -> str:
    return " ".join(str(text).split())


def _escape(text: object) -> str:
    line = _line(text)
    escaped = "".join("\\" + c if c in MARKUP else c for c in line)
    return "\\-" if line == NONE else escaped or NONE


def _unescape(cell: str) -> str:
    return "" if cell == NONE else re.sub(r"\\(.)", r"\1", cell)


def _metric_columns() -> dict[str, tuple[str, int]]:
    """Column of summary.json -> (its heading, decimals)."""
    columns = {}
    for metric in available().values():
        for kind, suffix in (("in", " in"), ("out", ""), ("i", "i")):
            columns[f"{metric.name}_{kind}"] = (metric.heading(suffix), metric.decimals)
    return columns


def _number(value: float | int | None) -> str:
    if value is None:
        return NONE
    return f"{value:,}" if isinstance(value, int) or not value.is_integer() else f"{int(value):,}"


def _interval(value: Interval | None, decimals: int) -> str:
    if value is None:
        return NONE
    half = "" if value.half_width is None else f" ± {value.half_width:.{decimals}f}"
    return f"{value.mean:.{decimals}f}{half}"


def _parse_interval(cell: str) -> Interval | None:
    if cell == NONE:
        return None
    mean, _, half = cell.partition(" ± ")
    return Interval(float(mean), float(half) if half else None)


def _write_field(name: str, value: Any) -> str:
    if name in TEXT:
        return _line(value)
    if name == "seeds":
        return ", ".join(str(seed) for seed in value) or NONE
    return _number(value)


def _parse_field(name: str, cell: str) -> Any:
    if name in TEXT:
        return _unescape(cell)
    if name == "seeds":
        return () if cell == NONE else tuple(int(seed) for seed in cell.split(","))
    number = None if cell == NONE else float(cell.replace(",", ""))
    return number if name == "clean_s" or number is None else int(number)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table of cells that are escaped already; the first `left` columns are text."""
    rule = ["---" if i < left else "---:" for i in range(len(headings))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [headings, rule, *rows])


def _rank(row: Row) -> tuple[float, str]:
    headline = row.values.get(HEADLINE)
    return (-headline.mean if headline else float("inf"), row.tag)


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table of `rows`, best SI-SDRi first, as plain text."""
    known = _metric_columns()
    names = dict.fromkeys(name for row in rows for name in row.values)
    columns = {name: known.get(name, (_line(name), 2)) for name in names}
    # By value, not by cell: a text that happens to be "-" is something to show.
    empty = [heading for heading in OPTIONAL if all(getattr(row, FIXED[heading]) in ("", None) for row in rows)]
    fixed = {heading: name for heading, name in FIXED.items() if heading not in empty}
    lines = [
        [_write_field(name, getattr(row, name)) for name in fixed.values()]
        + [_interval(row.values.get(name), decimals) for name, (_, decimals) in columns.items()]
        + [_write_field(name, getattr(row, name)) for name in LAST.values()]
        for row in sorted(rows, key=_rank)
    ]
    return [*fixed, *(label for label, _ in columns.values()), *LAST], lines


def result_lines(rows: Sequence[Row]) -> str:
    """The rows for a terminal: one aligned table per test set, without the columns that do not fit."""
    parts = []
    for test_set in dict.fromkeys(row.test_set for row in rows):
        headings, lines = cells([row for row in rows if row.test_set == test_set])
        kept = [i for i, heading in enumerate(headings) if heading not in WIDE]
        shown = [[line[i] for i in kept] for line in (headings, *lines)]
        widths = [max(len(line[i]) for line in shown) for i in range(len(kept))]
        parts.append(printable(test_set))
        for line in shown:
            texts = [FIXED.get(heading) in TEXT for heading in shown[0]]
            cells_shown = zip(line, widths, texts, strict=True)
            aligned = [cell.ljust(width) if text else cell.rjust(width) for cell, width, text in cells_shown]
            parts.append(printable("  ".join(aligned)))
    return "\n".join(parts)


def _result_table(rows: Sequence[Row]) -> str:
    headings, lines = cells(rows)
    fields = {**FIXED, **LAST}
    text = [fields.get(heading) in TEXT for heading in headings]
    escaped = [
        [_escape(cell) if is_text else cell for cell, is_text in zip(line, text, strict=True)]
        for line in lines
    ]
    return table([_escape(heading) for heading in headings], escaped, left=text.index(False))


def _test_set(name: str, rows: Sequence[Row], header: Header) -> list[str]:
    parts = [TEST_SET + _escape(name), _result_table(rows)]
    notes = header.get("notes", {}).get(name, ())
    if notes:
        parts.append("\n".join(f"- {_escape(note)}" for note in notes))
    commands = header.get("commands", {}).get(name, ())
    if commands:
        fence = "`" * max(3, 1 + max(len(run) for c in commands for run in re.findall("`*", c)))
        parts.append("Made by:\n\n" + "\n".join([f"{fence}sh", *(_line(c) for c in commands), fence]))
    return parts


def _preamble(header: Header) -> list[str]:
    environment = [[label, _escape(header[key])] for key, label in ENVIRONMENT.items() if key in header]
    made = _line(header.get("generated_by", "pse")).replace("--", "- -")
    parts = [f"<!-- Generated by {made}; do not edit. -->", f"# {_escape(header.get('title', 'Results'))}"]
    if environment:
        parts += ["## Environment", table(["what", "value"], environment, left=2)]
    return parts


def render(experiments: Sequence[Row], header: Header) -> str:
    """RESULTS.md: environment, one table per test set sorted by SI-SDRi, the commands, the papers' claims.

    Test sets come in the order of their first row. Means are followed by the half-width of their 95 %
    confidence interval. Raises PseError when a test set has no name.
    """
    if any(not _line(row.test_set) for row in experiments):
        raise PseError("a result has no test set", None, "name the set it was measured on")
    parts = _preamble(header)
    if experiments:
        parts.append("Means ± half-width of the 95 % confidence interval (Student t over the n mixtures).")
    for name in dict.fromkeys(row.test_set for row in experiments):
        parts += _test_set(name, [row for row in experiments if row.test_set == name], header)
    for extra in header.get("extras", ()):
        lines = [[_escape(text) for text in row] for row in extra.rows]
        parts += [f"## {_escape(extra.heading)}", table([_escape(h) for h in extra.headings], lines)]
    claims = header.get("claims", ())
    if claims:
        rows = [[_escape(text) for text in (c.claim, c.source, c.evidence, c.verdict)] for c in claims]
        headings = ["claim", "source", "evidence here", "verdict"]
        parts += ["## The papers' claims, beside ours", table(headings, rows, left=4)]
    return "\n\n".join(parts) + "\n"


def _cells(line: str) -> list[str]:
    # A bar inside a cell always follows a backslash, one between cells always follows a space.
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _parse_row(test_set: str, headings: Sequence[str], cells: Sequence[str]) -> Row:
    labels = {label: name for name, (label, _) in _metric_columns().items()}
    fields: dict[str, Any] = {}
    values: dict[str, Interval | None] = {}
    for heading, cell in zip(headings, cells, strict=True):
        name = FIXED.get(heading) or LAST.get(heading)
        if name:
            fields[name] = _parse_field(name, cell)
        else:
            values[labels.get(heading) or _unescape(heading)] = _parse_interval(cell)
    return Row(test_set=test_set, values=values, **fields)


def parse(text: str) -> list[Row]:
    """The rows of a RESULTS.md, in its order. Raises PseError when a table is not one that `render` made."""
    rows: list[Row] = []
    test_set, headings = "", None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            test_set = _unescape(line.removeprefix(TEST_SET)) if line.startswith(TEST_SET) else ""
            headings = None
        elif test_set and line.startswith("|"):
            cells = _cells(line)
            if headings is None:
                headings = cells
            elif not set(line) <= set("|-: "):
                try:
                    rows.append(_parse_row(test_set, headings, cells))
                except (ValueError, TypeError) as error:
                    raise PseError(f"this row is not a result ({error})", f"RESULTS.md:{number}") from error
    return rows
