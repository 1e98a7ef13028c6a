"""Stage pack: every trained system as a directory that can be handed on and used by `pse enhance`."""

from __future__ import annotations

from typing import Any

from pse.io.jsonl import read_json
from pse.recipe.options import Context
from pse.recipe.personal import predictor
from pse.recipe.personal.layout import (
    System,
    conditions,
    finetuned,
    is_trained,
    model_keys,
    model_of,
    pretrained,
    runs,
    seed_of,
    trained,
)
from pse.recipe.stage import Task


def tasks(ctx: Context) -> list[Task]:
    """One task packs all systems: exp/<tag>/package/<system>."""
    systems = [s for s in (*pretrained(ctx), *finetuned(ctx)) if is_trained(ctx, s)]
    weights = [p for s in systems for p in trained(ctx, s)]
    scores = [ctx.exp / "scores_test" / r / "summary.json" for r in runs(ctx)]
    names = [s.name for s in systems]
    if ctx.config.snr_predictor.model:
        names.append("snr_predictor")
        weights += predictor.trained(ctx)
        scores.append(predictor.directory(ctx) / "accuracy.json")
    outputs = tuple(ctx.exp / "package" / name / "SHA256SUMS" for name in names)

    def run(config: Any) -> None:
        for system in systems:
            pack(ctx, config, system)
        if config.snr_predictor.model:
            pack_predictor(ctx, config)
        print(f"{len(names)} models packed in {ctx.exp / 'package'}", flush=True)
        closing(ctx)

    keys = ("snr_predictor.model", "seed", "num_seeds", "corpus.name", "sample_rate", "mixture.snr_db")
    reads = (*model_keys(ctx), *keys)
    return [Task("packages", "pack", reads, (*weights, *scores), outputs, ctx.exp, run, made_by="score")]


def pack(ctx: Context, config: Any, system: System) -> None:
    """Pack one system with its card."""
    from pse.inference.package import save_package
    from pse.recipe.personal.training import load_system

    model, mapping = load_system(ctx, system), model_of(ctx, system)[0]
    save_package(ctx.exp / "package" / system.name, model, mapping, card(ctx, config, system, model))


def pack_predictor(ctx: Context, config: Any) -> None:
    """Pack the SNR predictor, which `pse personalize` asks, with its card."""
    from pse.inference.package import save_package
    from pse.models.base import num_parameters
    from pse.recipe.reporting import command

    mapping = config.snr_predictor.model
    model, told = predictor.load_predictor(ctx, mapping), read_json(predictor.directory(ctx) / "accuracy.json")
    lines = [
        "# snr_predictor",
        "",
        f"How clean each frame of a recording is, in dB: {num_parameters(model):,} weights, {config.sample_rate} Hz.",
        "",
        f"Made by: corpus {config.corpus.name}; seed {config.seed}; `{command(ctx)}`",
        "",
        f"## Accuracy on {told['num_mixtures']} mixtures of unseen speakers and noises",
        "",
        f"- mean absolute error {told['mae_db']:.2f} ± {told['mae_ci95_db'] or 0.0:.2f} dB (95 % confidence over the "
        f"mixtures; a constant: {told['mae_of_the_mean_db']:.2f} dB)",
        f"- correlation {told['correlation']:.3f}",
        f"- above or below 0 dB right in {100 * told['gate_accuracy']:.1f} ± {100 * (told['gate_ci95'] or 0.0):.1f} % "
        f"of the frames (always the majority: {100 * told['gate_majority']:.1f} %)",
        "",
        "## Limits",
        "",
        "Trained on additive noise; the licence of the weights follows that of the recordings they were trained on.",
        "",
    ]
    save_package(ctx.exp / "package" / "snr_predictor", model, mapping, "\n".join(lines))


def closing(ctx: Context) -> None:
    """What a finished recipe leaves the user with: the table, the page, and the next command."""
    import shlex

    from pse.recipe.personal.results import best_first
    from pse.scoring.results_md import parse, result_lines

    table, page = ctx.exp / "RESULTS.md", ctx.exp / "report" / "index.html"
    if not table.is_file():
        return
    rows = parse(table.read_text(encoding="utf-8"))
    packed = {c: next(iter(next(iter(f.values())).values())) for c, f in conditions(ctx).items()}
    ours = [packed[c] for c in best_first(ctx, rows) if is_trained(ctx, packed[c])]
    print(f"\n{result_lines(rows)}\n")
    print(f"listen: {page.absolute()}   (open it in a browser)")
    print(f"table:  {table.absolute()}")
    if ours:
        model = shlex.quote(str((ctx.exp / "package" / ours[0].name).absolute()))
        command = f"source egs/librispeech_pse/path.sh && pse enhance your_recording.wav -o cleaned/ --model {model}"
        print(f"next:   {command}", flush=True)


def card(ctx: Context, config: Any, system: System, model: Any) -> str:
    """The model card: what it is, how it was made, how it scores, what it cannot do."""
    from pse.models.base import num_parameters
    from pse.recipe.reporting import command
    from pse.scoring.tables import read_scores, summarise

    rows = read_scores(ctx.exp / "scores_test" / system.run / "scores.tsv")
    rows = [r for r in rows if system.speaker in (None, r.speaker)]
    lines = [
        f"- {name}: {c['mean']:.2f} ± {c['ci95'] or 0.0:.2f} (95 % confidence, n = {c['n']}, failed {c['n_failed']})"
        for name, c in summarise(rows)["columns"].items()
        if c["mean"] is not None
    ]
    low, high = config.mixture.snr_db
    who = f"speaker {system.speaker}" if system.speaker else "any speaker (generalist)"
    few = f", then {system.clean_s:g} s of clean speech" if system.clean_s is not None else ""
    return "\n".join(
        [
            f"# {system.name}",
            "",
            f"Speech enhancement for {who}: {model_of(ctx, system)[0]['name']}, {num_parameters(model):,} parameters, "
            f"{config.sample_rate} Hz.",
            "",
            f"Made by: method {system.method}{few}; corpus {config.corpus.name}; seed {seed_of(ctx, system)}; "
            f"`{command(ctx)}`",
            "",
            "## Scores on its test mixtures (`_in` the mixture, `_out` enhanced, `_i` the improvement)",
            "",
            *lines,
            "",
            "## Limits",
            "",
            f"Trained and tested on additive noise at {low:g} to {high:g} dB; not on reverberation, clipping, or "
            "several speakers. The licence of the weights follows that of the recordings they were trained on.",
            "",
        ]
    )
