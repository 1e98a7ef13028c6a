"""Speech to mix: recordings with what mixing has to know of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pse.data.cache import AudioCache, JoinedCache
from pse.data.mixture import MixtureSpec


@dataclass(frozen=True)
class Voices:
    """Speech to mix: a cache, the active level of each utterance in dB re full scale, each speaker's sex (F, M)."""

    cache: AudioCache
    level_db: Mapping[str, float]
    sex: Mapping[str, str]

    def sexes(self, spec: MixtureSpec) -> str:
        """Sexes of a mixture's speakers in the order of the alphabet, `FM`; `?` stands for an unknown one."""
        return "".join(sorted(self.sex.get(self.cache.speaker[s.utt]) or "?" for s in spec.sources))


def joined(*sets: Voices) -> Voices:
    """Several sets of speech as one. Raises PseError where they share an utterance or differ in rate."""
    levels = {u: level for v in sets for u, level in v.level_db.items()}
    sexes = {speaker: sex for v in sets for speaker, sex in v.sex.items()}
    return Voices(JoinedCache([v.cache for v in sets]), levels, sexes)
