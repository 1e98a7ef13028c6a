"""The level of a signal while it lasts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# -100 dBFS: digital silence has a level too.
FLOOR = 1e-5
FRAMES_PER_PIECE = 256


class RunningLevel:
    """RMS of the frames so far, the older the less: a frame's weight falls by e in `memory_frames`."""

    def __init__(self, memory_frames: float) -> None:
        self.decay = math.exp(-1.0 / memory_frames)
        self.energy: Tensor | float = 0.0
        self.weight = 0.0

    def include(self, power: Tensor) -> Tensor:
        """Level [B, F] up to and with each frame, and at least -100 dBFS, of frames of power [B, F]."""
        with torch.no_grad():
            pieces = [self._include(piece) for piece in power.split(FRAMES_PER_PIECE, 1)]
            return torch.cat(pieces, 1).sqrt().clamp_min(FLOOR)

    def _include(self, power: Tensor) -> Tensor:
        frames = torch.arange(power.shape[1], device=power.device, dtype=power.dtype)
        lags = frames[:, None] - frames
        fading = torch.where(lags >= 0, self.decay**lags, 0)
        before = self.decay ** (frames + 1)
        energy = power @ fading.T + before * self.energy
        weight = fading.sum(1) + before * self.weight
        self.energy, self.weight = energy[:, -1:], weight[-1].item()
        return energy / weight
