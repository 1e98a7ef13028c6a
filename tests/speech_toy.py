"""Speakers for tests: bursts of noise, each speaker's in bands of their own, read like an audio cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pse.data.speech import Voices
from pse.dsp.active_level import active_level

RATE = 8000


class ToySpeech:
    """num_utts utterances for each of the speakers (F and M in turn), 3 to 4 s long, in 16-bit steps."""

    def __init__(self, num_speakers: int = 6, num_utts: int = 3, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.directory, self.sample_rate = Path("toy"), RATE
        self.speaker, self._samples = {}, {}
        for s in range(num_speakers):
            for u in range(num_utts):
                utt = f"s{s}u{u}"
                self.speaker[utt] = f"s{s}"
                self._samples[utt] = burst(rng, int(rng.integers(3 * RATE, 4 * RATE)), 300.0 + 450.0 * s)
        self.ids = list(self._samples)
        self.num_samples = {u: len(x) for u, x in self._samples.items()}

    def read(self, utt: str, start_samples: int = 0, num_samples: int | None = None) -> np.ndarray:
        """Samples [T] of an utterance."""
        stop = None if num_samples is None else start_samples + num_samples
        return self._samples[utt][start_samples:stop]


def burst(rng: np.random.Generator, length: int, centre_hz: float) -> np.ndarray:
    """A tone with a wandering pitch around a centre, switched on and off, rounded to 16 bits."""
    time = np.arange(length) / RATE
    phase = 2 * np.pi * (centre_hz * time + np.cumsum(rng.standard_normal(length)) * 0.01)
    syllables = np.repeat(rng.uniform(0.2, 1.0, length // 1000 + 1), 1000)[:length]
    level = 10 ** (rng.uniform(-30, -15) / 20)
    return (np.round(32768 * level * syllables * np.sin(phase)) / 32768).astype(np.float32)


def toy_voices(num_speakers: int = 6, num_utts: int = 3, seed: int = 0) -> Voices:
    """The toy speakers with their active levels and sexes."""
    cache = ToySpeech(num_speakers, num_utts, seed)
    levels = {u: active_level(cache.read(u), RATE).level_db for u in cache.ids}
    return Voices(cache, levels, {f"s{s}": "FM"[s % 2] for s in range(num_speakers)})
