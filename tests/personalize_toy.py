"""What the tests of `pse personalize` have for recordings, and for models that tell what is wanted."""

from __future__ import annotations

import numpy as np
import torch

from pse.models.base import Output
from tests.speech_toy import burst

RATE = 8000


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """Bursts, as of syllables."""
    return 0.3 * burst(np.random.default_rng(seed), round(seconds * RATE), 600.0) / 0.05


def tone(seconds: float, pitch_hz: float) -> np.ndarray:
    """A voice of this pitch."""
    return 0.3 * np.sin(2 * np.pi * pitch_hz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


class Predicted:
    """A predictor that says what it is told to, frame by frame."""

    def __init__(self, level_db: float) -> None:
        self.sample_rate, self.level_db = RATE, level_db

    def parameters(self):
        return iter(())

    def __call__(self, mix: torch.Tensor) -> Output:
        return Output(frame_snr_db=mix.new_full((len(mix), 1 + mix.shape[1] // 256), self.level_db))


class ByLevel(Predicted):
    """A predictor that takes what is loud for speech."""

    def __call__(self, mix: torch.Tensor) -> Output:
        level = torch.nn.functional.avg_pool1d(mix[:, None] ** 2, 256, 256, 128)[:, 0]
        return Output(frame_snr_db=torch.where(level > 1e-3, self.level_db, -self.level_db))


class Seldom(Predicted):
    """A predictor that takes every twentieth frame for speech, as in music."""

    def __call__(self, mix: torch.Tensor) -> Output:
        out = super().__call__(mix)
        out.frame_snr_db[:, 1::20] *= -1
        return out


class ByPitch:
    """An encoder of voices: a low one and a high one are orthogonal."""

    sample_rate = 4000

    def parameters(self):
        return iter(())

    def __call__(self, mix: torch.Tensor) -> Output:
        frames = mix.unfold(1, 256, 64)
        loudest = torch.fft.rfft(frames).abs().argmax(2)
        return Output(embeddings=torch.nn.functional.one_hot((loudest > 64).long(), 2).float()[:, None])
