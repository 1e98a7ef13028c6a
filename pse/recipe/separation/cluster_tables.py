"""Tables of what clusters tell: how many speakers, how pure and modular they are; and which step was told what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pse.inference.package import heard_in
from pse.io.jsonl import read_json, read_jsonl
from pse.recipe.options import Context
from pse.recipe.separation import count
from pse.recipe.separation.layout import Condition, estimates, method_of, rows, trainings
from pse.recipe.separation.results import title_of
from pse.recipe.separation.separate import place_of
from pse.recipe.separation.training import labels
from pse.scoring.results_md import Extra

HEADINGS = ["system", "number right (%)", "NMI", "modularity", "conductance", "edges (%)", "isolated (%)", "n"]


def count_table(ctx: Context) -> list[Extra]:
    """How often each number of speakers was told, for each true one."""
    lines, most = [], ctx.config.count.max_count
    main = ctx.config.mixture.spread_db if ctx.config.count.spread_db is None else ctx.config.count.spread_db
    for task in count.tasks(ctx):
        for name, found in read_json(task.outputs[0]).items():
            own = f"{100 * found['by_its_own_rule']:.0f}"
            for spread, one in {f"{main:g}": found, **found["tried"]}.items():
                about = [task.name.removeprefix("count."), name, spread]
                for true, told in one["told"].items():
                    cells = [*told, *[0] * most][:most]
                    right = 100 * cells[int(true) - 1] / sum(told)
                    lines.append([*about, true, *map(str, [*cells, sum(told[most:])]), f"{right:.0f}", ""])
                every = f"{100 * one['accuracy']:.0f}", own if one is found else ""
                lines.append([*about, "all", *[""] * (most + 1), *every])
    told_as = (f"told {k}" for k in range(1, most + 1))
    headings = ["system", "by", "up to dB apart", "speakers", *told_as, "more", "right (%)", "without calibration (%)"]
    title = "Number of speakers, told from the embeddings of open speakers (calibrated on validation speech)"
    return [Extra(title, headings, lines), *_purity_table(ctx)] if lines else []


def _purity_table(ctx: Context) -> list[Extra]:
    """How often the number would be right, were the embeddings purer."""
    lines = [
        [task.name.removeprefix("count."), name, part, f"{one['nmi']:.2f}", f"{100 * one['accuracy']:.0f}",
         str(sum(map(sum, one["told"].values())))]
        for task in count.tasks(ctx)
        for name, found in read_json(task.outputs[0]).items()
        for part, one in found.get("purer", {}).items()
    ]  # fmt: skip
    headings = ["system", "by", "ideal part of the embeddings", "NMI of k-means, number given", "number right (%)", "n"]
    return [Extra("Number of speakers, were the embeddings purer", headings, lines)] if lines else []


def cluster_tables(ctx: Context) -> list[Extra]:
    """What is known of the clusters of each test set: how many were found, how pure and how modular they are."""
    made = []
    for test, wanted in ctx.config.mixture.tests.items():
        lines = []
        for name, found in rows(ctx, test).items():
            told = clusters_of(ctx, test, found)
            if told:
                right = [float(t["count"] == wanted.num_speakers) for t in told]
                share = f"{100 * sum(right) / len(right):.0f}" if estimates(ctx, found[0]) else "given"
                cells = [_mean([t[k] for t in told if k in t]) for k in ("nmi", "modularity", "conductance")]
                graph = [_mean([100 * t[k] for t in told if k in t]) for k in ("edge_share", "isolated_share")]
                lines.append([name, share, *cells, *graph, str(len(told))])
        if lines:
            made.append(Extra(f"Clusters, {title_of(ctx, test)}", HEADINGS, lines))
    return made


def clusters_of(ctx: Context, test: str, found: list[Condition]) -> list[dict[str, Any]]:
    """What is known of the clusters of each mixture of a row, of all its seeds."""
    paths = (place_of(ctx, c, test) / "clusters.jsonl" for c in found)
    return [line for path in paths if path.is_file() for line in read_jsonl(path)]


def _mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.3f}" if values else "-"


def _heard(package: Path) -> str:
    told = heard_in(package)
    if told is None:
        return "not told by the package"
    return ", ".join(f"{len(speakers)} speakers of {corpus}" for corpus, speakers in sorted(told.items()))


def ledger(ctx: Context) -> list[Extra]:
    """Which step is told what: labels of speakers, signals of sources, or nothing."""
    lines = []
    for stage in ("pretrain", "finetune"):
        packed = {n: m.package for n, m in getattr(ctx.config, stage).methods.items() if m.package is not None}
        lines += [[stage, n, f"see its card; heard: {_heard(p)}", "-", str(p)] for n, p in packed.items()]
        for system in (s for s in trainings(ctx, stage) if s.seed is None):
            method = method_of(ctx, system)
            judged = "speaker identity" if method.num_speakers == [1] else "source signals"
            lines.append([stage, system.method, labels(method, stage), judged, method.start or "-"])
    for task in count.tasks(ctx):
        chosen = any(f["calibration"] is not None for f in read_json(task.outputs[0]).values())
        told = "the number of speakers of validation mixtures" if chosen else "none"
        lines.append(["enhance", f"calibration of that number, {task.name.removeprefix('count.')}", told, "-", "-"])
    for name, how in ctx.config.separate.clustering.items():
        told = "none" if how.count == "estimated" else "the number of speakers"
        lines.append(["enhance", f"clustering {name}", "source signals" if how.needs_sources else told, "-", "-"])
    headings = ["stage", "step", "labels", "best weights chosen by (validation)", "starts from"]
    return [Extra("Supervision: what each step is told", headings, lines)]
