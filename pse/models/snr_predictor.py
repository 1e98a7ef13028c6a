"""SNR predictor: how clean each frame of a recording is, in dB.

Sivaraman, Kim & Kim, "Personalized speech enhancement through self-supervised data augmentation and
purification", Interspeech 2021.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from pse.dsp.stft import Analysis
from pse.models import recurrent
from pse.models.base import Normalize, Output
from pse.models.spectral_gru import SpectralGRU

# Of a signal of level 1, whose bins are about sqrt(3/8 n_fft) = 20: keeps the logarithm finite in silence.
LOG_FLOOR = 1e-3
# The layers written here hold the gates of all frames: those of a batch of training, and not of an hour.
FRAMES_AT_ONCE = 65_536


class SNRPredictor(SpectralGRU):
    """GRU on the spectrum's magnitude, or its logarithm; Linear to one number a frame.

    frame_snr_db: [B, F] with F = 1 + T // hop, not bounded.
    """

    def __init__(
        self,
        hidden_size: int = 1024,
        num_layers: int = 3,
        feature: Literal["magnitude", "log_magnitude"] = "magnitude",
        n_fft: int = 1024,
        hop: int = 256,
        sample_rate: int = 16000,
        normalize: Normalize | Literal["running"] = "rms",
        bidirectional: bool = False,
    ) -> None:
        super().__init__(hidden_size, num_layers, bidirectional, n_fft, hop, sample_rate, normalize)
        if feature not in ("magnitude", "log_magnitude"):
            raise ValueError(f"feature must be magnitude or log_magnitude, got {feature!r}")
        self.logarithmic = feature == "log_magnitude"
        self.snr = nn.Linear(hidden_size * (2 if bidirectional else 1), 1)

    def algorithmic_latency_samples(self) -> int | None:
        """Half an STFT window when causal."""
        return self.transform.n_fft // 2 if self.causal else None

    def feature(self, magnitude: Tensor) -> Tensor:
        """Magnitudes [.., K] or their logarithms."""
        return magnitude.add_(LOG_FLOOR).log_() if self.logarithmic else magnitude

    def process(self, mix: Tensor) -> Output:
        """Frame SNR in dB [B, F] of mix: [B, T]."""
        if recurrent.is_faster(mix) and self.transform.num_frames(mix.shape[1]) * len(mix) <= FRAMES_AT_ONCE:
            hidden = recurrent.run([self.gru], [self.analyse(mix)[0].contiguous()])[0].transpose(0, 1)
        else:
            hidden = self.hear(self.transform.stft(mix), self.memory())
        return Output(frame_snr_db=self.snr(hidden)[..., 0].to(mix.dtype))

    def streamer(self) -> _Streamer:
        """This network on a signal that comes in pieces."""
        return _Streamer(self)


class _Streamer:
    """The ratios frame by frame."""

    def __init__(self, model: SNRPredictor) -> None:
        self.model, self.memory, self.analysis = model, model.memory(), Analysis(model.transform)

    def push(self, mix: Tensor) -> Tensor:
        """The next frames' ratios in dB [B, 1, F]."""
        return self._ratios(self.analysis.push(mix))

    def flush(self) -> Tensor:
        """The last frames' ratios in dB [B, 1, F]."""
        return self._ratios(self.analysis.flush())

    def _ratios(self, spectrum: Tensor) -> Tensor:
        if not spectrum.shape[2]:
            return spectrum.real[:, :1]
        return self.model.snr(self.model.hear(spectrum, self.memory)).mT


PLUGIN = SNRPredictor
