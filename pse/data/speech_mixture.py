"""Mixtures of speakers: who talks at once with whom and how loudly, and the signal of each.

Levels are those of ITU-T P.56, so that a mixture at 0 dB has two speakers who are as loud while they
speak, as in WSJ0-2mix (Hershey et al., 1508.04306).
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pse.data.cache import AudioCache
from pse.data.conditions import Conditions, staggered
from pse.data.mixture import MAX_DRAWS, Crop, MixtureSpec, Sources, crop, draw_crop
from pse.data.pairing import Pairing
from pse.data.rooms import draw_room
from pse.data.scene import Scene, peak_scaled, render_scene, render_sources
from pse.data.speech import Voices
from pse.data.wsj0_mix import Entry
from pse.dsp.snr import SILENT_POWER, power
from pse.errors import PseError, first_three

# Of a source while it speaks, in training: mixtures are then as loud on average as tests, whose peak is 0.9.
LEVEL_DBFS = -22.0
MAX_SPEAKERS = 5
# As in WSJ0-mix.
PLAIN = Conditions()


def listed(entry: Entry, voices: Voices) -> MixtureSpec:
    """The mixture of a line of a published list: as long as its shortest utterance (`min`), scaled to a peak of 0.9."""
    gains = [g - voices.level_db[u] for u, g in zip(entry.utts, entry.gains_db, strict=True)]
    sources = tuple(Crop(u, 0, g) for u, g in zip(entry.utts, gains, strict=True))
    length = min(voices.cache.num_samples[u] for u in entry.utts)
    return peak_scaled(MixtureSpec(entry.id, length, 0, sources), voices.cache)


class SpeakerSampler:
    """Draws mixtures of speakers: number n of a stream is the same one on every machine and in every run.

    num_samples: of a mixture; whole: utterances from their starts, and no longer than the shortest one
    (`min`). num_speakers: how many talk at once, 1 to 5, drawn alike. spread_db: the first of two speakers is
    up to this much louder than the second; of three the third lies between (as in WSJ0-3mix).
    pairing: whole takes any speakers, balanced as many pairs of two women, of two men and of both,
    female or male such speakers only, same_speaker two utterances of one, known all of `speakers`,
    who come in this order as sources. conditions: with an overlap the sources begin one after the other;
    the mixture is num_samples long still, and if `whole` as long as they last together, num_samples at most.
    noise: the cache that noises are drawn from. Neither of them, nor a room, changes who is drawn.
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
        conditions: Conditions = PLAIN,
        noise: AudioCache | None = None,
    ) -> None:
        self.voices, self.num_samples, self.seed, self.stream = voices, num_samples, seed, stream
        self.num_speakers, self.pairing, self.spread_db, self.whole = tuple(num_speakers), pairing, spread_db, whole
        self.conditions, self.sources = conditions, Sources(voices.cache, noise)
        self._check()
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

    def _check(self) -> None:
        if not self.num_speakers or not all(1 <= n <= MAX_SPEAKERS for n in self.num_speakers):
            told = ", ".join(map(str, self.num_speakers)) or "none"
            raise PseError(f"mixtures are of 1 to {MAX_SPEAKERS} speakers, not {told}", self.stream, "set num_speakers")
        if self.conditions.noise_snr_db is not None and self.sources.noise is None:
            raise PseError("noise_snr_db is set, and there is no noise", self.stream, "give a cache of noises")

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
            sources, length = self._placed(rng, utts)
            if all(power(crop(self.voices.cache, s, length, loop=False)) >= 100 * SILENT_POWER for s in sources):
                made = MixtureSpec(f"{self.stream}-{number:06d}", length, self.seed, tuple(sources))
                return self._surrounded(rng, made)
        raise PseError(f"{MAX_DRAWS} mixtures in a row have a silent source", self.stream, "check the recordings")

    def _surrounded(self, rng: np.random.Generator, spec: MixtureSpec) -> MixtureSpec:
        """With the noise and the room that are asked for, drawn last: the speech is the same without them."""
        if self.conditions.rt60_s is not None:
            spec = replace(spec, room=draw_room(rng, len(spec.sources), self.conditions.rt60_s))
        if self.conditions.noise_snr_db is not None:
            noise = draw_crop(rng, self.sources.noise, self.sources.noise.ids, spec.num_samples)
            spec = replace(spec, noise=noise, snr_db=float(rng.uniform(*self.conditions.noise_snr_db)))
        return spec

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

    def _placed(self, rng: np.random.Generator, utts: Sequence[str]) -> tuple[list[Crop], int]:
        """Where each utterance starts, its gain (levels as in the WSJ0-mix lists), and the mixture's length."""
        offset = float(rng.uniform(0.0, self.spread_db / 2))
        offsets = [offset, -offset, 0.0, offset / 2, -offset / 2][: len(utts)]
        lengths = [self.voices.cache.num_samples[u] for u in utts]
        length, stretches = self.num_samples, [(0, None)] * len(utts)
        if self.conditions.overlap is not None:
            share = float(rng.uniform(*self.conditions.overlap))
            stretches = staggered(lengths, share, self.num_samples)
            length = sum(stretches[-1]) if self.whole else length
        elif self.whole:
            length = min(length, *lengths)
        placed = []
        for utt, shift, (begin, lasting) in zip(utts, rng.permutation(offsets), stretches, strict=True):
            room = 0 if self.whole else self.voices.cache.num_samples[utt] - (lasting or length)
            start = int(rng.integers(room + 1)) if room > 0 else 0
            placed.append(Crop(utt, start, LEVEL_DBFS + float(shift) - self.voices.level_db[utt], begin, lasting))
        return placed, length

    def render(self, number: int) -> np.ndarray:
        """Draw mixture `number` and render its sources [S, T]; raises PseError under conditions with noise or rooms."""
        return render_sources(self.spec(number), self.voices.cache)

    def scene(self, number: int) -> Scene:
        """Draw mixture `number` and render it with its noise and its room."""
        return self.rendered(self.spec(number))

    def rendered(self, spec: MixtureSpec) -> Scene:
        """A description of `spec` with its noise and its room."""
        return render_scene(spec, self.sources, self.conditions.reference)
