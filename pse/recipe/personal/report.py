"""Stage report: RESULTS.md, and one page with results, recordings before and after, and curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pse.recipe import reporting
from pse.recipe.options import Context
from pse.recipe.personal import figures, predictor, results
from pse.recipe.personal.layout import conditions, model_keys, runs
from pse.recipe.stage import Task


def tasks(ctx: Context) -> list[Task]:
    """One task: exp/<tag>/RESULTS.md and exp/<tag>/report/index.html."""
    shown = [ctx.exp / "scores_test" / r / "scores.tsv" for r in runs(ctx)]
    if ctx.config.snr_predictor.model:
        shown.append(predictor.directory(ctx) / "accuracy.json")
    page, table = ctx.exp / "report" / "index.html", ctx.exp / "RESULTS.md"

    def run(config: Any) -> None:
        make_report(ctx, config, table, page)

    reads = ("report", *model_keys(ctx), "corpus.name", "seed", "num_seeds", "sample_rate", "snr_predictor.model")
    return [Task("report", "report", reads, tuple(shown), (table, page), ctx.exp, run, made_by="score")]


def make_report(ctx: Context, config: Any, table: Path, page: Path) -> None:
    """Write both files and print what to look at, and what to try next."""
    from pse.io.atomic import write_text
    from pse.recipe.environment import facts
    from pse.scoring import report, results_md

    rows, notes = results.rows(ctx, config)
    claims, about = results.claims(ctx, config), facts()
    name = rows[0].test_set
    command = reporting.command(ctx)
    header = about | {
        "title": f"Results of {ctx.tag}", "generated_by": "pse report", "claims": claims,
        "commands": {name: [command]}, "notes": {name: [*results.notes_on_data(ctx), *sorted(set(notes))]},
    }  # fmt: skip
    write_text(table, results_md.render(rows, header))
    order = results.best_first(ctx, rows)
    sections = [
        _highlights(rows, order), _table(rows), _gains(ctx, rows, order), _examples(ctx, config, order),
        *_predictor(ctx, config), reporting.learning_curves(ctx), *_claims(claims), _how(ctx, command, notes),
    ]  # fmt: skip
    subtitle = f"{name}; {about['machine']}; commit {about['commit']}; {about['date']}"
    report.write(page, "Personalised speech enhancement", sections, subtitle, "Made by pse, stage report.")
    print(f"{table}\n{page}", flush=True)


def _highlights(rows: list[Any], order: list[str]) -> Any:
    from pse.scoring.report import Highlights

    best = next(r for r in rows if r.tag == order[0])
    gain = best.values["si_sdr_i"]
    return Highlights(
        "In short",
        [
            ("best system", best.tag),
            ("its SI-SDR improvement", f"{gain.mean:.1f} dB" if gain else "-"),
            ("mixtures tested", f"{best.n}"),
            ("parameters", "not known" if best.params is None else f"{best.params:,}"),
        ],
    )


def _table(rows: list[Any]) -> Any:
    from pse.scoring.report import Table
    from pse.scoring.results_md import cells

    columns, lines = cells(rows)
    return Table("Results", columns, lines, "Means ± half-width of the 95 % confidence interval over the mixtures")


def _gains(ctx: Context, rows: list[Any], order: list[str]) -> Any:
    from pse.scoring.report import Figures

    return Figures("Gain of every system", [figures.boxes(ctx, order), *figures.make(ctx, rows)])


def _examples(ctx: Context, config: Any, order: list[str]) -> Any:
    from pse.data.fixed import FixedMixtures
    from pse.io import audio
    from pse.scoring.report import Example, Examples

    mixtures, best = FixedMixtures(ctx.dump, "test"), order[0]
    # Of several seeds the config's own is heard.
    run, systems = next(iter(conditions(ctx)[best].items()))
    scores = {r.id: r for r in results.scores_of_run(ctx, run)}
    made = []
    for speaker in list(systems)[: max(1, config.report.num_examples)]:
        share = max(1, config.report.num_examples // len(systems))
        for spec, mixture in mixtures.render(mixtures.of_speaker(speaker)[:share]):
            wav, rate = audio.read(ctx.exp / "enhanced_test" / run / "wav" / f"{spec.id}.wav")
            signals = {"noisy": mixture.mix, f"enhanced ({best})": wav, "clean": mixture.speech}
            title = f"Speaker {speaker}, {spec.id}, mixed at {spec.snr_db:.1f} dB"
            made.append(Example(title, rate, signals, scores[spec.id]))
    intro = "The first test mixtures of each speaker, not chosen: the noisy input, what the best system makes of it, "
    return Examples("Listen", made, intro + "and the clean speech it should have been.")


def _predictor(ctx: Context, config: Any) -> list[Any]:
    from pse.io.jsonl import read_json
    from pse.scoring.report import Figures, Picture

    place = predictor.directory(ctx)
    png = reporting.read_if_there(place / "images" / "frame_snr.png")
    if not config.snr_predictor.model or png is None:
        return []
    found = read_json(place / "accuracy.json")
    intro = (
        f"On {found['num_mixtures']} mixtures of unseen speakers and noises: mean absolute error "
        f"{found['mae_db']:.2f} dB, correlation {found['correlation']:.3f}, the 0 dB gate is right in "
        f"{100 * found['gate_accuracy']:.1f} % of the frames."
    )
    alt = "Waveform, true and predicted frame SNR, and the weights that follow from it"
    pictures = [Picture(png, alt)]
    if (shares := reporting.read_if_there(place / "images" / "usable.png")) is not None:
        told = ", ".join(
            f"{speaker} {100 * f['usable_share']:.0f} % of {f['minutes']:.1f} min"
            for speaker, f in read_json(place / "usable.json").items()
        )
        pictures.append(Picture(shares, "Share of frames above each frame SNR", f"Usable noisy speech: {told}."))
    return [Figures("The SNR predictor", pictures, intro)]


def _claims(claims: list[Any]) -> list[Any]:
    from pse.scoring.report import Table

    lines = [[c.claim, c.source, c.evidence, c.verdict] for c in claims]
    columns = ["claim", "source", "evidence here", "verdict"]
    return [Table("The papers' claims, beside ours", columns, lines)] if claims else []


def _how(ctx: Context, command: str, notes: list[str]) -> Any:
    from pse.scoring.report import Text

    return Text("How this was made", sorted(set(notes)), [command])
