"""What the training stages of this recipe share: objectives from config, samplers, one training."""

from __future__ import annotations

import functools
import json
import statistics
import time
from collections.abc import Iterable, Sequence
from typing import Any

from pse.config import bind
from pse.data.mixture import Mixture, MixtureSampler, MixtureSpec, Sources
from pse.errors import PseError
from pse.recipe import fitting
from pse.recipe.fitting import split_objective
from pse.recipe.options import Context
from pse.recipe.personal.layout import System, is_trained, model_of, seed_of
from pse.registry import find
from pse.training.config import TrainingConfig

# Frames of the losses and of the labels, and a signal long enough for a try: sixteen hops.
FRAME, HOP = 1024, 256
CHECK_SAMPLES = 16 * HOP


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
    tried: list[dict[str, Any]] = []
    for name, method in config.pretrain.methods.items():
        place = f"pretrain.methods.{name}"
        if method.model is not None and method.model not in tried:
            tried.append(method.model)
            _check_model(config, f"{place}.model", method.model, "wavs")
        fitting.own_training(config.pretrain.training, method.training, "pretrain.training", f"{place}.training")
        if method.objective is None:
            continue
        options = _check_objective(method.objective, place)
        if getattr(options, "purification", "none") == "predictor":
            _check_purifier(predictor, place)
        _check_teacher(config, getattr(options, "teacher", None), place)
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
        if start not in known and start != "random":
            fix = f"one of random, {', '.join(known)}"
            raise PseError(f"{start!r} is no pretraining method", "finetune.start", fix)
        if start in known and known[start].objective is None:
            fix = "take it out of finetune.start"
            raise PseError(f"{start!r} is taken as it is, and cannot be trained", "finetune.start", fix)


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


def _check_teacher(config: Any, teacher: str | None, place: str) -> None:
    """The method that a student learns from is there, and learns from no other in turn."""
    if teacher is None:
        return
    known = config.pretrain.methods
    if teacher not in known:
        fix = f"name a method as its teacher: one of {', '.join(known)}"
        raise PseError(f"{teacher!r} is no pretraining method", f"{place}.objective.teacher", fix)
    if "teacher" in (known[teacher].objective or {}):
        raise PseError(f"{teacher!r} has a teacher itself", f"{place}.objective.teacher", "name one that has none")


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
    helper: Any = None,
) -> Any:
    """Build an enhancement objective from its config mapping; unknown names and options are refused."""
    name, options = split_objective(mapping, where)
    plugin = find("objective", name, where)
    return plugin(sampler, valid, bind(plugin.Options, options, where), helper)


def make_sampler(
    config: Any,
    sources: Sources,
    ids: Sequence[str],
    stream: str,
    seed: int,
    max_samples: int | None = None,
    premixture_snr_db: tuple[float, float] | None = None,
) -> MixtureSampler:
    """Mixtures of the recipe's length and ranges; `max_samples` shortens them to what there is."""
    num_samples = round(config.mixture.duration_s * config.sample_rate)
    if max_samples is not None:
        num_samples = min(num_samples, max_samples)
    mixture = config.mixture
    first = premixture_snr_db or mixture.premixture_snr_db
    return MixtureSampler(sources, ids, num_samples, seed, stream, mixture.snr_db, first)


def fit(
    ctx: Context,
    system: System,
    objective: Any,
    training: TrainingConfig,
    loss: dict[str, Any],
    start_from: System | None = None,
) -> None:
    """Build the model from the seed, or from the best weights of another training, and train it.

    `loss` is the config of the objective: with the model it tells one training from another.
    """
    fitting.fit(
        system.directory(ctx), model_of(ctx, system), objective, training, seed=seed_of(ctx, system),
        devices=ctx.devices, told=loss, start=start_from and start_from.directory(ctx),
    )  # fmt: skip


def load_system(ctx: Context, system: System) -> Any:
    """The model of a system with its best weights, or with those it came with, for inference."""
    return fitting.load(model_of(ctx, system), system.directory(ctx) if is_trained(ctx, system) else None)


def cost_s(ctx: Context, system: System, training: TrainingConfig) -> float:
    """Seconds that a training takes if it goes on to the last example, by a step measured here."""
    num_samples = round(ctx.config.mixture.duration_s * ctx.config.sample_rate)
    steps = training.max_examples / training.batch_size
    return steps * _step_s(json.dumps(model_of(ctx, system)[0]), training.batch_size, num_samples, ctx.ngpu > 0)


@functools.cache
def _step_s(mapping: str, batch_size: int, num_samples: int, on_gpu: bool) -> float:
    """Seconds of a step (median of three, after one to warm up) on noise, without drawing mixtures."""
    import torch

    from pse.losses.snr import neg_snr
    from pse.models.base import build

    device = torch.device("cuda" if on_gpu and torch.cuda.is_available() else "cpu")
    model = build(json.loads(mapping), "model").to(device)
    optimizer = torch.optim.Adam(p for p in model.parameters() if p.requires_grad)
    mix = 0.1 * torch.randn(batch_size, num_samples, device=device)
    times = []
    for _ in range(4):
        start = time.monotonic()
        optimizer.zero_grad()
        loss = neg_snr(model(mix).wavs[:, 0], 0.5 * mix).mean()
        loss.backward()
        optimizer.step()
        # The value is there when the device has done the step.
        loss.item()
        times.append(time.monotonic() - start)
    return statistics.median(times[1:])
