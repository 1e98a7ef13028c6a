"""GRU mask network: a recurrent net on the magnitude spectrum, a real mask on the complex one.

Sizes of Sivaraman & Kim, JSTSP 16(6), 2022 (bidirectional) and Interspeech 2021 (unidirectional).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pse.dsp.stft import STFT
from pse.models.base import Model, Normalize, Output, require_positive


class GRUMask(Model):
    """|STFT| -> GRU -> Linear -> sigmoid mask on the complex STFT -> inverse STFT; one source.

    Hann window, n_fft and hop in samples. Raises ValueError for sizes that do not fit.
    """

    def __init__(
        self,
        hidden_size: int,
        bidirectional: bool = False,
        num_layers: int = 2,
        n_fft: int = 1024,
        hop: int = 256,
        sample_rate: int = 16000,
        normalize: Normalize = "rms",
    ) -> None:
        super().__init__(sample_rate, normalize)
        require_positive(hidden_size=hidden_size, num_layers=num_layers)
        self.transform = STFT(n_fft, hop)
        self.gru = nn.GRU(
            self.transform.num_bins, hidden_size, num_layers, batch_first=True, bidirectional=bidirectional
        )
        self.mask = nn.Linear(hidden_size * (2 if bidirectional else 1), self.transform.num_bins)

    @property
    def causal(self) -> bool:
        """Whether no output waits for more than the latency."""
        return not self.gru.bidirectional and self.normalize == "none"

    def receptive_field_samples(self) -> None:
        """None: a recurrent network remembers everything."""
        return None

    def algorithmic_latency_samples(self) -> int | None:
        """One STFT window when causal."""
        return self.transform.n_fft if self.causal else None

    def process(self, mix: Tensor) -> Output:
        """Estimate wavs [B, 1, T] and masks [B, 1, K, F] of mix: [B, T]."""
        spectrum = self.transform.stft(mix)
        hidden = self.gru(spectrum.abs().mT)[0]
        mask = torch.sigmoid(self.mask(hidden)).mT.to(mix.dtype)
        wavs = self.transform.istft(spectrum * mask, mix.shape[1])
        return Output(wavs=wavs[:, None], masks=mask[:, None])


PLUGIN = GRUMask
