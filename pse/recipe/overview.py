"""Where the trainings of an experiment stand, read from its files: also while they run elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pse.errors import PseError
from pse.io.atomic import has_writer
from pse.io.jsonl import read_json, read_jsonl
from pse.recipe.jobs import last_line


@dataclass(frozen=True)
class Training:
    """state: done, running, failed (its log ends in an error) or stopped; `best` of its headline."""

    stage: str
    name: str
    state: str
    examples: int
    headline: str
    best: float | None


def overview(experiment: Path) -> list[Training]:
    """All trainings that were begun in exp/<tag>, by stage and name."""
    found = sorted(experiment.glob("*/*/checkpoint")) + sorted(experiment.glob("*/checkpoint"))
    places = [p.parent for p in found if ".earlier" not in p.parts]
    return [_look(experiment, place) for place in places]


def _look(experiment: Path, place: Path) -> Training:
    stage, name = (place.name, "train") if place.parent == experiment else (place.parent.name, place.name)
    record = experiment / ".done" / stage / f"{name}.json"
    if has_writer(place / "checkpoint"):
        state = "running"
    elif record.is_file():
        state = "done"
    else:
        told = last_line(experiment / "log" / stage / f"{name}.log")
        state = "failed" if told.startswith("error:") else "stopped"
    try:
        best = read_json(place / "best.json")
        examples = max((line["examples"] for line in read_jsonl(place / "metrics.jsonl")), default=0)
        return Training(stage, name, state, examples, str(best["headline"]), best["value"])
    except (PseError, KeyError, TypeError):
        # Nothing is written before the first validation.
        return Training(stage, name, state, 0, "", None)


def lines(trainings: Sequence[Training]) -> list[str]:
    """A table for a terminal, and how many there are of each state."""
    width = max(len(t.name) for t in trainings)
    rows = [f"{'stage':13}  {'training':{width}}  {'state':7}  {'examples':>11}  best"]
    for t in trainings:
        best = "-" if t.best is None else f"{t.headline} {t.best:.2f}"
        rows.append(f"{t.stage:13}  {t.name:{width}}  {t.state:7}  {t.examples:>11,}  {best}")
    counts = Counter(t.state for t in trainings)
    return [*rows, ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))]
