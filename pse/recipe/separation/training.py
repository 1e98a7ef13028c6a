"""What the training stages of this recipe share: checks of a config, samplers, one training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

from pse.config import bind
from pse.data.conditions import Conditions
from pse.errors import PseError
from pse.inference.package import packaged_config
from pse.recipe import fitting
from pse.recipe.options import Context
from pse.recipe.separation.data import LISTED
from pse.recipe.separation.layout import (
    DIGITS,
    MIXING,
    TRAIN,
    VALID,
    System,
    cache_files,
    directory,
    method_of,
    model_of,
    noise_files,
    noises,
    seed_of,
    segment_samples,
    stage_of,
    trained,
    training_of,
    trainings,
    valid_speech,
    voices,
)
from pse.recipe.stage import Task
from pse.registry import find

CHECK_SAMPLES = 4096


def check(config: Any) -> None:
    """Build and try every model and bind every objective of a config, so that a fault is told at once.

    Raises PseError: a model of another rate or without the output that its objective needs, an
    objective, option or baseline that there is not, a start that no stage trains.
    """
    for stage in ("pretrain", "finetune"):
        section = getattr(config, stage)
        for name, method in section.methods.items():
            _check_method(config, stage, name, method)
    if not config.pretrain.methods:
        fix = "name one, e.g. methods: {dc: {objective: {name: deep_clustering}}}"
        raise PseError("no method is given", "pretrain.methods", fix)
    twice = sorted(set(config.pretrain.methods) & set(config.finetune.methods))
    if twice:
        raise PseError(f"{twice[0]!r} is a method of pretrain too", "finetune.methods", "give it another name")


def _check_method(config: Any, stage: str, name: str, method: Any) -> None:
    place, section = f"{stage}.methods.{name}", getattr(config, stage)
    fitting.own_training(section.training, method.training, f"{stage}.training", f"{place}.training")
    if (method.start is None) == (stage == "finetune") and method.objective is not None:
        fix = "set start: to a method of pretrain" if stage == "finetune" else "move it to finetune.methods"
        raise PseError("a method of finetune has a start, one of pretrain has none", place, fix)
    if method.baseline is not None:
        from pse.recipe.separation.separators import bound_baseline

        bound_baseline(method.baseline, f"{place}.baseline")
        return
    if method.package is not None:
        _check_package(config, method.package, f"{place}.package")
        return
    known = config.pretrain.methods | config.finetune.methods
    _check_start(known, name, place)
    objective, options = fitting.split_objective(method.objective, place)
    plugin = find("objective", objective, place)
    if not hasattr(plugin, "check"):
        fix = "name one that does, e.g. deep_clustering"
        raise PseError(f"objective {objective!r} trains no separation", place, fix)
    bound = bind(plugin.Options, options, place)
    _check_lists(config, method, place)
    mapping = _model_of(known, method) or config.pretrain.model
    _check_model(config, mapping, place, plugin, bound, method)


def _check_lists(config: Any, method: Any, place: str) -> None:
    """Refuse fixed mixtures of WSJ0 that no published list describes. Raises PseError."""
    unlisted = [count for count in method.num_speakers if f"{TRAIN}{count}" not in LISTED]
    if config.corpus.name == "wsj0" and method.mixtures == "fixed" and unlisted:
        fix = "leave mixtures: fixed out, so that they are drawn, or set num_speakers: [2, 3]"
        raise PseError(f"there is no list of training mixtures of {unlisted[0]} speakers", f"{place}.mixtures", fix)


def _check_start(known: dict[str, Any], name: str, place: str) -> None:
    """Refuse a start that is no method, gives no weights, or starts in the end from this method. Raises PseError."""
    seen = [name]
    while (start := known[seen[-1]].start) is not None:
        if start not in known or known[start].baseline is not None or start in seen:
            others = ", ".join(n for n, m in known.items() if m.baseline is None and n not in seen)
            what = "is no trained method" if start not in seen else "would start from itself"
            raise PseError(f"{start!r} {what}", f"{place}.start", f"one of {others}")
        seen.append(start)


def _model_of(known: dict[str, Any], method: Any) -> dict[str, Any] | None:
    """The mapping of a method's model: its own, its package's, or that of what it starts from."""
    if method.package is not None:
        return packaged_config(method.package)
    return method.model or (_model_of(known, known[method.start]) if method.start else None)


def _check_package(config: Any, directory: Any, place: str) -> None:
    """Refuse a package that is no model of embeddings at the recipe's rate. Raises PseError."""
    from pse.inference.package import load_network

    model = load_network(directory)
    if not hasattr(model, "node_shape"):
        raise PseError("is no model of embeddings", place, "give one that stage pack made of an embedding net")
    if model.sample_rate != config.sample_rate:
        fix = "give another, or set sample_rate (--fs)"
        raise PseError(f"is a model for {model.sample_rate} Hz, the recipe runs at {config.sample_rate} Hz", place, fix)


def _check_model(config: Any, mapping: dict[str, Any], place: str, plugin: Any, options: Any, method: Any) -> None:
    import torch

    from pse.models.base import build

    if not mapping:
        raise PseError("has no model", place, "set pretrain.model, e.g. conf/models/blstm_2x300.yaml")
    # What is drawn here must not move the numbers of a training in the same process.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = build(mapping, f"{place}.model").eval()
        out = model(0.1 * torch.randn(1, CHECK_SAMPLES))
    if model.sample_rate != config.sample_rate:
        fix = f"set {place}.sample_rate={config.sample_rate} or sample_rate={model.sample_rate} (--fs)"
        raise PseError(f"is a model for {model.sample_rate} Hz, the recipe runs at {config.sample_rate} Hz", place, fix)
    plugin.check(out, options, method.num_speakers, place)
    if hasattr(plugin, "check_model"):
        plugin.check_model(model, options, place)


def labels(method: Any, stage: str) -> str:
    """What a training is told beside the mixtures: see `labels` of an objective."""
    name, options = fitting.split_objective(method.objective, stage)
    plugin = find("objective", name, stage)
    return plugin.labels(bind(plugin.Options, options, stage), method.num_speakers)


def training_task(ctx: Context, system: System) -> Task:
    """The task of one training."""
    method, stage, place = method_of(ctx, system), stage_of(ctx, system.method), directory(ctx, system)
    inputs = [*cache_files(ctx, "train", valid_speech(ctx)), ctx.dump / "mixtures" / VALID / "specs.jsonl"]
    inputs += [*noise_files(ctx, method.conditions, "noise_train"), *noise_files(ctx, method.conditions, "noise_valid")]
    if method.digits:
        inputs += cache_files(ctx, DIGITS)
    if method.mixtures == "fixed":
        inputs += [ctx.dump / "mixtures" / f"{TRAIN}{count}" / "specs.jsonl" for count in method.num_speakers]
    if method.start is not None:
        inputs += trained(ctx, System(method.start, system.seed))
    # All of the method but where and how it is tried: a test set more is no reason to train again.
    tried = ("tests", "clustering")
    decides = (f"{stage}.methods.{system.method}.{f.name}" for f in fields(method) if f.name not in tried)
    own = (f"{stage}.segment_s", f"{stage}.statistics", *decides)
    keys = dict.fromkeys(("seed", "sample_rate", *MIXING, *own, model_of(ctx, system)[1], *training_of(ctx, system)[1]))

    def run(config: Any) -> None:
        train_system(ctx, config, system)

    return Task(
        system.name, stage, tuple(keys), tuple(inputs), (place / "best.json",), ctx.exp, run,
        made_by="features" if method.start is None else stage_of(ctx, method.start), own_process=True, place=place,
        wave=_steps(ctx, system.method),
        facts={} if system.seed is None else {"seed of this training": system.seed},
    )


def _steps(ctx: Context, method: str) -> int:
    """How many trainings of the same stage have to end before this one can begin."""
    start = method_of(ctx, System(method)).start
    return 0 if start is None or stage_of(ctx, start) != stage_of(ctx, method) else 1 + _steps(ctx, start)


def tasks_of(ctx: Context, stage: str) -> list[Task]:
    """One training a system."""
    return [training_task(ctx, s) for s in trainings(ctx, stage)]


def train_system(ctx: Context, config: Any, system: System) -> None:
    """Train one system in its directory."""
    from pse.data.speech_mixture import SpeakerSampler

    method, stage = method_of(ctx, system), stage_of(ctx, system.method)
    if method.mixtures == "fixed":
        sampler = _of_fixed(ctx, system)
    else:
        sampler = SpeakerSampler(
            _heard(ctx, method), segment_samples(ctx, system), seed_of(ctx, system), stage, method.num_speakers,
            method.pairing, config.mixture.spread_db, speakers=method.speakers, conditions=method.conditions,
            noise=noises(ctx, method.conditions, "noise_train"),
        )  # fmt: skip
    valid = _valid(ctx, config, system)
    name, options = fitting.split_objective(method.objective, f"{stage}.methods.{system.method}")
    plugin = find("objective", name, stage)
    objective = plugin(sampler, valid, bind(plugin.Options, options, name))
    count = getattr(config, stage).statistics
    fitting.fit(
        directory(ctx, system), model_of(ctx, system), objective, training_of(ctx, system)[0],
        seed=seed_of(ctx, system), devices=ctx.devices, told=method.objective,
        start=None if method.start is None else directory(ctx, System(method.start, system.seed)),
        prepare=lambda net: _set_statistics(net, sampler, range(count)),
    )  # fmt: skip


def _heard(ctx: Context, method: Any) -> Any:
    """The speech that a method is trained on: the training speakers', digits too or at several speeds if it asks so."""
    spoken = voices(ctx, "train")
    if method.digits:
        from pse.data.speech import joined

        spoken = joined(spoken, voices(ctx, DIGITS))
    if method.speeds == [1.0]:
        return spoken
    from pse.data.speed import at_speeds

    return at_speeds(spoken, method.speeds)


def _of_fixed(ctx: Context, system: System) -> Any:
    """Segments of the fixed mixtures of all numbers of speakers that a method is trained on."""
    from pse.data.fixed import FixedMixtures
    from pse.data.segments import FixedSampler

    method, stage = method_of(ctx, system), stage_of(ctx, system.method)
    specs = [s for count in method.num_speakers for s in FixedMixtures(ctx.dump, f"{TRAIN}{count}").specs]
    return FixedSampler(voices(ctx, "train"), specs, segment_samples(ctx, system), seed_of(ctx, system), stage)


def _valid(ctx: Context, config: Any, system: System) -> Iterator[tuple[Any, Any]]:
    """Descriptions and scenes of what selects the best weights: the fixed set, or mixtures of the method's own kind."""
    from pse.data.fixed import FixedMixtures
    from pse.data.scene import render_scene
    from pse.data.speech_mixture import SpeakerSampler

    method, mixture = method_of(ctx, system), config.mixture
    if (method.pairing, method.num_speakers, method.speakers, method.conditions) == ("whole", [2], None, Conditions()):
        fixed = FixedMixtures(ctx.dump, VALID)
        yield from ((s, render_scene(s, fixed.sources)) for s in fixed.specs)
        return
    # Speakers that are named in training have other utterances among the closed ones.
    spoken = voices(ctx, valid_speech(ctx) if method.speakers is None else "closed")
    # One speaker is separated from nobody: where there are mixtures too, these tell how good a net is.
    counts = [c for c in method.num_speakers if c > 1] or method.num_speakers
    # The same draws for all methods of a kind: what is chosen by them is compared.
    sampler = SpeakerSampler(
        spoken, round(mixture.valid_duration_s * config.sample_rate), mixture.seed, f"{VALID}-own",
        counts, method.pairing, mixture.spread_db, whole=True, speakers=method.speakers,
        conditions=method.conditions, noise=noises(ctx, method.conditions, "noise_valid"),
    )  # fmt: skip
    yield from ((sampler.spec(i), sampler.scene(i)) for i in range(mixture.num_valid))


def _set_statistics(net: Any, sampler: Any, numbers: Iterable[int]) -> None:
    """Give a net mean and deviation of the log magnitudes of these training examples, if it takes them."""
    import torch

    from pse.models.base import measure_level

    numbers = list(numbers)
    if not numbers or not hasattr(net, "set_statistics"):
        return
    mixes = torch.stack([torch.from_numpy(sampler.scene(i).mix) for i in numbers])
    spectra = net.transform.stft(mixes / measure_level(mixes, net.normalize))
    values = net.log_magnitude(spectra).flatten(0, 1).double()
    net.set_statistics(values.mean(0).float(), values.std(0).float())
