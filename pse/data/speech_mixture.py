"""Mixtures of speakers: who talks at once with whom and how loudly, and the signal of each.

Levels are those of ITU-T P.56, so that a mixture at 0 dB has two speakers who are as loud while they
speak, as in WSJ0-2mix (Hershey et al., 1508.04306).
"""

from __future__ import annotations

import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pse.data.cache import AudioCache
from pse.data.mixture import MAX_DRAWS, Crop, MixtureSpec, crop
from pse.data.pairing import Pairing
from pse.data.wsj0_mix import PEAK, Entry
from pse.dsp.snr import SILENT_POWER, power
from pse.errors import PseError, first_three

# Of a source while it speaks, in training: mixtures are then as loud on average as tests, whose peak is 0.9.
LEVEL_DBFS = -22.0


@dataclass(frozen=True)
class Voices:
    """Speech to mix: a cache, the active level of each utterance in dB re full scale, each speaker's sex (F, M)."""

    cache: AudioCache
    level_db: Mapping[str, float]
    sex: Mapping[str, str]

    def sexes(self, spec: MixtureSpec) -> str:
        """Sexes of a mixture's speakers in the order of the alphabet, `FM`; `?` stands for an unknown one."""
        return "".join(sorted(self.sex.get(self.cache.speaker[s.utt]) or "?" for s in spec.sources))


def render_sources(spec: MixtureSpec, cache: AudioCache) -> np.ndarray:
    """The sources [S, T] float32 of a mixture, which is their sum."""
    return np.stack([crop(cache, s, spec.num_samples, loop=False) for s in spec.sources])


def peak_scaled(spec: MixtureSpec, cache: AudioCache) -> MixtureSpec:
    """The mixture with one gain for all: the largest sample of the sum and of the sources becomes 0.9.

    Raises PseError for a silent source.
    """
    sources = render_sources(spec, cache)
    silent = [s.utt for s, x in zip(spec.sources, sources, strict=True) if not x.any()]
    if silent:
        raise PseError(f"{first_three(silent)} is silent where it is mixed", spec.id, "leave the recording out")
    scale_db = 20 * math.log10(PEAK / max(float(np.abs(sources.sum(0)).max()), float(np.abs(sources).max())))
    return replace(spec, sources=tuple(replace(s, gain_db=s.gain_db + scale_db) for s in spec.sources))


def listed(entry: Entry, voices: Voices) -> MixtureSpec:
    """The mixture of a line of a published list: as long as its shortest utterance (`min`), scaled to a peak of 0.9."""
    gains = [g - voices.level_db[u] for u, g in zip(entry.utts, entry.gains_db, strict=True)]
    sources = tuple(Crop(u, 0, g) for u, g in zip(entry.utts, gains, strict=True))
    length = min(voices.cache.num_samples[u] for u in entry.utts)
    return peak_scaled(MixtureSpec(entry.id, length, 0, sources), voices.cache)


class SpeakerSampler:
    """Draws mixtures of speakers: number n of a stream is the same one on every machine and in every run.

    num_samples: of a mixture; whole: utterances from their starts, and no longer than the shortest one
    (`min`). num_speakers: how many talk at once, drawn alike. spread_db: the first of two speakers is up
    to this much louder than the second; of three the third lies between (as in WSJ0-3mix).
    pairing: whole takes any speakers, balanced as many pairs of two women, of two men and of both,
    female or male such speakers only, same_speaker two utterances of one, known all of `speakers`,
    who come in this order as sources.
    Speakers are drawn alike, however much there is of each. Raises PseError when there are too few.
    """

    def __init__(
        self,
        voices: Voices,
        num_samples: int,
        seed: int,
        stream: str,
        num_speakers: Sequence[int] = (2,),
        pairing: Pairing = "whole",
        spread_db: float = 5.0,
        whole: bool = False,
        speakers: Sequence[str] | None = None,
    ) -> None:
        self.voices, self.num_samples, self.seed, self.stream = voices, num_samples, seed, stream
        self.num_speakers, self.pairing, self.spread_db, self.whole = tuple(num_speakers), pairing, spread_db, whole
        self._key = zlib.crc32(stream.encode())
        self._utts: dict[str, list[str]] = defaultdict(list)
        for utt in voices.cache.ids:
            self._utts[voices.cache.speaker[utt]].append(utt)
        if speakers is not None:
            missing = [s for s in speakers if s not in self._utts]
            if missing:
                what = f"has no speech of {len(missing)} of its {len(speakers)} speakers: {first_three(missing)}"
                raise PseError(what, stream, "name speakers that are there")
            self._utts = {s: self._utts[s] for s in speakers}
        self._of_sex: dict[str, list[str]] = {"": list(self._utts), "F": [], "M": []}
        for speaker in self._utts:
            self._of_sex.setdefault(voices.sex.get(speaker, "?"), []).append(speaker)
        self._choices = [c for count in self.num_speakers for c in self._combinations(count)]

    def _combinations(self, count: int) -> list[tuple[tuple[str, int], ...]]:
        """What can be drawn: each combination is groups of speakers, and how many of each."""
        everyone = tuple(self._utts)
        if self.pairing == "same_speaker":
            enough = [s for s in everyone if len(self._utts[s]) >= count]
            self._need(enough, 1, f"with {count} utterances")
            return [tuple((s, count) for s in enough)]
        if self.pairing == "known" and len(everyone) != count:
            what = f"{len(everyone)} known speakers cannot be {count}"
            raise PseError(what, self.stream, "set num_speakers to all of them")
        if self.pairing in ("whole", "known"):
            self._need(everyone, count, "")
            return [(("", count),)]
        groups = {"balanced": ("FF", "MM", "FM"), "female": ("F" * count,), "male": ("M" * count,)}[self.pairing]
        if self.pairing == "balanced" and count != 2:
            raise PseError(f"pairs are balanced, not mixtures of {count}", self.stream, "set pairing: whole")
        made = [tuple(sorted(Counter(g).items())) for g in groups]
        for sex, wanted in {pair for combination in made for pair in combination}:
            self._need(self._of_sex[sex], wanted, f"of sex {sex}")
        return made

    def _need(self, found: Sequence[str], wanted: int, which: str) -> None:
        if len(found) < wanted:
            what = f"needs {wanted} speakers {which}".rstrip() + f", and there are {len(found)}: {first_three(found)}"
            fix = "add speech, or ask for other mixtures"
            if unknown := len(self._of_sex.get("?", ())):
                what += f"; the sex of {unknown} speakers is unknown"
                fix += ", or put the corpus's table of speakers (spkrinfo.txt, SPEAKERS.TXT) into its directory"
            raise PseError(what, self.stream, fix)

    def spec(self, number: int) -> MixtureSpec:
        """Draw description `number`; silent crops are drawn again from the same generator."""
        rng = np.random.default_rng([self.seed, self._key, number])
        for _ in range(MAX_DRAWS):
            utts = self._draw(rng, self._choices[int(rng.integers(len(self._choices)))])
            sources = self._placed(rng, utts)
            length = self.num_samples
            if self.whole:
                length = min(length, *(self.voices.cache.num_samples[u] for u in utts))
            if all(power(crop(self.voices.cache, s, length, loop=False)) >= 100 * SILENT_POWER for s in sources):
                return MixtureSpec(f"{self.stream}-{number:06d}", length, self.seed, tuple(sources))
        raise PseError(f"{MAX_DRAWS} mixtures in a row have a silent source", self.stream, "check the recordings")

    def _draw(self, rng: np.random.Generator, combination: tuple[tuple[str, int], ...]) -> list[str]:
        """Utterances of one mixture."""
        if self.pairing == "same_speaker":
            speaker, count = combination[int(rng.integers(len(combination)))]
            which = rng.choice(len(self._utts[speaker]), count, replace=False)
            return [self._utts[speaker][i] for i in which]
        who: list[str] = []
        for sex, count in combination:
            group = self._of_sex[sex]
            who += [group[i] for i in rng.choice(len(group), count, replace=False)]
        # The order of the sources tells nothing, but where it is all there is to know.
        who = list(self._utts) if self.pairing == "known" else [who[i] for i in rng.permutation(len(who))]
        return [self._utts[s][int(rng.integers(len(self._utts[s])))] for s in who]

    def _placed(self, rng: np.random.Generator, utts: Sequence[str]) -> list[Crop]:
        """Where each utterance starts, and its gain: levels lie around each other as in the WSJ0-mix lists."""
        offset = float(rng.uniform(0.0, self.spread_db / 2))
        offsets = [offset, -offset, 0.0, offset / 2, -offset / 2][: len(utts)]
        placed = []
        for utt, shift in zip(utts, rng.permutation(offsets), strict=True):
            room = 0 if self.whole else self.voices.cache.num_samples[utt] - self.num_samples
            start = int(rng.integers(room + 1)) if room > 0 else 0
            placed.append(Crop(utt, start, LEVEL_DBFS + float(shift) - self.voices.level_db[utt]))
        return placed

    def render(self, number: int) -> np.ndarray:
        """Draw mixture `number` and render its sources [S, T]."""
        return render_sources(self.spec(number), self.voices.cache)


class FixedSampler:
    """Draws segments of fixed mixtures: each once an epoch, in an order and at a place that the epoch decides.

    num_samples: of a segment; a shorter mixture ends in silence. Number n is the same one on every machine
    and in every run.
    """

    def __init__(
        self, voices: Voices, specs: Sequence[MixtureSpec], num_samples: int, seed: int, stream: str
    ) -> None:
        self.voices, self.specs, self.num_samples, self.seed, self.stream = voices, specs, num_samples, seed, stream
        self._key = zlib.crc32(stream.encode())
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0))

    def spec(self, number: int) -> MixtureSpec:
        """Description `number`; segments with a silent source are drawn again, and taken if there is no other."""
        epoch, place = divmod(number, len(self.specs))
        known, order = self._order
        if known != epoch:
            order = np.random.default_rng([self.seed, self._key, epoch]).permutation(len(self.specs))
            self._order = (epoch, order)
        whole, rng = self.specs[order[place]], np.random.default_rng([self.seed, self._key, epoch, place])
        for _ in range(MAX_DRAWS):
            start = int(rng.integers(max(0, whole.num_samples - self.num_samples) + 1))
            sources = tuple(replace(s, start_samples=s.start_samples + start) for s in whole.sources)
            length = min(self.num_samples, whole.num_samples)
            if all(power(crop(self.voices.cache, s, length, loop=False)) >= 100 * SILENT_POWER for s in sources):
                break
        return MixtureSpec(f"{self.stream}-{number:06d}", length, self.seed, sources)

    def render(self, number: int) -> np.ndarray:
        """Draw segment `number` and render its sources [S, T]; a shorter mixture is padded to num_samples."""
        sources = render_sources(self.spec(number), self.voices.cache)
        return np.pad(sources, ((0, 0), (0, self.num_samples - sources.shape[1])))
