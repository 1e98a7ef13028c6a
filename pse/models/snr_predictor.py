"""SNR predictor: how clean each frame of a recording is, in dB.

Sivaraman, Kim & Kim, "Personalized speech enhancement through self-supervised data augmentation and
purification", Interspeech 2021.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from pse.dsp.stft import STFT
from pse.models import recurrent
from pse.models.base import Model, Normalize, Output, require_positive

# Of a signal of level 1, whose bins are about sqrt(3/8 n_fft) = 20: keeps the logarithm finite in silence.
LOG_FLOOR = 1e-3


class SNRPredictor(Model):
    """Unidirectional GRU on the spectrum's magnitude, or its logarithm; Linear to one number a frame.

    frame_snr_db: [B, F] with F = 1 + T // hop, not bounded. Hann window, n_fft and hop in samples.
    Raises ValueError for sizes that do not fit.
    """

    def __init__(
        self,
        hidden_size: int = 1024,
        num_layers: int = 3,
        feature: Literal["magnitude", "log_magnitude"] = "magnitude",
        n_fft: int = 1024,
        hop: int = 256,
        sample_rate: int = 16000,
        normalize: Normalize = "rms",
    ) -> None:
        super().__init__(sample_rate, normalize)
        require_positive(hidden_size=hidden_size, num_layers=num_layers)
        if feature not in ("magnitude", "log_magnitude"):
            raise ValueError(f"feature must be magnitude or log_magnitude, got {feature!r}")
        self.feature = feature
        self.transform = STFT(n_fft, hop)
        self.gru = nn.GRU(self.transform.num_bins, hidden_size, num_layers, batch_first=True)
        self.snr = nn.Linear(hidden_size, 1)

    @property
    def causal(self) -> bool:
        """Whether no output waits for more than the latency."""
        return self.normalize == "none"

    def receptive_field_samples(self) -> None:
        """None: a recurrent network remembers everything."""
        return None

    def algorithmic_latency_samples(self) -> int | None:
        """Half an STFT window when causal."""
        return self.transform.n_fft // 2 if self.causal else None

    def process(self, mix: Tensor) -> Output:
        """Frame SNR in dB [B, F] of mix: [B, T]."""
        magnitude = self.transform.stft(mix).abs().mT
        feature = magnitude if self.feature == "magnitude" else (magnitude + LOG_FLOOR).log()
        if recurrent.is_training(mix):
            hidden = recurrent.run([self.gru], [feature.transpose(0, 1).contiguous()])[0].transpose(0, 1)
        else:
            hidden = self.gru(feature)[0]
        return Output(frame_snr_db=self.snr(hidden)[..., 0].to(mix.dtype))


PLUGIN = SNRPredictor
