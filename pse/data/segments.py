"""Segments of fixed mixtures of speakers, to train on."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pse.data.cache import AudioCache
from pse.data.conditions import Reference
from pse.data.mixture import MAX_DRAWS, Crop, MixtureSpec, Sources, crop
from pse.data.scene import Scene, render_scene, render_sources
from pse.data.speech import Voices
from pse.dsp.snr import SILENT_POWER, power


class FixedSampler:
    """Draws segments of fixed mixtures: each once an epoch, in an order and at a place that the epoch decides.

    num_samples: of a segment; a shorter mixture ends in silence. noise, reference: what scenes are rendered
    with; noise is as loud against the louder speaker of the segment as against that of the mixture, and a
    room is silent before it. Number n is the same one on every machine and in every run.
    """

    def __init__(
        self,
        voices: Voices,
        specs: Sequence[MixtureSpec],
        num_samples: int,
        seed: int,
        stream: str,
        noise: AudioCache | None = None,
        reference: Reference = "reverberant",
    ) -> None:
        self.voices, self.specs, self.num_samples, self.seed, self.stream = voices, specs, num_samples, seed, stream
        self.sources, self.reference = Sources(voices.cache, noise), reference
        self._key = zlib.crc32(stream.encode())
        self.num_speakers = tuple(sorted({len(s.sources) for s in specs}))
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
            sources = tuple(_from(s, start) for s in whole.sources)
            length = min(self.num_samples, whole.num_samples)
            if all(power(crop(self.voices.cache, s, length, loop=False)) >= 100 * SILENT_POWER for s in sources):
                break
        name, noise = f"{self.stream}-{number:06d}", whole.noise
        if noise is not None and self.sources.noise is not None:
            # It goes round where it is shorter than the mixture.
            around = max(1, self.sources.noise.num_samples[noise.utt] - noise.start_samples)
            noise = replace(noise, start_samples=noise.start_samples + start % around)
        return replace(whole, id=name, num_samples=length, seed=self.seed, sources=sources, noise=noise)

    def render(self, number: int) -> np.ndarray:
        """Draw segment `number` and render its sources [S, T]; a shorter mixture is padded to num_samples."""
        return self._padded(render_sources(self.spec(number), self.voices.cache))

    def scene(self, number: int) -> Scene:
        """Draw segment `number` and render it with its noise and its room, padded to num_samples."""
        made = self.rendered(self.spec(number))
        noise = None if made.noise is None else self._padded(made.noise)
        return replace(made, mix=self._padded(made.mix), sources=self._padded(made.sources), noise=noise)

    def rendered(self, spec: MixtureSpec) -> Scene:
        """A description of `spec` with its noise and its room, as long as it says."""
        return render_scene(spec, self.sources, self.reference)

    def _padded(self, signals: np.ndarray) -> np.ndarray:
        missing = self.num_samples - signals.shape[-1]
        return np.pad(signals, [(0, 0)] * (signals.ndim - 1) + [(0, missing)])


def _from(part: Crop, start: int) -> Crop:
    """A crop of a mixture as it is heard in a segment that begins at sample `start`."""
    skipped = max(0, start - part.offset_samples)
    left = None if part.num_samples is None else max(0, part.num_samples - skipped)
    return replace(
        part, start_samples=part.start_samples + skipped, offset_samples=max(0, part.offset_samples - start),
        num_samples=left,
    )  # fmt: skip
