"""Enhance audio of any rate, length and channel count: same rate, length and level come out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pse.errors import PseError
from pse.io.audio import resample
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
    if samples.ndim == 2:
        return np.stack([enhance(model, channel, sample_rate) for channel in samples])
    if samples.ndim != 1:
        raise PseError(f"audio of shape {samples.shape} was given, [T] or [C, T] is needed", "enhance")
    if not np.isfinite(samples).all():
        raise PseError("the audio holds NaN or infinite samples", "enhance", "export it again")
    if len(samples) == 0:
        return samples.copy()
    inside = resample(samples.astype(np.float32, copy=False), sample_rate, model.sample_rate)
    out = resample(_in_chunks(model, inside), model.sample_rate, sample_rate)
    return np.pad(out, (0, max(0, len(samples) - len(out))))[: len(samples)]


def _in_chunks(model: Any, samples: np.ndarray) -> np.ndarray:
    size, overlap = round(CHUNK_S * model.sample_rate), round(OVERLAP_S * model.sample_rate)
    if len(samples) <= size + overlap:
        return _forward(model, samples)
    out = np.zeros_like(samples)
    fade = np.linspace(0.0, 1.0, overlap, dtype=np.float32)
    for start in range(0, len(samples) - overlap, size):
        part = _forward(model, samples[start : start + size + overlap])
        if start:
            part[:overlap] *= fade
            out[start : start + overlap] *= 1.0 - fade
        out[start : start + len(part)] += part
    return out


def _forward(model: Any, samples: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.from_numpy(samples).to(device_of(model))[None]).wavs[0, 0].float().cpu().numpy().copy()
