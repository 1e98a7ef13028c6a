"""Mixtures as seeded descriptions: drawn from (seed, stream, number), rendered from audio caches."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pse.config import bind
from pse.data.cache import AudioCache
from pse.data.rooms import Room
from pse.dsp.snr import SILENT_POWER, gain_for_snr, power
from pse.errors import PseError
from pse.io.jsonl import read_jsonl, write_jsonl

# Rare sounds may lie in long silences; a corpus in which this many crops are silent is broken.
MAX_DRAWS = 200


@dataclass(frozen=True)
class Crop:
    """A stretch of a recording: where it starts, by how much it is turned up, and when it is heard.

    offset_samples: into the mixture, which is silent before it. num_samples: how long it lasts; None: until
    the recording or the mixture ends.
    """

    utt: str
    start_samples: int = 0
    gain_db: float = 0.0
    offset_samples: int = 0
    num_samples: int | None = None


@dataclass(frozen=True)
class MixtureSpec:
    """A mixture in words: enough to render it again, sample for sample, from the same caches.

    room: where its sources are heard, one place for each; None: as they were recorded.
    """

    id: str
    num_samples: int
    seed: int
    sources: tuple[Crop, ...]
    noise: Crop | None = None
    snr_db: float | None = None
    premixture_noise: Crop | None = None
    premixture_snr_db: float | None = None
    room: Room | None = None


@dataclass(frozen=True)
class Mixture:
    """A rendered mixture, all [T] float32: mix = premixture + noise, premixture = speech + premixture_noise."""

    speech: np.ndarray
    premixture_noise: np.ndarray
    premixture: np.ndarray
    noise: np.ndarray
    mix: np.ndarray


@dataclass(frozen=True)
class Sources:
    """The caches that mixtures are rendered from; a missing noise leaves that step out."""

    speech: AudioCache
    noise: AudioCache | None = None
    premixture_noise: AudioCache | None = None


def extent(cache: AudioCache, part: Crop, num_samples: int) -> slice:
    """Where in a mixture of num_samples a crop is heard, when it is not repeated."""
    there = cache.num_samples[part.utt] - part.start_samples
    last = part.offset_samples + (there if part.num_samples is None else min(there, part.num_samples))
    return slice(min(part.offset_samples, num_samples), max(part.offset_samples, min(last, num_samples)))


def crop(cache: AudioCache, part: Crop, num_samples: int, loop: bool) -> np.ndarray:
    """Read a crop as [num_samples]: a short recording is repeated (`loop`) or padded with zeros."""
    gain = np.float32(10.0 ** (part.gain_db / 20.0))
    lasting = max(0, num_samples - part.offset_samples)
    if part.num_samples is not None:
        lasting = min(lasting, part.num_samples)
    samples = cache.read(part.utt, part.start_samples, lasting) * gain
    if loop and 0 < len(samples) < lasting:
        samples = np.resize(samples, lasting)
    if len(samples) == num_samples:
        return samples
    before = min(part.offset_samples, num_samples)
    return np.pad(samples, (before, num_samples - before - len(samples)))


def add_noise(signal: np.ndarray, noise: np.ndarray, snr_db: float) -> tuple[np.ndarray, np.ndarray]:
    """(signal + b noise, b noise) with exactly the requested signal-to-noise ratio (2104.02017, section on data)."""
    scaled = (noise * np.float32(gain_for_snr(signal, noise, snr_db))).astype(np.float32)
    return signal + scaled, scaled


def render(spec: MixtureSpec, sources: Sources) -> Mixture:
    """Render a description. Raises PseError naming the mixture when a crop is silent, or it is heard in a room."""
    if spec.room is not None:
        raise PseError(f"mixture {spec.id} is heard in a room", fix="render it with pse.data.scene")
    try:
        speech = sum(crop(sources.speech, s, spec.num_samples, loop=False) for s in spec.sources)
        silence = np.zeros(spec.num_samples, np.float32)
        premixture, first = speech, silence
        if spec.premixture_noise is not None:
            part = crop(sources.premixture_noise, spec.premixture_noise, spec.num_samples, loop=True)
            premixture, first = add_noise(speech, part, spec.premixture_snr_db)
        mix, second = premixture, silence
        if spec.noise is not None:
            part = crop(sources.noise, spec.noise, spec.num_samples, loop=True)
            mix, second = add_noise(premixture, part, spec.snr_db)
    except (ValueError, KeyError) as error:
        raise PseError(f"mixture {spec.id} cannot be rendered: {error}", fix="run the data stage again") from error
    return Mixture(speech, first, premixture, second, mix)


class MixtureSampler:
    """Draws mixtures: number n of a stream is the same mixture on every machine and in every run.

    speech_ids: utterances to draw from. premixture_snr_db, snr_db: ranges of uniform draws in dB;
    None leaves that noise out. Crop positions come from the same generator.
    """

    def __init__(
        self,
        sources: Sources,
        speech_ids: Sequence[str],
        num_samples: int,
        seed: int,
        stream: str,
        snr_db: tuple[float, float] | None = (-5.0, 5.0),
        premixture_snr_db: tuple[float, float] | None = None,
    ) -> None:
        self.sources, self.speech_ids, self.num_samples = sources, list(speech_ids), num_samples
        self.seed, self.stream = seed, stream
        self.snr_db = snr_db if sources.noise is not None else None
        self.premixture_snr_db = premixture_snr_db if sources.premixture_noise is not None else None
        self._key = zlib.crc32(stream.encode())
        if not self.speech_ids:
            raise PseError("no utterances to draw mixtures from", stream)

    def generator(self, number: int) -> np.random.Generator:
        """The random generator of mixture `number`."""
        return np.random.default_rng([self.seed, self._key, number])

    def spec(self, number: int, unlike: MixtureSpec | None = None) -> MixtureSpec:
        """Draw description `number`; silent crops are drawn again from the same generator.

        Utterance and noise are not those of `unlike`, where there is another one.
        """
        rng = self.generator(number)
        noise = first = None
        others = _without(self.speech_ids, unlike and unlike.sources[0])
        speech = draw_crop(rng, self.sources.speech, others, self.num_samples)
        if self.premixture_snr_db is not None:
            cache = self.sources.premixture_noise
            first = draw_crop(rng, cache, cache.ids, self.num_samples)
        if self.snr_db is not None:
            cache = self.sources.noise
            noise = draw_crop(rng, cache, _without(cache.ids, unlike and unlike.noise), self.num_samples)
        return MixtureSpec(
            id=f"{self.stream}-{number:06d}",
            num_samples=self.num_samples,
            seed=self.seed,
            sources=(speech,),
            noise=noise,
            snr_db=None if noise is None else float(rng.uniform(*self.snr_db)),
            premixture_noise=first,
            premixture_snr_db=None if first is None else float(rng.uniform(*self.premixture_snr_db)),
        )

    def render(self, number: int) -> Mixture:
        """Draw and render mixture `number`."""
        return render(self.spec(number), self.sources)


def _without(ids: Sequence[str], part: Crop | None) -> Sequence[str]:
    return [i for i in ids if i != part.utt] or ids if part is not None else ids


def draw_crop(rng: np.random.Generator, cache: AudioCache, ids: Sequence[str], num_samples: int) -> Crop:
    """A stretch of num_samples that is not silent. Raises PseError when there seems to be none."""
    for _ in range(MAX_DRAWS):
        utt = ids[int(rng.integers(len(ids)))]
        room = cache.num_samples[utt] - num_samples
        part = Crop(utt, int(rng.integers(room + 1)) if room > 0 else 0)
        if power(cache.read(utt, part.start_samples, num_samples)) >= SILENT_POWER * 100:
            return part
    raise PseError(f"{MAX_DRAWS} random crops in a row are silent, the last of {utt}", cache.directory)


def write_specs(path: str | Path, specs: Iterable[MixtureSpec]) -> None:
    """Write descriptions as JSON lines; what is said of overlaps and rooms only where there is one."""
    write_jsonl(path, (_plain(s) for s in specs))


def _plain(spec: MixtureSpec) -> dict[str, Any]:
    # Sets without such conditions keep the bytes that they had before there were any.
    value = asdict(spec)
    if spec.room is None:
        del value["room"]
    for part in (*value["sources"], value["noise"], value["premixture_noise"]):
        if part is not None:
            if not part["offset_samples"]:
                del part["offset_samples"]
            if part["num_samples"] is None:
                del part["num_samples"]
    return value


def read_specs(path: str | Path) -> list[MixtureSpec]:
    """Read descriptions. Raises PseError naming file and line of a malformed one."""
    return [bind(MixtureSpec, value, f"{path}:{i}") for i, value in enumerate(read_jsonl(path), 1)]
