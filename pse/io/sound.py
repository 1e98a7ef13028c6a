"""Recordings of any kind: SPHERE files known by their content, all others by what libsndfile reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pse.io import audio, sphere


def probe(path: str | Path) -> audio.AudioInfo:
    """What the header says. Raises PseError as the reader of its kind does."""
    return (sphere if _is_sphere(path) else audio).probe(path)


def read(path: str | Path, sample_rate: int | None = None) -> tuple[np.ndarray, int]:
    """(samples [T] float32 in [-1, 1), rate in Hz), resampled to `sample_rate` where one is given.

    Raises PseError when the file is missing, damaged or no audio.
    """
    if not _is_sphere(path):
        return audio.read(path, sample_rate)
    samples, rate = sphere.read(path)
    if sample_rate is not None and sample_rate != rate:
        samples, rate = audio.resample(samples, rate, sample_rate), sample_rate
    return samples, rate


def _is_sphere(path: str | Path) -> bool:
    return Path(path).is_file() and sphere.is_sphere(path)
