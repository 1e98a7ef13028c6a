"""The rows of RESULTS.md: every condition on every test set, by the speakers' sexes, and beside the paper's numbers."""

from __future__ import annotations

from typing import Any

from pse.data.cache import AudioCache
from pse.data.fixed import FixedMixtures
from pse.io.jsonl import read_json
from pse.recipe import reporting
from pse.recipe.environment import commit
from pse.recipe.options import Context
from pse.recipe.separation.layout import (
    DIGITS,
    NOISE_SETS,
    Condition,
    digits_heard,
    method_of,
    model_of,
    noise_heard,
    rows,
    scored,
    seed_of,
    speech_sets,
    trained,
    voices,
)
from pse.recipe.separation.score import MIXTURE, scores_of
from pse.scoring.results_md import Extra, Row, from_summary
from pse.scoring.statistics import mean_ci
from pse.scoring.tables import ScoreRow, average, column, numbers, read_scores, summarise

INPUT = "unprocessed mixture"
COLUMNS = ("si_sdr_in", "si_sdr_i", "sdr_in", "sdr_i", "pesq_out", "estoi_out")
# Columns of the paper's table of speakers' sexes, and what they are called there.
SEXES = {"MM": "m+m", "FF": "f+f", "FM": "f+m"}
ALL = "all"


def scores(ctx: Context, test: str, found: list[Condition]) -> list[ScoreRow]:
    """Per-mixture scores of a row: means over its seeds."""
    return average([read_scores(scores_of(ctx, test, c.name)) for c in found])


def result_rows(ctx: Context) -> tuple[list[Row], list[str]]:
    """One row a condition and test set, and notes on every score that failed."""
    made, notes = [], []
    for test in scored(ctx):
        title = title_of(ctx, test)
        for name, found in rows(ctx, test).items():
            row, said = _row(ctx, name, found, title, scores(ctx, test, found))
            made.append(row)
            notes += said
        before = summarise(read_scores(scores_of(ctx, test, MIXTURE)))
        row, said = from_summary(before, COLUMNS, tag=INPUT, start="", commit=commit(), test_set=title)
        made.append(row)
        notes += said
    return made, notes


def title_of(ctx: Context, test: str) -> str:
    """What a test set is called in the results."""
    wanted = ctx.config.mixture.tests[test]
    pairing = "" if wanted.pairing == "whole" else f", {wanted.pairing.replace('_', ' ')}"
    who = "speaker" if wanted.num_speakers == 1 else "speakers"
    about = f"{wanted.num_speakers} {wanted.speech} {who} of {ctx.config.corpus.name}{pairing}"
    return f"{test}: {about}{_conditions(wanted.conditions)}"


def _conditions(conditions: Any) -> str:
    """What is said of a set that is not as WSJ0-mix is."""
    told = {
        "overlapping by {0:g} to {1:g}": conditions.overlap,
        "noise at {0:g} to {1:g} dB": conditions.noise_snr_db,
        "rooms of {0:g} to {1:g} s": conditions.rt60_s,
    }
    made = [text.format(*limits) for text, limits in told.items() if limits is not None]
    if conditions.rt60_s is not None and conditions.reference == "direct":
        made.append("against the direct sound")
    return "".join(f", {m}" for m in made)


def _row(ctx: Context, name: str, found: list[Condition], title: str, scored: list[ScoreRow]) -> tuple[Row, list[str]]:
    system = found[0].system
    method = method_of(ctx, system)
    ours = method.objective is not None
    params, macs = reporting.size(model_of(ctx, system)[0]) if method.baseline is None else (None, None)
    return from_summary(
        summarise(scored), COLUMNS,
        tag=name,
        test_set=title,
        seeds=tuple(seed_of(ctx, c.system) for c in found) if ours else (),
        start=method.start or "",
        params=params,
        macs_per_s=macs,
        commit=str(read_json(trained(ctx, system)[-1]).get("commit", "")) if ours else commit(),
    )  # fmt: skip


def by_sexes(ctx: Context, test: str, metric: str) -> dict[str, dict[str, list[float]]]:
    """Row -> the speakers' sexes (and `all`) -> the improvement of each mixture in dB."""
    speech = ctx.config.mixture.tests[test].speech
    spoken = voices(ctx, speech)
    sexes = {s.id: spoken.sexes(s) for s in FixedMixtures(ctx.dump, test).specs}
    table: dict[str, dict[str, list[float]]] = {}
    for name, found in rows(ctx, test).items():
        gains = numbers(column(scores(ctx, test, found), f"{metric}_i"))
        cells: dict[str, list[float]] = {ALL: list(gains.values())}
        for i, gain in gains.items():
            cells.setdefault(sexes[i], []).append(gain)
        table[name] = cells
    return table


def sex_tables(ctx: Context, metric: str = "sdr") -> list[Extra]:
    """A table of every test set of two speakers: improvement by the speakers' sexes, as in the paper."""
    if metric not in ctx.config.score.metrics:
        metric = "si_sdr"
    label = {"sdr": "SDR", "si_sdr": "SI-SDR"}[metric]
    made = []
    for test, wanted in ctx.config.mixture.tests.items():
        if wanted.num_speakers == 2:
            table = by_sexes(ctx, test, metric)
            lines = [[name, *(_cell(cells.get(s, [])) for s in (*SEXES, ALL))] for name, cells in table.items()]
            heading = f"{label} improvement in dB by the speakers' sexes, {title_of(ctx, test)}"
            made.append(Extra(heading, ["system", *SEXES.values(), ALL], lines))
    return made


def _cell(gains: list[float]) -> str:
    found = mean_ci(gains)
    if found is None:
        return "-"
    half = "" if found.half_width is None else f" ± {found.half_width:.2f}"
    return f"{found.mean:.2f}{half} (n = {found.n})"


def paper_table(ctx: Context) -> list[Extra]:
    """The paper's numbers beside ours, where the config gives them; what was not run says why.

    Where the config has those of all pairs of sexes, a line below holds them against `all`: their mean,
    weighted by how many mixtures of each there are. Of the paper's that is so on the published lists
    alone, which have the sexes of its open set (1086, 394 and 1520 of 3000).
    """
    lines, told = [], ctx.config.report.paper if "sdr" in ctx.config.score.metrics else []
    known = {test: by_sexes(ctx, test, "sdr") for test in scored(ctx)} if told else {}
    papers: dict[tuple[str, str, str], dict[str, float]] = {}
    for cell in told:
        found = known.get(cell.test, {}).get(cell.condition)
        if cell.test not in known:
            ours = f"- (no set {cell.test})"
        elif found is None:
            ours = "- (not run)"
        else:
            ours = _cell(found[cell.sexes]) if cell.sexes in found else "- (no such mixtures)"
        about = (cell.table, cell.condition, cell.test)
        lines.append([*about, SEXES.get(cell.sexes, cell.sexes), f"{cell.sdr_i_db:.2f}", ours])
        paper = papers.setdefault(about, {})
        paper[cell.sexes] = cell.sdr_i_db
        if found and cell.sexes == ALL and {*SEXES, ALL} <= paper.keys():
            counts = {s: len(found.get(s, ())) for s in SEXES}
            as_published = ctx.config.corpus.name == "wsj0"
            means = {s: sum(found[s]) / n for s, n in counts.items() if n}
            here = f"{from_sexes(means, counts):.2f}" if means else "-"
            theirs = f"{from_sexes(paper, counts):.2f}" if means and as_published else "-"
            lines.append([*about, "all, from the three", theirs, here])
    headings = ["table", "system", "test set", "speakers", "paper, on WSJ0-2mix", f"here, on {ctx.config.corpus.name}"]
    return [Extra("SDR improvement in dB: the paper's (1508.04306) beside ours", headings, lines)] if lines else []


def from_sexes(means: dict[str, float], counts: dict[str, int]) -> float:
    """The mean of all mixtures out of `means` of each pair of sexes and the number of its mixtures, not all 0."""
    present = {s: n for s, n in counts.items() if n}
    return sum(means[s] * n for s, n in present.items()) / sum(present.values())


def notes_on_data(ctx: Context) -> list[str]:
    """What was trained and tested on."""
    parts = []
    others = [DIGITS] * digits_heard(ctx) + [*NOISE_SETS] * noise_heard(ctx)
    for name in (*speech_sets(ctx), *others):
        cache = AudioCache(ctx.dump / name)
        minutes = sum(cache.num_samples.values()) / cache.sample_rate / 60
        who = "" if name in NOISE_SETS else f"{len(set(cache.speaker.values()))} speakers "
        parts.append(f"{name} {who}{len(cache.ids)} utterances {minutes:.1f} min")
    told = [
        "recordings: " + ", ".join(parts),
        "scores: of more estimates than speakers these take the best; who was not found is scored by the mixture, 0 dB",
    ]
    for test, wanted in ctx.config.mixture.tests.items():
        specs = FixedMixtures(ctx.dump, test).specs
        spoken = voices(ctx, wanted.speech)
        who = {spoken.cache.speaker[s.utt] for spec in specs for s in spec.sources}
        utts = {s.utt for spec in specs for s in spec.sources}
        told.append(f"{test}: {len(specs)} mixtures of {len(who)} speakers and {len(utts)} utterances")
    return told


def best_first(ctx: Context, test: str) -> list[str]:
    """Rows by mean SI-SDR improvement, best first; what asks the sources comes last."""
    def rank(item: tuple[str, list[Condition]]) -> tuple[bool, float]:
        name, found = item
        method = method_of(ctx, found[0].system)
        way = found[0].clustering
        bound = (method.baseline or {}).get("name") == "oracle"
        bound = bound or (way is not None and ctx.config.separate.clustering[way].needs_sources)
        gain = summarise(scores(ctx, test, found))["columns"]["si_sdr_i"]["mean"]
        return bound, -(gain if gain is not None else -1e9)

    return [name for name, _ in sorted(rows(ctx, test).items(), key=rank)]
