"""What a study compares: a figure of each quantity of `report.study`, by system and test set."""

from __future__ import annotations

from typing import Any

from pse.io.jsonl import read_json
from pse.recipe.options import Context
from pse.recipe.separation import results
from pse.recipe.separation.cluster_tables import clusters_of
from pse.recipe.separation.layout import Condition, directory, estimates, rows, trainings
from pse.scoring.results_md import Extra
from pse.scoring.tables import column, numbers

# Quantity -> what its axis is called, and the factor to its unit.
AXES = {
    "eer": ("equal error rate of validation (%)", 1),
    "si_sdr_i": ("SI-SDR improvement (dB)", 1),
    "count_accuracy": ("number of speakers right (%)", 100),
    "nmi": ("NMI of clusters and speakers", 1),
    "modularity": ("modularity", 1),
    "conductance": ("conductance", 1),
    "edge_share": ("pairs of nodes that are edges (%)", 100),
    "isolated_share": ("nodes without any edge (%)", 100),
}


def eers(ctx: Context) -> dict[str, list[float]]:
    """Method -> the equal error rate of each seed's best weights in percent, of methods that are validated by it."""
    made: dict[str, list[float]] = {}
    for system in (s for stage in ("pretrain", "finetune") for s in trainings(ctx, stage)):
        best = read_json(directory(ctx, system) / "best.json")
        if best["headline"] == "eer" and best["value"] is not None:
            made.setdefault(system.method, []).append(best["value"])
    return made


def eer_table(ctx: Context) -> list[Extra]:
    """The equal error rates of training: there is no other place for them."""
    lines = [[name, ", ".join(f"{v:.1f}" for v in values)] for name, values in eers(ctx).items()]
    heading = "Equal error rate in % of telling validation speakers by nodes (best weights, which it chose)"
    return [Extra(heading, ["method", "of each seed"], lines)] if lines else []


def values(ctx: Context, quantity: str) -> dict[str, dict[str, list[float]]]:
    """Test set -> system -> the values of a quantity, one a mixture; of `eer` one a seed, on the validation set."""
    if quantity == "eer":
        return {"validation": eers(ctx)}
    made: dict[str, dict[str, list[float]]] = {}
    for test in ctx.config.mixture.tests:
        for name, found in rows(ctx, test).items():
            if told := _of_row(ctx, test, found, quantity):
                made.setdefault(test, {})[name] = [AXES[quantity][1] * v for v in told]
    return made


def _of_row(ctx: Context, test: str, found: list[Condition], quantity: str) -> list[float]:
    wanted = ctx.config.mixture.tests[test].num_speakers
    if quantity == "si_sdr_i":
        # One speaker alone is separated from nobody.
        scores = results.scores(ctx, test, found) if wanted > 1 else []
        return list(numbers(column(scores, "si_sdr_i")).values())
    if quantity == "count_accuracy" and not estimates(ctx, found[0]):
        return []
    seeds: dict[str, list[float]] = {}
    for told in clusters_of(ctx, test, found):
        value = float(told["count"] == wanted) if quantity == "count_accuracy" else told.get(quantity)
        if value is not None:
            seeds.setdefault(told["id"], []).append(value)
    return [sum(v) / len(v) for v in seeds.values()]


def pictures(ctx: Context) -> list[Any]:
    """A figure of each quantity that the config asks for, where there are values of it."""
    from pse.scoring.plots import means
    from pse.scoring.report import Picture

    made = []
    for quantity in ctx.config.report.study:
        series = {test: systems for test, systems in values(ctx, quantity).items() if systems}
        if series:
            label = AXES[quantity][0]
            png = means(series, label, path=ctx.exp / "images" / f"study_{quantity}.png")
            made.append(Picture(png, f"Means of each system: {label}"))
    return made
