"""`pse results EXP ...`: tables of experiments, and what differs between them, pair by pair.

Of an experiment that is not finished: which trainings are done, running, failed or stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from pse.errors import PseError, StageMissingError
from pse.io.atomic import write_text
from pse.recipe.overview import lines as overview_lines
from pse.recipe.overview import overview


def main(argv: Sequence[str]) -> int:
    """Show experiments (exp/<tag>) or conditions (exp/<tag>/scores_test/<condition>) side by side."""
    parser = argparse.ArgumentParser(prog="pse results", description=__doc__)
    parser.add_argument("place", nargs="+", type=Path, help="exp/<tag>, or exp/<tag>/scores_test/<condition>")
    parser.add_argument("--column", default="si_sdr_i", help="score to compare pair by pair, e.g. pesq_out")
    parser.add_argument("-o", "--output", type=Path, help="also join the experiments' RESULTS.md in this file")
    args = parser.parse_args(argv)
    experiments = [p for p in args.place if not (p / "scores.tsv").is_file()]
    for line in _tables(experiments):
        print(line)
    for line in _differences(args.place, args.column):
        print(line)
    if args.output:
        write_text(args.output, "\n".join(_results_of(p) for p in experiments))
        print(f"written: {args.output}")
    return 0


def _results_of(experiment: Path) -> str:
    path = experiment / "RESULTS.md"
    if not path.is_file():
        raise StageMissingError("has no RESULTS.md", experiment, "run ./run.sh --stage report first")
    return path.read_text(encoding="utf-8")


def _tables(experiments: Sequence[Path]) -> Iterator[str]:
    from pse.scoring.results_md import parse, result_lines

    for experiment in experiments:
        yield f"== {experiment}"
        trainings = overview(experiment)
        if trainings and (any(t.state != "done" for t in trainings) or not (experiment / "RESULTS.md").is_file()):
            yield from overview_lines(trainings)
        else:
            yield result_lines(parse(_results_of(experiment)))


def _conditions(place: Path) -> dict[str, Path]:
    if (place / "scores.tsv").is_file():
        return {"": place}
    return {p.parent.name: p.parent for p in sorted(place.glob("scores_test/*/scores.tsv"))}


def _differences(places: Sequence[Path], column: str) -> Iterator[str]:
    """Paired differences between conditions of the same name, or between the conditions named."""
    from pse.scoring.tables import compare, read_scores

    for first, second in combinations(places, 2):
        ours, theirs = _conditions(first), _conditions(second)
        if ours.keys() != theirs.keys() and "" in ours.keys() | theirs.keys():
            raise PseError("one is an experiment, the other a condition", f"{first}, {second}", "name two alike")
        for name in ours.keys() & theirs.keys():
            found = compare(read_scores(ours[name] / "scores.tsv"), read_scores(theirs[name] / "scores.tsv"), column)
            label = f"{second} - {first}" + (f", {name}" if name else "")
            if found is None:
                yield f"{label}: no mixture in common"
                continue
            width, chance = found.half_width or 0.0, found.p_value if found.p_value is not None else 1.0
            told = f"{found.mean:+.2f} ± {width:.2f} {column}, paired, n = {found.n}, p = {chance:.2g}"
            sure = found.half_width is not None and abs(found.mean) > width
            yield f"{label}: {told}" + ("" if sure else "  (no difference shown)")
