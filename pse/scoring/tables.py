"""Scores on disk: one line per utterance in `scores.tsv`, means in `summary.json`, two runs compared."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pse.errors import PseError, first_three
from pse.io.atomic import write_text
from pse.io.jsonl import write_json
from pse.scoring.metrics import Failure
from pse.scoring.statistics import Difference, mean_ci, paired_by_id

Value = float | Failure
FIRST_COLUMNS = ("id", "speaker", "snr_db")
FAILED = "fail:"
AGAIN = "run the stage score again"


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one utterance, by metric: of the input (`before`) and of the output (`after`).

    snr_db: of the mixture, None where it is not known.
    """

    id: str
    speaker: str
    snr_db: float | None
    before: dict[str, Value] = field(default_factory=dict)
    after: dict[str, Value] = field(default_factory=dict)


def _metrics(rows: Sequence[ScoreRow]) -> list[str]:
    """The metrics all rows carry, in the order of the first. Raises PseError when rows differ."""
    names = list(rows[0].before) if rows else []
    odd = [row.id for row in rows if not row.before.keys() == row.after.keys() == set(names)]
    if odd:
        raise PseError(
            f"{len(odd)} of {len(rows)} rows have other metrics than the first: {first_three(odd)}"
        )
    return names


def _cell(value: Value | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, Failure):
        return FAILED + value.reason
    if not math.isfinite(value):
        raise PseError(f"a score of {value} is not a number; a failed score is a Failure")
    return f"{value:.6f}"


def _parse_number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise PseError(f"{text!r} is neither a number nor {FAILED}<reason>", where, AGAIN)
    return value


def _parse_cell(text: str, where: str) -> Value:
    return Failure(text[len(FAILED) :]) if text.startswith(FAILED) else _parse_number(text, where)


def write_scores(path: str | Path, rows: Sequence[ScoreRow]) -> None:
    """Write `scores.tsv`: id, speaker, snr_db, then <metric>_in and <metric>_out, six decimals.

    Raises PseError for a repeated id, a tab or line break in a name, or rows with different metrics.
    """
    metrics = _metrics(rows)
    repeated = [name for name, times in Counter(row.id for row in rows).items() if times > 1]
    if repeated:
        raise PseError(f"{len(repeated)} ids occur more than once: {first_three(repeated)}", path)
    odd = [name for row in rows for name in (row.id, row.speaker) if not name.isprintable() or not name]
    if odd:
        raise PseError(f"{len(odd)} names are empty or hold control characters: {first_three(odd)}", path)
    lines = ["\t".join([*FIRST_COLUMNS, *(f"{m}_{side}" for m in metrics for side in ("in", "out"))])]
    for row in rows:
        cells = [_cell(scores[m]) for m in metrics for scores in (row.before, row.after)]
        lines.append("\t".join([row.id, row.speaker, _cell(row.snr_db), *cells]))
    write_text(path, "\n".join(lines) + "\n")


def _parse_header(line: str, where: str) -> list[str]:
    columns = line.split("\t")
    names = [c.removesuffix("_in") for c in columns[len(FIRST_COLUMNS) :: 2]]
    expected = [*FIRST_COLUMNS, *(f"{m}_{side}" for m in names for side in ("in", "out"))]
    if columns != expected or len(set(names)) != len(names):
        raise PseError("the header is not that of a scores.tsv", where, AGAIN)
    return names


def read_scores(path: str | Path) -> list[ScoreRow]:
    """The rows of a `scores.tsv`. Raises PseError naming the line that is broken."""
    try:
        lines = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PseError(f"cannot be read ({error})", path, "run the stage score") from error
    metrics = _parse_header(lines[0], f"{path}:1")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        where, cells = f"{path}:{number}", line.split("\t")
        if len(cells) != len(FIRST_COLUMNS) + 2 * len(metrics):
            raise PseError(f"has {len(cells)} columns, not the header's", where, AGAIN)
        values = [_parse_cell(cell, where) for cell in cells[len(FIRST_COLUMNS) :]]
        snr_db = None if cells[2] == "-" else _parse_number(cells[2], where)
        before = dict(zip(metrics, values[::2], strict=True))
        after = dict(zip(metrics, values[1::2], strict=True))
        rows.append(ScoreRow(cells[0], cells[1], snr_db, before, after))
    return rows


def column(rows: Iterable[ScoreRow], name: str) -> dict[str, Value]:
    """One column by id: `<metric>_in`, `<metric>_out` or the improvement `<metric>_i` (out - in).

    An improvement of which either side failed is a Failure with that side's reason.
    """
    metric, _, kind = name.rpartition("_")
    values: dict[str, Value] = {}
    for row in rows:
        if metric not in row.before or kind not in ("in", "out", "i"):
            choices = ", ".join(column_names([row]))
            raise PseError(f"there is no column {name!r}", None, f"choose from {choices}")
        before, after = row.before[metric], row.after[metric]
        if kind != "i":
            values[row.id] = before if kind == "in" else after
        elif isinstance(before, Failure) or isinstance(after, Failure):
            values[row.id] = after if isinstance(after, Failure) else before
        else:
            values[row.id] = after - before
    return values


def column_names(rows: Sequence[ScoreRow]) -> list[str]:
    """Every column that `column` can give: per metric _in, _out, _i."""
    return [f"{metric}_{kind}" for metric in _metrics(rows) for kind in ("in", "out", "i")]


def numbers(values: Mapping[str, Value]) -> dict[str, float]:
    """The values that are numbers: without failures."""
    return {name: value for name, value in values.items() if not isinstance(value, Failure)}


def summarise(rows: Sequence[ScoreRow]) -> dict[str, Any]:
    """What the scores come to: {"n": rows, "columns": {name: {mean, ci95, n, n_failed, reasons}}}.

    ci95 is the half-width of the 95 % confidence interval (Student's t), None below two values; `reasons`
    counts the failures by their text. Improvements are paired: an utterance counts only where the input and
    the output both have a score.
    """
    columns = {}
    for name in column_names(rows):
        values = column(rows, name)
        estimate = mean_ci(list(numbers(values).values()))
        reasons = Counter(v.reason for v in values.values() if isinstance(v, Failure))
        columns[name] = {
            "mean": estimate.mean if estimate else None,
            "ci95": estimate.half_width if estimate else None,
            "n": estimate.n if estimate else 0,
            "n_failed": sum(reasons.values()),
            "reasons": dict(sorted(reasons.items())),
        }
    return {"n": len(rows), "columns": columns}


def average(runs: Sequence[Sequence[ScoreRow]]) -> list[ScoreRow]:
    """The rows of the first run, with the means over all runs (seeds, say) of what came out.

    A score that failed in one of them has failed. Raises PseError when the runs are not of the same utterances.
    """
    first, *others = runs
    if any([row.id for row in other] != [row.id for row in first] for other in others):
        raise PseError("runs of different utterances have no mean", None, AGAIN)
    return [replace(rows[0], after=mean_scores([row.after for row in rows])) for rows in zip(*runs, strict=True)]


def mean_scores(scores: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    """Means of scores by metric; one that failed anywhere has failed."""
    means: dict[str, Value] = {}
    for name in scores[0]:
        values = [s[name] for s in scores]
        failed = [v for v in values if isinstance(v, Failure)]
        means[name] = failed[0] if failed else sum(values) / len(values)
    return means


def write_summary(path: str | Path, rows: Sequence[ScoreRow]) -> None:
    """Write `summary.json`: what `summarise` says of the rows."""
    write_json(path, summarise(rows))


def compare(a: Sequence[ScoreRow], b: Sequence[ScoreRow], name: str) -> Difference | None:
    """How much higher `b` scores than `a` in one column, over the items where both have a score."""
    return paired_by_id(numbers(column(a, name)), numbers(column(b, name)))
