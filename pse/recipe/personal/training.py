"""What the training stages of this recipe share: objectives from config, samplers, one training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pse.config import bind
from pse.data.mixture import Mixture, MixtureSampler, MixtureSpec, Sources
from pse.errors import PseError
from pse.recipe.options import Context
from pse.registry import find
from pse.training.config import TrainingConfig

# Frames of the losses and of the labels, and a signal long enough for a try: sixteen hops.
FRAME, HOP = 1024, 256
CHECK_SAMPLES = 16 * HOP


def split_objective(mapping: dict[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """(name, options) of an objective in a config."""
    if "name" not in mapping:
        raise PseError("the objective has no name", where, "write e.g. objective: {name: pseudo_se}")
    return mapping["name"], {k: v for k, v in mapping.items() if k != "name"}


def check(config: Any) -> None:
    """Build and try every model and bind every objective of a config, so that a fault is told at once.

    Raises PseError: a model of another rate or kind than its place asks for, an objective, option or
    loss that there is not, frame weights without the predictor that gives them.
    """
    _check_methods(config)
    _check_model(config, "pretrain.model", config.pretrain.model, "wavs")
    predictor = None
    if config.snr_predictor.model:
        predictor = _check_model(config, "snr_predictor.model", config.snr_predictor.model, "frame_snr_db")
    for name, method in config.pretrain.methods.items():
        options = _check_objective(method.objective, f"pretrain.methods.{name}")
        if getattr(options, "purification", "none") == "predictor":
            _check_purifier(predictor, f"pretrain.methods.{name}")
    options = _check_objective(config.finetune.objective, "finetune.objective")
    if getattr(options, "purification", "none") == "predictor":
        told = "fine-tuning has clean speech, and no SNR predictor weights it"
        raise PseError(told, "finetune.objective", "leave out purification: predictor")


def _check_methods(config: Any) -> None:
    """A part of a config may leave its methods to another part; what is to run cannot."""
    known = config.pretrain.methods
    if not known:
        fix = "name one, e.g. methods: {pseudo_se: {objective: {name: pseudo_se}}}"
        raise PseError("no method is given", "pretrain.methods", fix)
    for start in config.finetune.start:
        if start not in known:
            raise PseError(f"{start!r} is no pretraining method", "finetune.start", f"one of {', '.join(known)}")


def _check_model(config: Any, place: str, mapping: dict[str, Any], makes: str) -> Any:
    """The model, after a short forward; `makes` names what it has to put into its output."""
    import torch

    from pse.models.base import build

    # What is drawn here must not move the numbers of a training in the same process.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = build(mapping, place).eval()
        made = getattr(model(0.1 * torch.randn(1, CHECK_SAMPLES)), makes)
    if made is None:
        kind = "an enhancement model" if makes == "wavs" else "an SNR predictor"
        raise PseError(f"{mapping['name']} is not {kind}: it gives no {makes}", place, f"name {kind} there")
    if model.sample_rate != config.sample_rate:
        fix = f"set {place}.sample_rate={config.sample_rate} or sample_rate={model.sample_rate} (--fs)"
        raise PseError(f"is a model for {model.sample_rate} Hz, the recipe runs at {config.sample_rate} Hz", place, fix)
    if makes == "frame_snr_db" and made.shape[-1] != 1 + CHECK_SAMPLES // HOP:
        told = f"has another hop than the {HOP} samples of the labels"
        raise PseError(told, place, f"set n_fft: {FRAME} and hop: {HOP}")
    return model


def _check_objective(mapping: dict[str, Any], place: str) -> Any:
    """The bound options of an enhancement objective, whose loss there is."""
    from pse.losses.purification import loss

    name, options = split_objective(mapping, place)
    plugin = find("objective", name, place)
    # The recipe gives waveforms; an objective on anything else has no waveform loss among its options.
    if not all(hasattr(getattr(plugin, "Options", None), key) for key in ("loss", "domain", "preset")):
        raise PseError(f"objective {name!r} trains no enhancement", place, "name one that does, e.g. supervised")
    bound = bind(plugin.Options, options, place)
    loss(bound.loss, bound.domain, bound.preset, place)
    return bound


def _check_purifier(predictor: Any, place: str) -> None:
    """Frame weights have the frames of the losses."""
    if predictor is None:
        fix = "set e.g. snr_predictor.model=conf/models/snr_predictor_small.yaml, or purification: none"
        raise PseError("purification: predictor needs an SNR predictor, and snr_predictor.model is empty", place, fix)
    transform = getattr(predictor, "transform", None)
    if transform is not None and (transform.n_fft, transform.hop) != (FRAME, HOP):
        told = f"its frames (n_fft {transform.n_fft}, hop {transform.hop}) are not those of the weights in {place}"
        raise PseError(told, "snr_predictor.model", f"set n_fft: {FRAME} and hop: {HOP}")


def make_objective(
    mapping: dict[str, Any],
    where: str,
    sampler: MixtureSampler,
    valid: Iterable[tuple[MixtureSpec, Mixture]],
    predictor: Any = None,
) -> Any:
    """Build an enhancement objective from its config mapping; unknown names and options are refused."""
    name, options = split_objective(mapping, where)
    plugin = find("objective", name, where)
    return plugin(sampler, valid, bind(plugin.Options, options, where), predictor)


def make_sampler(
    config: Any, sources: Sources, ids: Sequence[str], stream: str, max_samples: int | None = None
) -> MixtureSampler:
    """Mixtures of the recipe's length and ranges; `max_samples` shortens them to what there is."""
    num_samples = round(config.mixture.duration_s * config.sample_rate)
    if max_samples is not None:
        num_samples = min(num_samples, max_samples)
    mixture = config.mixture
    return MixtureSampler(
        sources, ids, num_samples, config.seed, stream, mixture.snr_db, mixture.premixture_snr_db
    )


def fit(
    ctx: Context,
    config: Any,
    model_config: dict[str, Any],
    objective: Any,
    training: TrainingConfig,
    place: Path,
    loss: dict[str, Any],
    start_from: Path | None = None,
) -> None:
    """Build the model from the seed, or from the best weights of another training, and train it.

    `loss` is the config of the objective: with the model it tells one training from another.
    """
    import torch

    from pse.models.base import build
    from pse.training.checkpoint import load_best
    from pse.training.loop import train

    torch.manual_seed(config.seed)
    model = build(model_config, "pretrain.model")
    if start_from is not None:
        load_best(start_from, model)
    told = {"model": model_config, "objective": loss}
    train(model, objective, training, place, config.seed, ctx.devices, about=told)
