"""What the networks that hear magnitude spectra with a GRU share: transform, level, memory of a stream."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from pse.dsp.level import RunningLevel
from pse.dsp.stft import STFT
from pse.models.base import Model, Normalize, require_positive

# How long the running level remembers: about a word.
LEVEL_MEMORY_S = 1.0


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

    def feature(self, magnitude: Tensor) -> Tensor:
        """What the GRU hears of magnitudes [.., K]."""
        return magnitude

    def memory(self) -> Memory:
        """A fresh memory of a signal."""
        return Memory(RunningLevel(LEVEL_MEMORY_S * self.sample_rate / self.transform.hop) if self.running else None)

    def hear(self, spectrum: Tensor, memory: Memory) -> Tensor:
        """Hidden states [B, F, D] of the next frames of a spectrum [B, K, F], F >= 1."""
        magnitude = spectrum.abs().mT
        hidden, memory.state = self.gru(self.feature(memory.at_level(magnitude, self.transform)), memory.state)
        return hidden


class Memory:
    """What a GRU on a spectrum remembers of a signal: its state, and the running level if it has one."""

    def __init__(self, level: RunningLevel | None) -> None:
        self.level, self.state = level, None

    def at_level(self, magnitude: Tensor, transform: STFT) -> Tensor:
        """Magnitudes [B, F, K] of the next frames, divided by the running level, where there is one."""
        if self.level is None:
            return magnitude
        power = magnitude.square().mean(2) / transform.noise_level**2
        return magnitude / self.level.include(power)[..., None]
