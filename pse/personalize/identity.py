"""Whether recordings are of one person, by an encoder of voices: the mean of its embeddings over the clear frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pse.io import audio
from pse.models.base import device_of
from pse.personalize.material import Recordings

# Frames above it count, and a voice is told from so much of them; a longer recording is looked at in parts.
CLEAR_DB, LEAST_CLEAR_S, PART_S = 5.0, 3.0, 20.0
# Two voices less alike than this are two persons.
ALIKE = 0.5


def voices(encoder: Any, recordings: Recordings, frame_snr_db: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A unit vector [D] for each part of the recordings in which somebody is clear enough to be known."""
    size = round(PART_S * recordings.sample_rate)
    found = {}
    for name, samples in recordings.samples.items():
        for number, start in enumerate(range(0, len(samples), size)):
            part, track = samples[start : start + size], frame_snr_db[name]
            first, last = (round(i / len(samples) * len(track)) for i in (start, start + len(part)))
            vector = _voice(encoder, part, recordings.sample_rate, track[first:last])
            if vector is not None:
                found[f"{name}-{number}"] = vector
    return found


@torch.inference_mode()
def _voice(encoder: Any, samples: np.ndarray, sample_rate: int, frame_snr_db: np.ndarray) -> np.ndarray | None:
    inside = torch.from_numpy(audio.resample(samples, sample_rate, encoder.sample_rate)).to(device_of(encoder))
    if len(inside) < LEAST_CLEAR_S * encoder.sample_rate:
        return None
    embeddings = encoder(inside[None]).embeddings[0, 0].float().cpu()
    clear = frame_snr_db[np.linspace(0, len(frame_snr_db) - 1, len(embeddings)).round().astype(int)] > CLEAR_DB
    if clear.mean() * len(samples) < LEAST_CLEAR_S * sample_rate:
        return None
    return functional.normalize(embeddings[torch.from_numpy(clear)].mean(0), dim=0).numpy()


def middle(found: Mapping[str, np.ndarray]) -> np.ndarray:
    """The vector [D] of one of the parts that is most like the others: that of whoever speaks most."""
    every = np.stack(list(found.values()))
    return every[np.median(every @ every.T, axis=1).argmax()]


def strangers(found: Mapping[str, np.ndarray]) -> list[str]:
    """The parts whose voice is not that of whoever speaks in most of them."""
    if len(found) < 2:
        return []
    known = middle(found)
    return sorted(name for name, vector in found.items() if vector @ known < ALIKE)


def alike(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float | None:
    """How alike those are who speak most in two sets of parts, from -1 to 1; None where one is empty."""
    return float(middle(one) @ middle(other)) if one and other else None
