"""Voices that differ as people do: vocal tract, pitch, tempo, accent, microphone and room."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import soxr

from pse.corpora import espeak, sentences

SAMPLE_RATE = 16000
ACCENTS = "en-us en-gb-x-rp en-gb-scotland en-029 en-gb-x-gbclan en-gb-x-gbcwmd en-us-nyc en".split()
# Variants of espeak-ng that sound like a person; robots, whispers, overdriven and dull
# ones (little above 1 kHz) are left out.
SPEAKER_VARIANTS = {
    "F": "f1 f2 f3 f4 f5 Alicia Andrea aunty belinda linda shelby".split(),
    "M": (
        "m1 m2 m3 m4 m5 m6 m7 m8 Alex Andy Denis Diogo Gene Lee Mario Michael Mike Reed adam antonio boris "
        "david ed edward ian john klatt4 norbert pablo paul pedro quincy robert sandro victor"
    ).split(),
}
# Kept back for the crowd in babble noise, so that no speaker of the corpus is in it.
BYSTANDER_VARIANTS = {
    "F": "grandma Annie steph2".split(),
    "M": "grandpa travis edward2 marcelo miguel max".split(),
}
TRACT = {"F": (0.96, 1.12), "M": (0.90, 1.08)}
PITCH = {"F": (22.0, 58.0), "M": (28.0, 80.0)}
RATE_WPM = (135.0, 190.0)
# Characters a second at the library's 170 words a minute, measured over the grammar's sentences.
CHARACTERS_PER_S = 17.3
KERNEL_S = 0.16
FLOOR_DBFS = (-74.0, -64.0)
LEVEL_DBFS = (-27.5, -22.5)
PEAK = 0.9


@dataclass(frozen=True)
class Voice:
    """One voice. `tract` stretches all formants (and the pitch); `seed` fixes microphone and room."""

    name: str
    rate_wpm: float
    pitch: float
    pitch_range: float
    tract: float
    level_dbfs: float
    floor_dbfs: float
    seed: int

    @property
    def characters_per_s(self) -> float:
        """How fast it speaks, about."""
        return CHARACTERS_PER_S * self.rate_wpm / 170


def speaker(sex: str, number: int, seed: int) -> Voice:
    """The voice of the `number`-th speaker of a sex ("F" or "M") in the corpus of a seed.

    No two speakers share a variant before all variants are used; tract, pitch and tempo follow a
    low-discrepancy sequence, so that any few speakers are already spread out.
    """
    shared = np.random.default_rng([seed, ord(sex)])
    variants = shared.permutation(SPEAKER_VARIANTS[sex])
    accents = shared.permutation(ACCENTS)
    # Kronecker sequence with the generalised golden ratio of three dimensions.
    place = (shared.random(3) + number * np.array([0.8191725134, 0.6710436067, 0.5497004779])) % 1
    own = np.random.default_rng([seed, ord(sex), number])
    cycle = number // len(variants)
    name = f"{accents[(number + cycle) % len(accents)]}+{variants[number % len(variants)]}"
    return _voice(name, sex, place, own)


def bystander(rng: np.random.Generator) -> Voice:
    """A voice that no speaker of the corpus has."""
    sex = "FM"[rng.integers(2)]
    name = f"{rng.choice(ACCENTS)}+{rng.choice(BYSTANDER_VARIANTS[sex])}"
    return _voice(name, sex, rng.random(3), rng)


def _voice(name: str, sex: str, place: np.ndarray, rng: np.random.Generator) -> Voice:
    def between(limits: tuple[float, float], share: float) -> float:
        return float(limits[0] + (limits[1] - limits[0]) * share)

    return Voice(
        name=name,
        rate_wpm=between(RATE_WPM, place[2]),
        pitch=between(PITCH[sex], place[0]),
        pitch_range=between((35.0, 75.0), rng.random()),
        tract=between(TRACT[sex], place[1]),
        level_dbfs=between(LEVEL_DBFS, rng.random()),
        floor_dbfs=between(FLOOR_DBFS, rng.random()),
        seed=int(rng.integers(2**31)),
    )


def chatter(rng: np.random.Generator, num_samples: int, sample_rate: int) -> np.ndarray:
    """Some bystander talking on and on: [num_samples] at `sample_rate`."""
    voice, parts, missing = bystander(rng), [], num_samples
    while missing > 0:
        text = sentences.paragraph(rng, round(1.2 * missing / sample_rate * voice.characters_per_s))
        parts.append(say(voice, text, int(rng.integers(2**31)), sample_rate)[:missing])
        missing -= len(parts[-1])
    return np.concatenate(parts)


def say(voice: Voice, text: str, seed: int, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Speak `text`: [T] float32 at `sample_rate`, at the voice's level, never clipped.

    Equal arguments give equal samples. Raises what `espeak.render` raises.
    """
    rng = np.random.default_rng(seed)
    dry = espeak.render(
        text,
        voice.name,
        # Played faster by `tract`, the tempo would rise with it.
        rate_wpm=round(voice.rate_wpm / voice.tract),
        pitch=round(voice.pitch),
        pitch_range=round(voice.pitch_range),
        seed=int(rng.integers(1, 2**31)),
    )
    samples = soxr.resample(dry, espeak.SAMPLE_RATE * voice.tract, sample_rate, quality="HQ")
    samples = _trimmed(samples.astype(np.float64), rng, sample_rate)
    samples = _filtered(samples, _colour(voice, sample_rate))
    samples *= 10 ** ((voice.level_dbfs + rng.uniform(-1.5, 1.5)) / 20) / np.sqrt(np.mean(samples**2))
    samples += 10 ** (voice.floor_dbfs / 20) * rng.standard_normal(len(samples))
    return (samples * min(1.0, PEAK / np.abs(samples).max())).astype(np.float32)


def _trimmed(samples: np.ndarray, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """The signal from its first to its last sound, with a short pause of its own before and after."""
    loud = np.flatnonzero(np.abs(samples) > 1e-3 * np.abs(samples).max())
    before, after = (rng.uniform(0.10, 0.35, 2) * sample_rate).astype(int)
    return np.pad(samples[loud[0] : loud[-1] + 1], (before, after))


def _filtered(samples: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    size = 1 << (len(samples) + len(kernel) - 1).bit_length()
    return np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(kernel, size), size)[: len(samples)]


@lru_cache(maxsize=64)
def _colour(voice: Voice, sample_rate: int) -> np.ndarray:
    """Impulse response of a voice's microphone and room: a mild equaliser and a short decay."""
    rng = np.random.default_rng(voice.seed)
    size = 1 << int(KERNEL_S * sample_rate).bit_length()
    octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / sample_rate), 20.0) / 1000)
    gain_db = rng.uniform(-1.5, 1.5) * np.clip(octaves, -3, 3)
    for centre, width, height in zip(
        rng.uniform(-3, 2.5, 3), rng.uniform(0.3, 0.9, 3), rng.uniform(-4, 4, 3), strict=True
    ):
        gain_db += height * np.exp(-(((octaves - centre) / width) ** 2))
    # Second-order high-pass, as in every microphone preamplifier.
    corner = np.log2(rng.uniform(50, 90) / 1000)
    gain_db -= 10 * np.log10(1 + 2.0 ** (4 * (corner - octaves)))
    kernel = _minimum_phase(gain_db)
    decay_s = rng.uniform(0.08, 0.22)
    time_s = np.arange(size) / sample_rate
    tail = rng.standard_normal(size) * np.exp(-6.91 * time_s / decay_s) * (time_s > rng.uniform(0.002, 0.006))
    room = np.zeros(size)
    room[0] = 1.0
    room += tail * np.sqrt(10 ** (-rng.uniform(10, 18) / 10) / np.sum(tail**2))
    return _filtered(room, kernel)[: int(KERNEL_S * sample_rate)]


def _minimum_phase(gain_db: np.ndarray) -> np.ndarray:
    """The causal filter of least delay with these gains at the bins of a real FFT (homomorphic)."""
    size = 2 * (len(gain_db) - 1)
    cepstrum = np.fft.irfft(gain_db * np.log(10) / 20)
    fold = np.zeros(size)
    fold[0] = fold[size // 2] = 1.0
    fold[1 : size // 2] = 2.0
    return np.fft.irfft(np.exp(np.fft.rfft(cepstrum * fold)), size)
