"""What every model is: mixture in, `Output` out, level-independent, built from a mapping."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from pse import registry
from pse.config import bind
from pse.errors import PseError

Normalize = Literal["rms", "peak", "none"]


@dataclass
class Output:
    """What a model makes of a mixture; a model fills what it makes.

    wavs: [B, S, T]; masks: [B, S, K, F]; embeddings: [B, K, F, D]; frame_snr_db: [B, F].
    """

    wavs: Tensor | None = None
    masks: Tensor | None = None
    embeddings: Tensor | None = None
    frame_snr_db: Tensor | None = None


class Streamer(Protocol):
    """A causal model's memory of one stream, of bounded size; `pse.Stream` is made on it."""

    def push(self, mix: Tensor) -> Tensor:
        """The output's next samples [B, S, T'] after mix: [B, T]; T and T' may be 0."""

    def flush(self) -> Tensor:
        """The rest [B, S, T'] when a signal of at least one sample has ended."""


def network_of(model: Any) -> Any:
    """The network of a `LoadedModel`; any other model is one."""
    return getattr(model, "network", model)


class Model(nn.Module, ABC):
    """A network on waveforms. A subclass writes `process`; `forward` takes care of the level.

    `normalize` divides each input by its RMS or peak and multiplies the estimates by it again, so
    that model(a x) = a model(x) for a > 0. The level is that of the whole signal given, zero
    padding included, which a causal model cannot know: `causal` is True only for `none`.

    A model that can be trained in a stack has `process_together(models, mixes)`: what `process` makes
    of one mix [B, T] for each of several models of one shape, without drawing random numbers.
    """

    process_together: Callable[[Sequence[Any], Sequence[Tensor]], list[Output]] | None = None

    def __init__(self, sample_rate: int, normalize: Normalize) -> None:
        super().__init__()
        require_positive(sample_rate=sample_rate)
        if normalize not in get_args(Normalize):
            raise ValueError(f"normalize must be one of {', '.join(get_args(Normalize))}, got {normalize!r}")
        self.sample_rate = sample_rate
        self.normalize = normalize

    def forward(self, mix: Tensor) -> Output:
        """Output for mix: [B, T], T >= 1. Raises PseError for other shapes."""
        if mix.dim() != 2 or mix.shape[1] < 1:
            raise PseError(f"a model takes [batch, samples], got {list(mix.shape)}", fix="add the batch axis")
        level = measure_level(mix, self.normalize)
        return _at_level(self.process(mix / level), level)

    @abstractmethod
    def process(self, mix: Tensor) -> Output:
        """Output for a level-normalised mix: [B, T]; wavs must be [B, S, T] of the same T."""

    @property
    @abstractmethod
    def causal(self) -> bool:
        """Whether no output depends on input later than the algorithmic latency."""

    def started_from(self) -> nn.Module:
        """The part that takes the weights of an earlier training: all of it, unless that was of a part."""
        return self

    def streamer(self) -> Streamer:
        """A fresh memory for one stream. Raises PseError from a model that has none."""
        raise PseError(f"{type(self).__name__} cannot stream", "stream", "give it a method `streamer`")

    @abstractmethod
    def receptive_field_samples(self) -> int | None:
        """Length of the input that the layers let one output sample see; None if unbounded.

        Statistics of normalisation and level, which span the signal or its past, do not count.
        """

    @abstractmethod
    def algorithmic_latency_samples(self) -> int | None:
        """Input samples, from its own on, that an output sample waits for; None = the whole signal."""


def forward_together(models: Sequence[Model], mixes: Sequence[Tensor]) -> list[Output]:
    """`forward` of several models of one shape, one mix [B, T] each, by their `process_together`."""
    levels = [measure_level(mix, model.normalize) for model, mix in zip(models, mixes, strict=True)]
    outputs = models[0].process_together(models, [mix / level for mix, level in zip(mixes, levels, strict=True)])
    return [_at_level(out, level) for out, level in zip(outputs, levels, strict=True)]


def _at_level(out: Output, level: Tensor) -> Output:
    return out if out.wavs is None else replace(out, wavs=out.wavs * level[:, None])


def measure_level(mix: Tensor, normalize: Normalize) -> Tensor:
    """Level [B, 1] of mix: [B, T] that `normalize` divides by: positive, and a constant for autograd."""
    if normalize == "none":
        return mix.new_ones(len(mix), 1)
    tiny = torch.finfo(mix.dtype).tiny
    with torch.no_grad():
        peak = mix.abs().amax(dim=1, keepdim=True).clamp_min(tiny)
        if normalize == "peak":
            return peak
        # Squares of the peak-normalised signal: those of a very quiet one would vanish in float32.
        return (peak * (mix / peak).square().mean(dim=1, keepdim=True).sqrt()).clamp_min(tiny)


def build(mapping: Mapping[str, Any], where: str | Path) -> Model:
    """Model of a mapping `{name: ..., **arguments}`. Raises PseError for unknown names, keys and values."""
    arguments = dict(mapping)
    name = arguments.pop("name", None)
    if name is None:
        raise PseError("key 'name' is missing", where, f"choose one of {', '.join(registry.names('model'))}")
    return bind(registry.find("model", name, str(where)), arguments, where)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights are; a peer's model has none and works on the processor."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def num_parameters(model: nn.Module) -> int:
    """Number of weights, frozen ones included."""
    return sum(p.numel() for p in model.parameters())


def require_positive(**sizes: int) -> None:
    """Raise ValueError naming the first size that is not a positive whole number."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a positive whole number, got {size!r}")
