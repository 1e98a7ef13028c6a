"""What the networks that hear magnitude spectra with a GRU share: transform, level, memory of a stream."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pse.dsp.level import RunningLevel
from pse.dsp.stft import STFT
from pse.models.base import Model, Normalize, require_positive

# How long the running level remembers: about a word.
LEVEL_MEMORY_S = 1.0
# So many examples are transformed at a time: their spectra stay in the processor's cache.
EXAMPLES_PER_PIECE = 2


class SpectralGRU(Model):
    """|STFT| -> GRU; a subclass adds its head.

    `normalize: running` divides each frame by the level of the last second or so, which is known while
    a signal lasts. Hann window, n_fft and hop in samples. Raises ValueError for sizes that do not fit.
    """

    def __init__(
        self,
        hidden_size: int,
        num_layers: int,
        bidirectional: bool,
        n_fft: int,
        hop: int,
        sample_rate: int,
        normalize: Normalize | Literal["running"],
    ) -> None:
        self.running = normalize == "running"
        super().__init__(sample_rate, "none" if self.running else normalize)
        require_positive(hidden_size=hidden_size, num_layers=num_layers)
        self.transform = STFT(n_fft, hop)
        self.gru = nn.GRU(
            self.transform.num_bins, hidden_size, num_layers, batch_first=True, bidirectional=bidirectional
        )

    @property
    def causal(self) -> bool:
        """Whether no output waits for more than the latency."""
        return not self.gru.bidirectional and self.normalize == "none"

    def receptive_field_samples(self) -> None:
        """None: a recurrent network remembers everything."""
        return None

    @property
    def scale(self) -> float:
        """What magnitudes are multiplied by before the GRU hears them."""
        return 1.0

    def feature(self, magnitude: Tensor) -> Tensor:
        """What the GRU hears of scaled magnitudes [.., K]; may change them in place."""
        return magnitude

    def memory(self) -> Memory:
        """A fresh memory of a signal."""
        if not self.running:
            return Memory(None, 1.0)
        noise_level = self.transform.noise_level * self.scale
        return Memory(RunningLevel(LEVEL_MEMORY_S * self.sample_rate / self.transform.hop), noise_level)

    def hear(self, spectrum: Tensor, memory: Memory) -> Tensor:
        """Hidden states [B, F, D] of the next frames of a spectrum [B, K, F], F >= 1."""
        magnitude = spectrum.abs().mT * self.scale
        hidden, memory.state = self.gru(self.feature(memory.at_level(magnitude)), memory.state)
        return hidden

    def analyse(self, mix: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What the GRU hears, [F, B, K], of mix: [B, T], and the spectra [b, F, K] of its pieces."""
        magnitude = mix.new_empty(self.transform.num_frames(mix.shape[1]), len(mix), self.transform.num_bins)
        size = EXAMPLES_PER_PIECE if mix.device.type == "cpu" else max(1, len(mix))
        spectra = [self.transform.stft(piece).mT for piece in mix.split(size)]
        for spectrum, place in zip(spectra, magnitude.split(size, 1), strict=True):
            # abs() guards against overflow, which a spectrum of level 1 does not need, at three times the cost.
            power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
            torch.sqrt(power.mul_(self.scale**2).transpose(0, 1), out=place)
        at_level = self.memory().at_level(magnitude.transpose(0, 1)).transpose(0, 1)
        return self.feature(at_level), spectra


class Memory:
    """What a GRU on a spectrum remembers of a signal: its state, and the running level if it has one.

    noise_level: magnitude of a bin for noise of level 1.
    """

    def __init__(self, level: RunningLevel | None, noise_level: float) -> None:
        self.level, self.noise_level, self.state = level, noise_level, None

    def at_level(self, magnitude: Tensor) -> Tensor:
        """Magnitudes [B, F, K] of the next frames, divided by the running level, where there is one."""
        if self.level is None:
            return magnitude
        power = (magnitude / self.noise_level).square().mean(2)
        return magnitude / self.level.include(power)[..., None]
