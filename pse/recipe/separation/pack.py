"""Stage pack: every trained system as a directory that can be handed on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pse.recipe import reporting
from pse.recipe.options import Context
from pse.recipe.separation import count
from pse.recipe.separation.heard import heard_by
from pse.recipe.separation.layout import (
    System,
    conditions,
    directory,
    gives_embeddings,
    method_of,
    model_of,
    rows,
    scored,
    seed_of,
    systems,
    trained,
)
from pse.recipe.separation.score import scores_of
from pse.recipe.stage import Task


def tasks(ctx: Context) -> list[Task]:
    """One task packs all systems: exp/<tag>/package/<system>."""
    ours = [s for s in systems(ctx) if method_of(ctx, s).objective is not None]
    weights = [p for s in ours for p in trained(ctx, s)]
    scores = [scores_of(ctx, t, c.name) for t in scored(ctx) for f in rows(ctx, t).values() for c in f]
    outputs = tuple(ctx.exp / "package" / s.name / "SHA256SUMS" for s in ours)

    def run(config: Any) -> None:
        for system in ours:
            pack(ctx, config, system)
        print(f"{len(ours)} models packed in {ctx.exp / 'package'}", flush=True)
        closing(ctx)

    models = sorted({model_of(ctx, s)[1] for s in ours})
    reads = (*models, "seed", "num_seeds", "corpus.name", "sample_rate", "mixture.tests", "separate", "count")
    counts = [p for t in count.tasks(ctx) for p in t.outputs]
    return [Task("packages", "pack", reads, (*weights, *scores, *counts), outputs, ctx.exp, run, made_by="score")]


def pack(ctx: Context, config: Any, system: System) -> None:
    """Pack one system with its card."""
    from pse.inference.package import save_package
    from pse.recipe.fitting import load

    model = load(model_of(ctx, system), directory(ctx, system))
    save_package(
        ctx.exp / "package" / system.name, model, model_of(ctx, system)[0], card(ctx, config, system, model),
        counting=count.packed_with(ctx, system), heard=heard_by(ctx, system),
    )  # fmt: skip


def card(ctx: Context, config: Any, system: System, model: Any) -> str:
    """The model card: what it is, how it was made, how it scores, what it cannot do."""
    from pse.models.base import num_parameters

    lines = [line for test in scored(ctx) for line in _scored(ctx, system, test)]
    kind = "embeddings, to be clustered" if gives_embeddings(ctx, system) else "masks"
    size = f"{num_parameters(model):,} parameters, {config.sample_rate} Hz"
    made_by = f"corpus {config.corpus.name}; seed {seed_of(ctx, system)}; `{reporting.command(ctx)}`"
    parts = [
        f"# {system.name}",
        f"Speaker separation by {kind}: {model_of(ctx, system)[0]['name']}, {size}.",
        f"Made by: {made_by}",
        "## Scores (mean improvement and its 95 % confidence over the mixtures)",
        "\n".join(lines),
        "## Limits",
        "Trained and tested on clean speech of few speakers at once, without noise and reverberation. The licence of "
        "the weights follows that of the recordings they were trained on.",
    ]
    return "\n\n".join(parts) + "\n"


def _scored(ctx: Context, system: System, test: str) -> Iterator[str]:
    """A line for each way that a system separates a test set."""
    from pse.scoring.tables import read_scores, summarise

    for condition in (c for found in rows(ctx, test).values() for c in found if c.system == system):
        columns = summarise(read_scores(scores_of(ctx, test, condition.name)))["columns"]
        gains = {n.removesuffix("_i"): c for n, c in columns.items() if n.endswith("_i") and c["mean"] is not None}
        told = ", ".join(f"{n} {c['mean']:.2f} ± {c['ci95'] or 0.0:.2f}" for n, c in gains.items())
        yield f"- {condition.name} on {test}: {told} (n = {columns['si_sdr_i']['n']})"


def closing(ctx: Context) -> None:
    """What a finished recipe leaves the user with: the table and the page."""
    from pse.scoring.results_md import parse, result_lines

    table, page = ctx.exp / "RESULTS.md", ctx.exp / "report" / "index.html"
    if not table.is_file() or not conditions(ctx):
        return
    print(f"\n{result_lines(parse(table.read_text(encoding='utf-8')))}\n")
    print(f"listen: {page.absolute()}   (open it in a browser)")
    print(f"table:  {table.absolute()}", flush=True)
