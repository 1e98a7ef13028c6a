"""A causal model that is listened to: in blocks of some milliseconds, with its load."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pse.errors import PseError
from pse.inference.streaming import Stream
from pse.io.blocks import AtRate


class Load:
    """How much of the time that blocks last is used to work on them."""

    def __init__(self) -> None:
        self.num_blocks = self.num_late = 0
        self.spent_s = self.lasted_s = self.worst = 0.0

    def add(self, spent_s: float, block_s: float) -> None:
        """Count a block that lasts block_s and was worked on for spent_s."""
        self.num_blocks += 1
        self.num_late += spent_s > block_s
        self.spent_s += spent_s
        self.lasted_s += block_s
        self.worst = max(self.worst, spent_s / block_s)

    @property
    def mean(self) -> float:
        """Share of the time that is used; 0 before the first block."""
        return self.spent_s / self.lasted_s if self.lasted_s else 0.0

    def __str__(self) -> str:
        load = f"load {100 * self.mean:.0f} % on average, {100 * self.worst:.0f} % at worst"
        return f"{load}, {self.num_late} of {self.num_blocks} blocks too late"


class FixedDelay:
    """As many samples out as in, `latency_samples - 1` later: what a sound card wants of a stream.

    Takes and gives [T]; of a model of several sources the first one.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream, self._ready = stream, np.zeros(stream.latency_samples - 1, np.float32)

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """The samples [T] of this moment for the next block: [T]."""
        ready = np.concatenate([self._ready, _first_source(self._stream.push(block), block.ndim)])
        out, self._ready = ready[: len(block)], ready[len(block) :]
        return out


class Listened:
    """A stream on a signal [C, T] of any rate, whose length it keeps; what a block costs is added to a load."""

    def __init__(self, stream: Stream, sample_rate: int, num_channels: int, load: Load) -> None:
        self._load, self._sample_rate = load, sample_rate
        self._worker = AtRate(_Sound(stream), stream.model.sample_rate, sample_rate, num_channels)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The next samples [C, T'] after a block: [C, T] float32, T >= 1."""
        out, spent_s = timed(self._worker.push, samples)
        self._load.add(spent_s, samples.shape[1] / self._sample_rate)
        return out

    def flush(self) -> np.ndarray:
        """The rest: the signal has ended."""
        return self._worker.flush()


class _Sound:
    """The first source of a stream, [C, T] in and out."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def push(self, samples: np.ndarray) -> np.ndarray:
        return _first_source(self._stream.push(samples), 2)

    def flush(self) -> np.ndarray:
        return _first_source(self._stream.flush(), 2)


def sound_stream(model: Any) -> Stream:
    """A stream of a model, which has been used once. Raises PseError where it is not causal or gives no sound."""
    stream = Stream(model, model.sample_rate)
    # The first call is a slow one. It also shows what a model gives.
    second = np.zeros(model.sample_rate, np.float32)
    if stream.push(second).shape[-1] + stream.flush().shape[-1] != len(second):
        raise PseError(f"{type(model).__name__} gives no sound", "pse listen", "take a model that enhances")
    return stream


def timed(work: Callable[[np.ndarray], np.ndarray], samples: np.ndarray) -> tuple[np.ndarray, float]:
    """What `work` makes of samples, and the seconds it took."""
    start = time.perf_counter()
    return work(samples), time.perf_counter() - start


def _first_source(out: np.ndarray, num_axes: int) -> np.ndarray:
    return out if out.ndim == num_axes else out[..., 0, :]
