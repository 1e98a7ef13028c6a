"""Enhance audio of any rate, length and channel count: same rate, length and level come out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pse.errors import PseError
from pse.io.blocks import AtRate
from pse.models.base import device_of

CHUNK_S = 30.0
OVERLAP_S = 1.0


def enhance(model: Any, samples: np.ndarray | Tensor, sample_rate: int) -> np.ndarray | Tensor:
    """Enhance [T] or [C, T] at `sample_rate` Hz; returns the same kind, shape and rate.

    Long input is worked on in chunks of 30 s whose overlaps are cross-faded, so memory stays
    bounded. Raises PseError on NaN, infinity or another number of axes.
    """
    if isinstance(samples, Tensor):
        return torch.from_numpy(enhance(model, samples.detach().cpu().numpy(), sample_rate)).to(samples.device)
    if samples.ndim not in (1, 2):
        raise PseError(f"audio of shape {samples.shape} was given, [T] or [C, T] is needed", "enhance")
    if not np.isfinite(samples).all():
        raise PseError("the audio holds NaN or infinite samples", "enhance", "export it again")
    if samples.size == 0:
        return samples.copy()
    channels = np.atleast_2d(samples).astype(np.float32, copy=False)
    worker = in_blocks(model, sample_rate, len(channels))
    return np.concatenate([worker.push(channels), worker.flush()], 1).reshape(samples.shape)


def in_blocks(model: Any, sample_rate: int, num_channels: int) -> AtRate:
    """`enhance` of a signal [C, T] float32 of finite samples that comes in blocks, sample for sample the same."""
    return AtRate(_Chunks(model, num_channels), model.sample_rate, sample_rate, num_channels)


class _Chunks:
    """A model on a signal [C, T] of its rate, each channel by itself, in chunks whose overlaps are cross-faded."""

    def __init__(self, model: Any, num_channels: int) -> None:
        self._model = model
        self._size, self._overlap = round(CHUNK_S * model.sample_rate), round(OVERLAP_S * model.sample_rate)
        self._fade = np.linspace(0.0, 1.0, self._overlap, dtype=np.float32)
        self._waiting = np.zeros((num_channels, 0), np.float32)
        # What the last chunk made of its overlap with the next one.
        self._tail: np.ndarray | None = None

    def push(self, samples: np.ndarray) -> np.ndarray:
        waiting, parts = np.concatenate([self._waiting, samples], 1), [samples[:, :0]]
        while waiting.shape[1] >= self._size + self._overlap:
            part = self._next(waiting[:, : self._size + self._overlap])
            parts.append(part[:, : self._size])
            self._tail, waiting = part[:, self._size :], waiting[:, self._size :]
        # A copy, lest a rest of a second keeps all that was pushed.
        self._waiting = waiting.copy()
        return np.concatenate(parts, 1)

    def flush(self) -> np.ndarray:
        if self._tail is not None and self._waiting.shape[1] <= self._overlap:
            return self._tail
        return self._next(self._waiting) if self._waiting.shape[1] else self._waiting

    def _next(self, samples: np.ndarray) -> np.ndarray:
        part = np.stack([_forward(self._model, channel) for channel in samples])
        if self._tail is not None:
            part[:, : self._overlap] *= self._fade
            part[:, : self._overlap] += self._tail * (1.0 - self._fade)
        return part


def _forward(model: Any, samples: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.from_numpy(samples).to(device_of(model))[None]).wavs[0, 0].float().cpu().numpy()
