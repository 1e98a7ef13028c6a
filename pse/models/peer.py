"""Noise suppressors of other projects as models: no weights of ours, nothing is trained or adapted.

What they are, what they reach and what else was tried stands in docs/peers.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pse.errors import EnvironmentFault, PseError
from pse.io.audio import resample
from pse.models.base import Model, Output

# Suppressors that compute with 16 bits get the peak here: resampling and their filters may overshoot it.
PEAK = 0.5
FULL_SCALE = 32767.0

Suppress = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Suppressor:
    """A package, and how to call it.

    `load` imports the package and gives a function of [T] float32 at `rate_hz` that returns at least
    T samples, late by `delay_samples`. The delay was measured with the version in `requirement`.
    """

    requirement: str
    rate_hz: int
    delay_samples: int
    load: Callable[[], Suppress]


def _frames(samples: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Frames [size] of 16 bits of [T], the last one padded with zeros."""
    whole = np.pad(samples, (0, -len(samples) % size))
    yield from (whole * FULL_SCALE).round().astype(np.int16).reshape(-1, size)


def _rnnoise() -> Suppress:
    from pyrnnoise import rnnoise

    def suppress(samples: np.ndarray) -> np.ndarray:
        # A state for each signal: the model can be copied, and no recording hears the one before it.
        state = rnnoise.create()
        try:
            parts = [rnnoise.process_mono_frame(state, f)[0] for f in _frames(samples, rnnoise.FRAME_SIZE)]
        finally:
            rnnoise.destroy(state)
        return np.concatenate(parts) / np.float32(FULL_SCALE)

    return suppress


def _speexdsp() -> Suppress:
    from speexdsp_ns import NoiseSuppression

    def suppress(samples: np.ndarray) -> np.ndarray:
        state = NoiseSuppression.create(SPEEX_FRAME, SPEEX_RATE_HZ)
        parts = [state.process(f.tobytes()) for f in _frames(samples, SPEEX_FRAME)]
        return np.frombuffer(b"".join(parts), np.int16) / np.float32(FULL_SCALE)

    return suppress


def _noisereduce() -> Suppress:
    from noisereduce import reduce_noise

    return lambda samples: reduce_noise(samples, NOISEREDUCE_RATE_HZ)


# 20 ms, the most that Speex advises; it answers one frame later.
SPEEX_FRAME, SPEEX_RATE_HZ = 320, 16000
NOISEREDUCE_RATE_HZ = 16000
PEERS = {
    "rnnoise": Suppressor("pyrnnoise==0.4.5", 48000, 960, _rnnoise),
    "speexdsp": Suppressor("speexdsp-ns==0.1.2", SPEEX_RATE_HZ, SPEEX_FRAME, _speexdsp),
    "noisereduce": Suppressor("noisereduce==3.0.3", NOISEREDUCE_RATE_HZ, 0, _noisereduce),
}


class Peer(Model):
    """A noise suppressor of another project; one source, as late as its input.

    The signal is brought to the package's rate and back, at a fixed peak, and the package's delay is
    cut off. Raises EnvironmentFault where the package is missing, PseError when it is to be trained.
    """

    causal = False

    def __init__(self, package: Literal["rnnoise", "speexdsp", "noisereduce"], sample_rate: int = 16000) -> None:
        super().__init__(sample_rate, "peak")
        self.package, self.suppressor = package, PEERS[package]
        try:
            self.suppress = self.suppressor.load()
        except (ImportError, OSError) as error:
            fix = f"pip install {self.suppressor.requirement}"
            raise EnvironmentFault(f"its package does not load ({error})", f"peer {package}", fix) from error

    def receptive_field_samples(self) -> None:
        """None: every one of them estimates the noise from all that it has heard."""
        return None

    def algorithmic_latency_samples(self) -> None:
        """The whole signal: the level and the change of rate are those of all of it."""
        return None

    def train(self, mode: bool = True) -> Peer:
        """Only evaluation: there is nothing to train."""
        if mode:
            raise PseError("has no weights to train", f"peer {self.package}", "enhance with it as it is")
        return super().train(False)

    def process(self, mix: Tensor) -> Output:
        """Estimates wavs [B, 1, T] of mix: [B, T] whose peak is 1; no gradient passes."""
        rows = [self._clean(row) for row in mix.detach().float().cpu().numpy()]
        return Output(wavs=torch.from_numpy(np.stack(rows)).to(mix)[:, None])

    def _clean(self, samples: np.ndarray) -> np.ndarray:
        """[T] of [T], both at the model's rate."""
        # A suppressor may divide by the level of what it hears.
        if not samples.any():
            return samples
        rate, delay = self.suppressor.rate_hz, self.suppressor.delay_samples
        inside = resample(samples * np.float32(PEAK), self.sample_rate, rate)
        # Zeros after the end push the last samples out of a package that is late.
        out = self.suppress(np.pad(inside, (0, delay)))[delay : delay + len(inside)]
        out = resample(out.astype(np.float32, copy=False), rate, self.sample_rate)[: len(samples)]
        return np.pad(out, (0, len(samples) - len(out))) / np.float32(PEAK)


PLUGIN = Peer
