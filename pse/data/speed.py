"""Speech played faster and slower: more voices, and other wording of each, out of few recordings.

Speed perturbation (Ko, Peddinti, Povey & Khudanpur, "Audio augmentation for speech recognition", Interspeech 2015)
moves pitch and formants with the tempo, so a speaker at another speed counts as another one, as in Kaldi.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import soxr

from pse.data.cache import AudioCache
from pse.data.speech import Voices

# Read on both sides of a stretch, so that the filter does not begin in silence.
MARGIN = 64


class SpeedCache:
    """A cache in which every recording is there at several speeds: `utt` at 1, `utt@0.9` at 0.9, 1.11 times as long.

    speeds: of what is played, relative to the recording. A stretch is that of the whole recording to half a sample.
    """

    def __init__(self, cache: AudioCache, speeds: Sequence[float]) -> None:
        self.directory, self.sample_rate, self._cache = cache.directory, cache.sample_rate, cache
        self._of = {named(utt, speed): (utt, speed) for speed in speeds for utt in cache.ids}
        self.ids = list(self._of)
        self.num_samples = {n: int(cache.num_samples[utt] / speed) for n, (utt, speed) in self._of.items()}
        self.speaker = {n: named(cache.speaker[utt], speed) for n, (utt, speed) in self._of.items()}

    def read(self, utt: str, start_samples: int = 0, num_samples: int | None = None) -> np.ndarray:
        """Samples [T] of an utterance as float32 in [-1, 1]."""
        original, speed = self._of[utt]
        if speed == 1:
            return self._cache.read(original, start_samples, num_samples)
        left = max(0, self.num_samples[utt] - start_samples)
        wanted = left if num_samples is None else min(num_samples, left)
        begin = max(0, int(start_samples * speed) - MARGIN)
        samples = self._cache.read(original, begin, int(np.ceil(wanted * speed)) + 2 * MARGIN)
        played = soxr.resample(samples, speed, 1.0, quality="MQ")
        first = round(start_samples - begin / speed)
        played = played[first : first + wanted]
        return np.pad(played, (0, wanted - len(played)))


def named(name: str, speed: float) -> str:
    """What a speaker or an utterance is called at a speed."""
    return name if speed == 1 else f"{name}@{speed:g}"


def at_speeds(voices: Voices, speeds: Sequence[float]) -> Voices:
    """Speech at several speeds; levels and sexes stay."""
    levels = {named(u, speed): level for u, level in voices.level_db.items() for speed in speeds}
    sexes = {named(s, speed): sex for s, sex in voices.sex.items() for speed in speeds}
    return Voices(SpeedCache(voices.cache, speeds), levels, sexes)
