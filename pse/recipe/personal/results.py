"""The rows of RESULTS.md: every condition with its size, cost and scores, and the papers' claims."""

from __future__ import annotations

import statistics
from typing import Any

from pse.data.cache import AudioCache
from pse.data.mixture import read_specs
from pse.io.jsonl import read_json
from pse.recipe import reporting
from pse.recipe.environment import commit
from pse.recipe.options import Context
from pse.recipe.personal.layout import (
    NOISE_SETS,
    SPEECH_SETS,
    System,
    conditions,
    is_bound,
    model_of,
    runs,
    seed_of,
    trained,
)
from pse.scoring.results_md import Claim, Row, from_summary
from pse.scoring.statistics import clustered_difference
from pse.scoring.tables import ScoreRow, average, column, numbers, read_scores, summarise

INPUT = "noisy input"
# Between two conditions of a claim: their difference.
MINUS = " minus "


def scores_of(ctx: Context, condition: str) -> list[ScoreRow]:
    """Per-utterance scores of a condition: means over its seeds."""
    return average([scores_of_run(ctx, run) for run in conditions(ctx)[condition]])


def scores_of_run(ctx: Context, run: str) -> list[ScoreRow]:
    """Per-utterance scores of a condition with one seed."""
    return read_scores(ctx.exp / "scores_test" / run / "scores.tsv")


def rows(ctx: Context, config: Any) -> tuple[list[Row], list[str]]:
    """One row a condition, and notes on every score that failed."""
    test_set = f"{config.corpus.name}, {len(_speakers(ctx))} target speakers"
    made, notes = [], []
    for condition, found in conditions(ctx).items():
        system = next(iter(next(iter(found.values())).values()))
        params, macs_per_s = reporting.size(model_of(ctx, system)[0])
        row, said = from_summary(
            summarise(scores_of(ctx, condition)),
            tag=condition,
            test_set=test_set,
            seeds=tuple(seed_of(ctx, next(iter(s.values()))) for s in found.values()),
            start=system.method,
            clean_s=system.clean_s,
            params=params,
            commit=_trained_at(ctx, system),
            macs_per_s=macs_per_s,
        )
        made.append(row)
        notes += said
    notes += _spread(ctx)
    before = read_scores(ctx.exp / "scores_test" / "mixture.tsv")
    row, said = from_summary(summarise(before), tag=INPUT, start="", commit=commit(), test_set=test_set)
    changed = [r.tag for r in made if r.commit.endswith("+")]
    if changed:
        notes.append(f"trained from a source tree with changes that were not committed: {', '.join(changed)}")
    return [*made, row], [*notes, *said]


def _spread(ctx: Context) -> list[str]:
    """How far the means of the seeds lie apart, where there are several."""
    if ctx.config.num_seeds < 2:
        return []
    parts = []
    for condition, found in conditions(ctx).items():
        if len(found) > 1:
            gains = [summarise(scores_of_run(ctx, run))["columns"]["si_sdr_i"]["mean"] for run in found]
            parts.append(f"{condition} {statistics.stdev(gains):.2f}")
    return ["standard deviation over the seeds of the mean SI-SDRi in dB: " + ", ".join(parts)]


def _trained_at(ctx: Context, system: System) -> str:
    """The commit that a system was trained with, out of the record of its training."""
    if not trained(ctx, system):
        return commit()
    record = read_json(trained(ctx, system)[-1])
    return str(record.get("commit", ""))


def _speakers(ctx: Context) -> set[str]:
    return {s for systems in runs(ctx).values() for s in systems}


def claims(ctx: Context, config: Any) -> list[Claim]:
    """Each claim of the config with the paired difference measured here, and a verdict from its interval."""
    return [_judge(ctx, c) for c in config.report.claims]


def _gains(ctx: Context, term: str) -> dict[str, float]:
    """SI-SDRi in dB by mixture of a condition, or of `a minus b` where both have one."""
    first, *rest = (numbers(column(scores_of(ctx, c), "si_sdr_i")) for c in term.split(MINUS))
    return {i: gain - sum(r[i] for r in rest) for i, gain in first.items() if all(i in r for r in rest)}


def _judge(ctx: Context, claim: Any) -> Claim:
    missing = [c for t in (claim.higher, claim.lower) for c in t.split(MINUS) if c not in conditions(ctx)]
    if missing:
        return Claim(claim.claim, claim.source, f"{missing[0]} was not run", "not tested")
    # Mixtures of one utterance rise and fall together: the evidence is as many utterances as there are.
    utterance = {s.id: s.sources[0].utt for s in read_specs(ctx.dump / "mixtures" / "test" / "specs.jsonl")}
    found = clustered_difference(_gains(ctx, claim.lower), _gains(ctx, claim.higher), utterance)
    if found is None or found.half_width is None:
        return Claim(claim.claim, claim.source, "too few scores", "not tested")
    terms = (f"({t})" if MINUS in t else t for t in (claim.higher, claim.lower))
    evidence = (
        f"{MINUS.join(terms)}: {found.mean:+.2f} ± {found.half_width:.2f} dB SI-SDRi "
        f"(paired, over {found.n} test utterances, p = {found.p_value:.2g})"
    )
    verdict = "undecided" if abs(found.mean) <= found.half_width else ("holds" if found.mean > 0 else "does not hold")
    return Claim(claim.claim, claim.source, evidence, verdict)


def notes_on_data(ctx: Context) -> list[str]:
    """What was trained and tested on, and how the systems do for each speaker where these are few."""
    parts = []
    for name in (*SPEECH_SETS, *NOISE_SETS):
        cache = AudioCache(ctx.dump / name)
        minutes = sum(cache.num_samples.values()) / cache.sample_rate / 60
        who = f"{len(set(cache.speaker.values()))} speakers" if name in SPEECH_SETS else f"{len(cache.ids)} recordings"
        parts.append(f"{name} {who} {minutes:.1f} min")
    told = ["data: " + ", ".join(parts)]
    tested = AudioCache(ctx.dump / "target_test")
    told.append(
        f"the test mixtures are made of {len(tested.ids)} utterances: the intervals of the table, over mixtures, hold "
        "for these; the claims are tested over utterances"
    )
    speakers = sorted(_speakers(ctx))
    for speaker in speakers if 1 < len(speakers) <= 4 else ():
        gains = []
        for condition in conditions(ctx):
            rows_of = [r for r in scores_of(ctx, condition) if r.speaker == speaker]
            gain = summarise(rows_of)["columns"]["si_sdr_i"]["mean"] if rows_of else None
            gains.append(f"{condition} {'-' if gain is None else f'{gain:.2f}'}")
        told.append(f"mean SI-SDRi in dB for speaker {speaker}: " + ", ".join(gains))
    return told


def best_first(ctx: Context, rows_of: list[Row]) -> list[str]:
    """Conditions by mean SI-SDR improvement, best first; upper bounds come after what a user can have."""
    gains = {r.tag: r.values.get("si_sdr_i") for r in rows_of if r.tag in conditions(ctx)}
    return sorted(gains, key=lambda c: (is_bound(ctx, c), -(gains[c].mean if gains[c] else -1e9)))
