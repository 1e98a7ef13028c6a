"""Stage report: RESULTS.md, and one page with results, mixtures before and after, and curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pse.recipe import reporting
from pse.recipe.options import Context
from pse.recipe.separation import cluster_tables, count, figures, prosody, results, study
from pse.recipe.separation.layout import conditions, model_of, rows, scored
from pse.recipe.separation.score import scores_of
from pse.recipe.separation.separate import place_of
from pse.recipe.stage import Task


def tasks(ctx: Context) -> list[Task]:
    """exp/<tag>/RESULTS.md and exp/<tag>/report/index.html; before them the study of prosody, where it is asked for."""
    shown = [scores_of(ctx, t, c.name) for t in scored(ctx) for found in rows(ctx, t).values() for c in found]
    page, table = ctx.exp / "report" / "index.html", ctx.exp / "RESULTS.md"

    def run(config: Any) -> None:
        make_report(ctx, config, table, page)

    models = sorted({model_of(ctx, c.system)[1] for c in conditions(ctx)})
    studies = prosody.tasks(ctx)
    shown += [p for t in (*count.tasks(ctx), *studies) for p in t.outputs]
    shared = ("corpus.name", "seed", "num_seeds", "sample_rate", "mixture.tests", "score.metrics")
    reads = ("report", "count", "prosody", *models, *shared)
    if not scored(ctx):
        # An encoder of voices separates nobody: its tests are of one speaker.
        return studies
    made = Task("report", "report", reads, tuple(shown), (table, page), ctx.exp, run, made_by="score", wave=1)
    return [*studies, made]


def make_report(ctx: Context, config: Any, table: Path, page: Path) -> None:
    """Write both files and print where they are."""
    from pse.io.atomic import write_text
    from pse.recipe.environment import facts
    from pse.scoring import report, results_md

    found, notes = results.result_rows(ctx)
    extras = [
        *results.sex_tables(ctx), *results.paper_table(ctx), *cluster_tables.count_table(ctx),
        *cluster_tables.cluster_tables(ctx), *study.eer_table(ctx), *cluster_tables.ledger(ctx), *prosody.tables(ctx),
    ]  # fmt: skip
    about, command = facts(), reporting.command(ctx)
    first, last = found[0].test_set, found[-1].test_set
    header = about | {
        "title": f"Results of {ctx.tag}", "generated_by": "pse report", "commands": {last: [command]},
        "notes": {first: sorted(set(notes)), last: results.notes_on_data(ctx)}, "extras": extras,
    }  # fmt: skip
    write_text(table, results_md.render(found, header))
    order = {test: names for test in scored(ctx) if (names := results.best_first(ctx, test))}
    sections = [
        *(_table(found, title) for title in dict.fromkeys(r.test_set for r in found)),
        *(report.Table(e.heading, e.headings, e.rows) for e in extras),
        report.Figures("What is compared", study.pictures(ctx), "Means with their 95 % confidence intervals"),
        *(_boxes(ctx, test, names) for test, names in order.items()),
        *(_embeddings(ctx, test, names) for test, names in order.items()),
        *(_examples(ctx, config, test, names) for test, names in order.items()),
        report.Figures("Quality against training time", figures.by_time(ctx)),
        report.Figures("How steady a voice is", prosody.pictures(ctx), prosody.ABOUT),
        reporting.learning_curves(ctx),
        report.Text("How this was made", [*sorted(set(notes)), *results.notes_on_data(ctx)], [command]),
    ]
    # A config without trained networks has no picture of any.
    sections = [s for s in sections if not isinstance(s, report.Figures) or s.pictures]
    subtitle = f"{config.corpus.name}; {about['machine']}; commit {about['commit']}; {about['date']}"
    report.write(page, "Speaker separation", sections, subtitle, "Made by pse, stage report.")
    print(f"{table}\n{page}", flush=True)


def _table(found: list[Any], title: str) -> Any:
    from pse.scoring.report import Table
    from pse.scoring.results_md import cells

    columns, lines = cells([r for r in found if r.test_set == title])
    return Table(title, columns, lines, "Means ± half-width of the 95 % confidence interval over the mixtures")


def _boxes(ctx: Context, test: str, order: list[str]) -> Any:
    from pse.scoring.plots import gains
    from pse.scoring.report import Figures, Picture
    from pse.scoring.tables import column, numbers

    found = rows(ctx, test)
    values = {n: list(numbers(column(results.scores(ctx, test, found[n]), "si_sdr_i")).values()) for n in order}
    png = gains({n: v for n, v in values.items() if v}, path=ctx.exp / "images" / f"gains_{test}.png")
    return Figures(f"Gain on {test}", [Picture(png, f"Box plots of the SI-SDR improvement on {test}")])


def _embeddings(ctx: Context, test: str, order: list[str]) -> Any:
    from pse.scoring.report import Figures

    intro = "Bins that lie together in the space of embeddings have one colour; bins too quiet to count are white."
    return Figures(f"Embeddings: {test}", figures.embeddings(ctx, test, order), intro)


def _examples(ctx: Context, config: Any, test: str, order: list[str]) -> Any:
    """The best, the worst and middling mixtures of the best system."""
    from pse.scoring.report import Examples
    from pse.scoring.tables import column, numbers

    condition = rows(ctx, test)[order[0]][0]
    scored = {r.id: r for r in results.scores(ctx, test, [condition])}
    ranked = sorted(gains := numbers(column(scored.values(), "si_sdr_i")), key=gains.__getitem__, reverse=True)
    count = min(config.report.num_examples, len(ranked))
    places = [round(i * (len(ranked) - 1) / max(1, count - 1)) for i in range(count)]
    made = [_example(ctx, test, condition, scored[ranked[p]], f"{p + 1} of {len(ranked)}") for p in places]
    intro = f"What {condition.row} makes of mixtures of {test}, from the best to the worst by SI-SDR improvement."
    return Examples(f"Listen: {test}", made, intro)


def _example(ctx: Context, test: str, condition: Any, row: Any, rank: str) -> Any:
    from pse.recipe.separation.mixtures import TestSet
    from pse.recipe.separation.score import assigned, separated
    from pse.scoring.report import Example

    mixtures = TestSet(ctx, test)
    spec = next(s for s in mixtures.specs if s.id == row.id)
    scene, rate = mixtures.scene(spec), mixtures.sample_rate
    sources = scene.sources
    wavs = assigned(sources, separated(place_of(ctx, condition, test), spec.id, rate), scene.mix)
    signals = {"mixture": scene.mix}
    for n, (source, estimate) in enumerate(zip(sources, wavs, strict=True), 1):
        signals |= {f"speaker {n}, separated": estimate, f"speaker {n}": source}
    pictures = [figures.masks(wavs, sources, scene.mix, rate, f"what each speaker has of {spec.id}")]
    return Example(f"{spec.id}, speakers {row.speaker} ({rank})", rate, signals, row, below=pictures)
