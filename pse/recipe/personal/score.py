"""Stage score: every enhanced utterance, and the mixture it came from, against the clean speech."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pse.recipe.options import Context
from pse.recipe.personal.layout import cache_files, runs
from pse.recipe.stage import Task


def tasks(ctx: Context) -> list[Task]:
    """The mixtures themselves first, once; then one task a run."""
    test = (ctx.dump / "mixtures" / "test" / "specs.jsonl", *cache_files(ctx, "target_test", "noise_test"))
    before = ctx.exp / "scores_test" / "mixture.tsv"

    def score_input(config: Any) -> None:
        score_mixtures(ctx, config, before)

    made = [
        Task("mixture", "score", ("score",), test, (before,), ctx.exp, score_input, "features", own_process=True,
             brief=True)
    ]  # fmt: skip
    for run in runs(ctx):
        place = ctx.exp / "scores_test" / run
        inputs = (ctx.exp / "enhanced_test" / run / "wav.scp", before, *test)
        # The record of the enhancement changes with the models, also where the list of files does not.
        record = ctx.exp / ".done" / "enhance" / f"{run}.json"
        made.append(
            Task(run, "score", ("score",), (*inputs, record), (place / "scores.tsv", place / "summary.json"),
                 ctx.exp, _runner(ctx, run, place), made_by="enhance", wave=1, own_process=True, brief=True)
        )
    return made


def _runner(ctx: Context, run: str, place: Path) -> Any:
    def work(config: Any) -> None:
        score_run(ctx, config, run, place)

    return work


def score_mixtures(ctx: Context, config: Any, path: Path) -> None:
    """Scores of the unprocessed mixtures."""
    from pse.data.fixed import FixedMixtures
    from pse.scoring.metrics import score
    from pse.scoring.tables import ScoreRow, write_scores

    mixtures, rows = FixedMixtures(ctx.dump, "test"), []
    rate = mixtures.sources.speech.sample_rate
    for spec, mixture in mixtures.render():
        values = score(mixture.speech, mixture.mix, rate, config.score.metrics)
        rows.append(ScoreRow(spec.id, mixtures.speaker(spec), spec.snr_db, values, values))
        if len(rows) % 50 == 0:
            print(f"mixture: {len(rows)}/{len(mixtures.specs)}", flush=True)
    write_scores(path, rows)


def score_run(ctx: Context, config: Any, run: str, place: Path) -> None:
    """Scores of one run beside those of its mixtures: scores.tsv and summary.json."""
    from pse.data.fixed import FixedMixtures
    from pse.io import audio
    from pse.scoring.metrics import score
    from pse.scoring.tables import ScoreRow, read_scores, summarise, write_scores, write_summary

    mixtures, rows = FixedMixtures(ctx.dump, "test"), []
    rate = mixtures.sources.speech.sample_rate
    before = {r.id: r.before for r in read_scores(ctx.exp / "scores_test" / "mixture.tsv")}
    for spec, mixture in mixtures.render():
        estimate, _ = audio.read(ctx.exp / "enhanced_test" / run / "wav" / f"{spec.id}.wav", rate)
        after = score(mixture.speech, estimate, rate, config.score.metrics)
        rows.append(ScoreRow(spec.id, mixtures.speaker(spec), spec.snr_db, before[spec.id], after))
        if len(rows) % 50 == 0:
            print(f"{run}: {len(rows)}/{len(mixtures.specs)}", flush=True)
    write_scores(place / "scores.tsv", rows)
    write_summary(place / "summary.json", rows)
    gain = summarise(rows)["columns"].get("si_sdr_i")
    if gain and gain["mean"] is not None:
        print(f"{run}: SI-SDRi {gain['mean']:.2f} dB, n = {gain['n']}, failed {gain['n_failed']}", flush=True)
