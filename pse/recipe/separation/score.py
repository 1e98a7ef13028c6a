"""Stage score: every separated mixture, and the mixture itself, against the sources."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from pse.recipe.options import Context
from pse.recipe.separation.layout import Condition, applies, cache_files, conditions, noise_files, scored
from pse.recipe.separation.separate import place_of
from pse.recipe.stage import Task

MIXTURE = "mixture"


def tasks(ctx: Context) -> list[Task]:
    """The mixtures of every set themselves first, once; then one task a condition and set."""
    made = []
    for test in scored(ctx):
        wanted = ctx.config.mixture.tests[test]
        inputs = (ctx.dump / "mixtures" / test / "specs.jsonl", *cache_files(ctx, wanted.speech))
        inputs += noise_files(ctx, wanted.conditions, "noise_test")
        before = scores_of(ctx, test, MIXTURE)
        made.append(_task(ctx, f"{test}.{MIXTURE}", inputs, (before,), _input_scorer(ctx, test, before), "features", 0))
        for condition in (c for c in conditions(ctx) if applies(ctx, c, test)):
            place = scores_of(ctx, test, condition.name)
            record = ctx.exp / ".done" / "enhance" / f"{test}.{condition.name}.json"
            separated = (place_of(ctx, condition, test) / "spk1.scp", record, before, *inputs)
            outputs = (place, place.with_name("summary.json"))
            name, work = f"{test}.{condition.name}", _scorer(ctx, condition, test, place)
            made.append(_task(ctx, name, separated, outputs, work, "enhance", 1))
    return made


def scores_of(ctx: Context, test: str, condition: str) -> Path:
    """Where the scores of a condition on a set lie."""
    return ctx.exp / f"scores_{test}" / condition / "scores.tsv"


def _task(ctx: Context, name: str, inputs: Any, outputs: Any, run: Any, made_by: str, wave: int) -> Task:
    return Task(
        name, "score", ("score",), inputs, outputs, ctx.exp, run, made_by, wave=wave, own_process=True, brief=True
    )  # fmt: skip


def _input_scorer(ctx: Context, test: str, path: Path) -> Any:
    def work(config: Any) -> None:
        from pse.recipe.separation.mixtures import TestSet
        from pse.scoring.tables import write_scores

        rows, mixtures = [], TestSet(ctx, test)
        for spec, scene in mixtures.scenes():
            same = [scene.mix] * len(scene.sources)
            values = _mean_scores(scene.sources, same, mixtures.sample_rate, config.score.metrics)
            rows.append(_row(spec, mixtures.speakers(spec), values, values))
        write_scores(path, rows)

    return work


def _scorer(ctx: Context, condition: Condition, test: str, path: Path) -> Any:
    def work(config: Any) -> None:
        from pse.recipe.separation.mixtures import TestSet
        from pse.scoring.tables import read_scores, summarise, write_scores, write_summary

        before = {r.id: r.before for r in read_scores(scores_of(ctx, test, MIXTURE))}
        place, mixtures, rows = place_of(ctx, condition, test), TestSet(ctx, test), []
        for spec, scene in mixtures.scenes():
            wavs = assigned(scene.sources, separated(place, spec.id, mixtures.sample_rate), scene.mix)
            after = _mean_scores(scene.sources, wavs, mixtures.sample_rate, config.score.metrics)
            rows.append(_row(spec, mixtures.speakers(spec), before[spec.id], after))
            if len(rows) % 100 == 0:
                print(f"{condition.name} on {test}: {len(rows)} mixtures scored", flush=True)
        write_scores(path, rows)
        write_summary(path.with_name("summary.json"), rows)
        gain = summarise(rows)["columns"]["si_sdr_i"]
        if gain["mean"] is not None:
            told = f"SI-SDRi {gain['mean']:.2f} dB, n = {gain['n']}, failed {gain['n_failed']}"
            print(f"{condition.name} on {test}: {told}", flush=True)

    return work


def _row(spec: Any, speakers: list[str], before: Any, after: Any) -> Any:
    from pse.scoring.tables import ScoreRow

    return ScoreRow(spec.id, "+".join(speakers), None, before, after)


def separated(place: Path, name: str, rate: int) -> list[Any]:
    """The estimates of a mixture that a condition has made: those of speakers it has found."""
    from pse.io import audio

    paths = itertools.takewhile(Path.is_file, (place / "wav" / f"{name}_{n}.wav" for n in itertools.count(1)))
    return [audio.read(path, rate)[0] for path in paths]


def assigned(sources: Any, wavs: list[Any], mix: Any) -> list[Any]:
    """An estimate for each source: the best assignment by SI-SDR.

    Whoever was not found is left in the mixture, which is an improvement of nothing; who was found too much is nobody.
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    from pse.scoring.metrics import si_sdr

    cost = np.array([[-si_sdr(source, wav) for source in sources] for wav in wavs])
    which, whose = linear_sum_assignment(cost)
    found = {int(s): wavs[w] for w, s in zip(which, whose, strict=True)}
    return [found.get(s, mix) for s in range(len(sources))]


def _mean_scores(sources: Any, wavs: list[Any], rate: int, metrics: list[str]) -> dict[str, Any]:
    """Means over the sources; a score that failed for one of them has failed."""
    from pse.scoring.metrics import score
    from pse.scoring.tables import mean_scores

    return mean_scores([score(source, wav, rate, metrics) for source, wav in zip(sources, wavs, strict=True)])
