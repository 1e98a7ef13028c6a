"""Stage snr_predictor: train the frame-SNR regressor and measure it on unseen speakers and noises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pse.errors import StageMissingError
from pse.recipe.options import Context
from pse.recipe.personal import usable
from pse.recipe.personal.layout import cache_files
from pse.recipe.stage import Task

HOP_SAMPLES = 256

def directory(ctx: Context) -> Path:
    """Where this experiment evaluates the predictor, and trains it unless another one has."""
    return ctx.exp / "snr_predictor"


def trained(ctx: Context) -> tuple[Path, ...]:
    """What stands for its weights: which checkpoint is best, and that training has ended.

    Raises StageMissingError when another experiment was to have trained it and has not.
    """
    other = ctx.config.snr_predictor.trained_in
    exp = ctx.exp.parent / other if other else ctx.exp
    files = (exp / "snr_predictor" / "best.json", exp / ".done" / "snr_predictor" / "train.json")
    if other and not all(path.is_file() for path in files):
        fix = f"run stage snr_predictor of experiment {other} first, or set snr_predictor.trained_in=null"
        raise StageMissingError("no trained SNR predictor", files[0].parent, fix)
    return files


def tasks(ctx: Context) -> list[Task]:
    """Train, then evaluate; nothing when the config has no predictor."""
    if not ctx.config.snr_predictor.model:
        return []
    place = directory(ctx)
    caches = cache_files(ctx, "train", "premix_train", "valid", "premix_valid")
    inputs = (*caches, ctx.dump / "mixtures" / "snr_valid" / "specs.jsonl")

    def train(config: Any) -> None:
        train_predictor(ctx, config, place)

    def evaluate(config: Any) -> None:
        evaluate_predictor(ctx, config, place)

    def look(config: Any) -> None:
        usable.report(ctx, config, load_predictor(ctx, config.snr_predictor.model), place)

    reads = ("seed", "sample_rate", "mixture.duration_s", "snr_predictor")
    weights, labels = trained(ctx), ctx.dump / "mixtures" / "snr_valid" / "frame_snr.scp"
    training = Task("train", "snr_predictor", reads, inputs, weights[:1], ctx.exp, train, "features", place=place)
    return [
        *([] if ctx.config.snr_predictor.trained_in else [training]),
        Task(
            "evaluate", "snr_predictor", ("snr_predictor",), (*weights, labels),
            (place / "accuracy.json", place / "images" / "frame_snr.png"), ctx.exp, evaluate, "snr_predictor", wave=1,
        ),
        Task(
            "usable", "snr_predictor", ("snr_predictor.model", "sample_rate", *usable.READS),
            (*weights, *usable.inputs(ctx)),
            (place / "usable.json", place / "images" / "usable.png"), ctx.exp, look, "features", wave=1,
        ),
    ]


def train_predictor(ctx: Context, config: Any, place: Path) -> None:
    """Train on the generalist's speakers with premixture noise; validate on unseen ones."""
    from pse.data.fixed import FixedMixtures, open_sources
    from pse.data.mixture import MixtureSampler
    from pse.models.base import build
    from pse.training.loop import train
    from pse.training.objectives.snr_regression import Options, SnrRegression

    settings = config.snr_predictor
    sources = open_sources(ctx.dump, {"speech": "train", "premixture_noise": "premix_train"})
    sampler = MixtureSampler(
        sources, sources.speech.ids, round(config.mixture.duration_s * config.sample_rate), config.seed,
        "snr_predictor", None, settings.snr_db,
    )
    import torch

    torch.manual_seed(config.seed)
    model = build(settings.model, "snr_predictor.model")
    valid = FixedMixtures(ctx.dump, "snr_valid").render()
    objective = SnrRegression(sampler, valid, Options(clamp_db=settings.clamp_db))
    train(model, objective, settings.training, place, config.seed, ctx.devices, about={"model": settings.model})


def load_predictor(ctx: Context, model_config: dict[str, Any]) -> Any:
    """The trained predictor, frozen."""
    from pse.models.base import build
    from pse.training.checkpoint import load_best

    model = build(model_config, "snr_predictor.model")
    load_best(trained(ctx)[0].parent, model)
    return model.eval().requires_grad_(False)


def evaluate_predictor(ctx: Context, config: Any, place: Path) -> None:
    """Mean absolute error, correlation and accuracy of the 0 dB gate, and the figure of one mixture."""
    import numpy as np
    import torch

    from pse.data.fixed import FixedMixtures
    from pse.io.ark import Archive
    from pse.io.jsonl import write_json
    from pse.losses.purification import SLOPES, snr_to_weight
    from pse.scoring.plots import snr_track
    from pse.scoring.statistics import mean_ci

    model, clamp_db = load_predictor(ctx, config.snr_predictor.model), config.snr_predictor.clamp_db
    truths, guesses, shown = [], [], None
    mixtures = FixedMixtures(ctx.dump, "snr_valid")
    labels = Archive(mixtures.directory / "frame_snr.scp")
    with torch.inference_mode():
        for spec, mixture in mixtures.render():
            truths.append(np.clip(labels[spec.id], -(clamp_db or np.inf), clamp_db or np.inf))
            guesses.append(model(torch.from_numpy(mixture.premixture)[None]).frame_snr_db[0].numpy())
            shown = shown or mixture
    # All are of one length: the mean over them is that over all frames.
    pairs = list(zip(truths, guesses, strict=True))
    error_db = mean_ci([np.abs(t - g).mean() for t, g in pairs])
    gate = mean_ci([((t > 0) == (g > 0)).mean() for t, g in pairs])
    truth, guess = np.concatenate(truths), np.concatenate(guesses)
    accuracy = {
        "mae_db": error_db.mean,
        "mae_ci95_db": error_db.half_width,
        "mae_of_the_mean_db": float(np.abs(truth - truth.mean()).mean()),
        "correlation": float(np.corrcoef(truth, guess)[0, 1]),
        "gate_accuracy": gate.mean,
        "gate_ci95": gate.half_width,
        "gate_majority": float(max((truth > 0).mean(), (truth <= 0).mean())),
        "num_mixtures": len(truths),
        "num_frames": len(truth),
    }
    write_json(place / "accuracy.json", accuracy)
    guess_db = torch.from_numpy(guesses[0])
    weights = {f"of the {what}": snr_to_weight(guess_db, SLOPES[what]).numpy() for what in ("target", "loss")}
    snr_track(
        shown.premixture, mixtures.sources.speech.sample_rate, guesses[0], weights, HOP_SAMPLES, truths[0],
        "A mixture of an unseen speaker and an unseen noise", path=place / "images" / "frame_snr.png",
    )
    print(
        f"frame SNR on {len(truths)} mixtures of unseen speakers and noises: mean absolute error "
        f"{accuracy['mae_db']:.2f} dB (a constant: {accuracy['mae_of_the_mean_db']:.2f}), correlation "
        f"{accuracy['correlation']:.3f}, 0 dB gate right in {100 * accuracy['gate_accuracy']:.1f} % "
        f"(always the majority: {100 * accuracy['gate_majority']:.1f} %)",
        flush=True,
    )

