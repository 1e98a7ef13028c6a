"""Stage score: every separated mixture, and the mixture itself, against the sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pse.recipe.options import Context
from pse.recipe.separation.layout import Condition, applies, cache_files, conditions
from pse.recipe.separation.separate import place_of
from pse.recipe.stage import Task

MIXTURE = "mixture"


def tasks(ctx: Context) -> list[Task]:
    """The mixtures of every set themselves first, once; then one task a condition and set."""
    made = []
    for test, wanted in ctx.config.mixture.tests.items():
        inputs = (ctx.dump / "mixtures" / test / "specs.jsonl", *cache_files(ctx, wanted.speech))
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
        from pse.scoring.tables import write_scores

        rows = []
        for spec, sources, speakers, rate in _mixtures(ctx, test):
            mix = sources.sum(0)
            values = _mean_scores(sources, [mix] * len(sources), rate, config.score.metrics)
            rows.append(_row(spec, speakers, values, values))
        write_scores(path, rows)

    return work


def _scorer(ctx: Context, condition: Condition, test: str, path: Path) -> Any:
    def work(config: Any) -> None:
        from pse.io import audio
        from pse.scoring.tables import read_scores, summarise, write_scores, write_summary

        before = {r.id: r.before for r in read_scores(scores_of(ctx, test, MIXTURE))}
        place, rows = place_of(ctx, condition, test), []
        for spec, sources, speakers, rate in _mixtures(ctx, test):
            wavs = [audio.read(place / "wav" / f"{spec.id}_{n + 1}.wav", rate)[0] for n in range(len(sources))]
            after = _mean_scores(sources, assigned(sources, wavs), rate, config.score.metrics)
            rows.append(_row(spec, speakers, before[spec.id], after))
            if len(rows) % 100 == 0:
                print(f"{condition.name} on {test}: {len(rows)} mixtures scored", flush=True)
        write_scores(path, rows)
        write_summary(path.with_name("summary.json"), rows)
        gain = summarise(rows)["columns"]["si_sdr_i"]
        if gain["mean"] is not None:
            told = f"SI-SDRi {gain['mean']:.2f} dB, n = {gain['n']}, failed {gain['n_failed']}"
            print(f"{condition.name} on {test}: {told}", flush=True)

    return work


def _mixtures(ctx: Context, test: str) -> Any:
    """(description, sources [S, T], speakers, rate) of every mixture of a set."""
    from pse.data.fixed import FixedMixtures
    from pse.data.speech_mixture import render_sources

    mixtures = FixedMixtures(ctx.dump, test)
    cache = mixtures.sources.speech
    for spec in mixtures.specs:
        yield spec, render_sources(spec, cache), [cache.speaker[s.utt] for s in spec.sources], cache.sample_rate


def _row(spec: Any, speakers: list[str], before: Any, after: Any) -> Any:
    from pse.scoring.tables import ScoreRow

    return ScoreRow(spec.id, "+".join(speakers), None, before, after)


def assigned(sources: Any, wavs: list[Any]) -> list[Any]:
    """Estimates in the order of the sources: the best assignment by SI-SDR."""
    import torch

    from pse.losses.pit import pit
    from pse.scoring.metrics import si_sdr

    cost = torch.tensor([[-si_sdr(source, wav) for source in sources] for wav in wavs])
    return [wavs[i] for i in pit(cost[None])[1][0].tolist()]


def _mean_scores(sources: Any, wavs: list[Any], rate: int, metrics: list[str]) -> dict[str, Any]:
    """Means over the sources; a score that failed for one of them has failed."""
    from pse.scoring.metrics import score
    from pse.scoring.tables import mean_scores

    return mean_scores([score(source, wav, rate, metrics) for source, wav in zip(sources, wavs, strict=True)])
