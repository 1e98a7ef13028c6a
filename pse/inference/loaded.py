"""The Python API: a packaged model in memory, on arrays and tensors of any rate.

x is NumPy or torch, floating point in [-1, 1], on any device; what comes out is of the same kind, on the same device,
in float32. A loaded model has no state that a call changes: several threads may use it at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from pse.errors import EnvironmentFault, PseError
from pse.inference import builtin, engine, separation
from pse.inference.package import load_network
from pse.inference.recording import embedding_net
from pse.io.audio import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ
from pse.models.base import device_of

if TYPE_CHECKING:
    from pse.inference.streaming import Stream

Audio = np.ndarray | Tensor
TRIED_S = 0.1


class LoadedModel:
    """A packaged model that is ready to use.

    network: the torch module. name: the built-in one, or as it was asked for. card: the text of its card.
    num_sources: signals that the network gives by itself; 0 where it gives none. task: `enhance`, `separate`,
    `snr_predictor`, or `voice`.
    """

    def __init__(self, network: Any, name: str, card: str) -> None:
        self.network, self.name, self.card = network, name, card
        with torch.inference_mode():
            silence = torch.zeros(1, round(TRIED_S * network.sample_rate), device=device_of(network))
            out = embedding_net(network)(silence)
        self.num_sources = 0 if out.wavs is None else out.wavs.shape[1]
        self.task = "enhance" if self.num_sources == 1 else "separate" if self.num_sources else "snr_predictor"
        if out.embeddings is not None:
            # One vector a frame, and nothing that counts whose: that tells who speaks, and separates nobody.
            tells_who = out.embeddings.shape[1] == 1 and network.counting is None
            self.task = "voice" if tells_who else "separate"

    @property
    def sample_rate(self) -> int:
        """In Hz: what it works at inside. Audio of another rate is converted and converted back."""
        return self.network.sample_rate

    @property
    def causal(self) -> bool:
        """Whether it can stream."""
        return self.network.causal

    @property
    def latency_samples(self) -> int | None:
        """Samples at its rate that an output waits for, its own included; None: the whole signal."""
        return self.network.algorithmic_latency_samples()

    def enhance(self, x: Audio, *, sample_rate: int) -> Audio:
        """Enhance x: [T] or [C, T] at sample_rate Hz, each channel by itself; the same shape comes out.

        Of a model of several sources it is the first one. Raises PseError for whole numbers, NaN and infinity,
        other shapes, more than 64 channels, and a model that gives no sound.
        """
        self.need_sound()
        samples, as_given = _taken(x, sample_rate, "enhance")
        if samples.ndim == 2 and len(samples) > MAX_CHANNELS:
            what = f"{len(samples)} channels were given, {MAX_CHANNELS} at most are taken"
            raise PseError(what, "enhance", "transpose: [C, T] is needed, and soundfile gives [T, C]")
        return as_given(engine.enhance(self.network, samples, int(sample_rate)))

    def separate(self, x: Audio, *, sample_rate: int, num_speakers: int | Literal["auto"] | None = None) -> Audio:
        """The speakers [S, T] of x: [T] at sample_rate Hz; num_speakers None or auto: they are counted.

        Raises PseError for whole numbers, NaN and infinity, other shapes, fewer than two speakers, and a model that
        cannot give so many.
        """
        self.need_separation()
        samples, as_given = _taken(x, sample_rate, "separate")
        return as_given(separation.separate(self.network, samples, int(sample_rate), num_speakers).wavs)

    def need_sound(self) -> None:
        """Raise PseError for a model that gives no signals by itself."""
        if not self.num_sources:
            fix = "it separates: pse separate" if self.task == "separate" else "take a model that enhances: pse models"
            raise PseError("gives no sound by itself", self.name, fix)

    def need_separation(self) -> None:
        """Raise PseError for a model that separates nobody."""
        if self.task != "separate":
            raise PseError("separates nobody", self.name, "take a model that separates: pse models")

    def stream(self, sample_rate: int) -> Stream:
        """A fresh stream of audio at sample_rate Hz, which must be the model's; one stream belongs to one thread.

        Raises PseError for another rate, and a model that is not causal.
        """
        from pse.inference.streaming import Stream

        return Stream(self.network, sample_rate)


def load_model(model: str | Path, device: str | torch.device = "cpu") -> LoadedModel:
    """The model of a built-in name, a package directory, or `hf:owner/repo@commit` (extra `hub`) on a device.

    Raises PseError in one line when there is none, or its files are not those that were packed; EnvironmentFault for
    a device that is not there.
    """
    place = builtin.package(model)
    network = load_network(place)
    card = (place / "card.md").read_text(encoding="utf-8", errors="replace")
    try:
        network = network.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise EnvironmentFault(f"the device cannot be used ({reason})", str(device), "take device='cpu'") from error
    return LoadedModel(network, place.absolute().name if place == Path(model) else str(model), card)


def enhance(x: Audio, *, sample_rate: int, model: str | Path | LoadedModel | None = None) -> Audio:
    """`LoadedModel.enhance` with a model, or the name of one; None: the built-in one."""
    return _model(model, "enhance").enhance(x, sample_rate=sample_rate)


def separate(
    x: Audio, *, sample_rate: int, num_speakers: int | Literal["auto"] | None = None,
    model: str | Path | LoadedModel | None = None,
) -> Audio:
    """`LoadedModel.separate` with a model, or the name of one; None: the built-in one."""
    return _model(model, "separate").separate(x, sample_rate=sample_rate, num_speakers=num_speakers)


def _model(model: str | Path | LoadedModel | None, task: str) -> LoadedModel:
    if isinstance(model, LoadedModel):
        return model
    place = builtin.package(builtin.DEFAULTS[task] if model is None else model)
    return _kept(place) if place.parent == builtin.PLACE else load_model(model)


@lru_cache(maxsize=4)
def _kept(place: Path) -> LoadedModel:
    """A built-in model, which does not change, is loaded once."""
    return load_model(place)


def _taken(x: Audio, sample_rate: int, where: str) -> tuple[np.ndarray, Callable[[np.ndarray], Audio]]:
    """x as float32 on the processor, and a function that makes a result of its kind. Raises PseError."""
    if not isinstance(x, np.ndarray | Tensor):
        raise PseError(f"a {type(x).__name__} was given", where, "give a NumPy array or a torch tensor")
    if not (x.is_floating_point() if isinstance(x, Tensor) else x.dtype.kind == "f"):
        raise PseError(f"samples of type {x.dtype}", where, "divide 16-bit samples by 32768.0")
    whole = isinstance(sample_rate, int | np.integer) or (isinstance(sample_rate, float) and sample_rate.is_integer())
    if not whole or not MIN_RATE_HZ <= sample_rate <= MAX_RATE_HZ:
        raise PseError(f"a sample rate of {sample_rate!r} Hz", where, f"give {MIN_RATE_HZ} to {MAX_RATE_HZ}")
    of_torch = isinstance(x, Tensor)
    with np.errstate(over="ignore"):
        # Writeable, in the machine's order of bytes: torch takes no other. What overflows is refused as infinite.
        samples = np.require(x.detach().float().cpu().numpy() if of_torch else x, np.float32, ["C", "W"])
    return samples, (lambda out: torch.from_numpy(out).to(x.device)) if of_torch else (lambda out: out)
