"""Noises, synthesised: six classes whose recordings all differ in their parameters.

Every maker takes (rng, num_samples, sample_rate) and returns [T] float64 at any level; `render`
sets the level. All randomness comes from the generator that is handed in.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

KINDS = ("stationary", "modulated", "impulsive", "hum", "babble", "music")
LEVEL_DBFS = (-28.0, -21.0)
PEAK = 0.9
# Crest factor (peak over root mean square) above which peaks are bent, so that no noise has to be very faint.
MAX_CREST = 18.0
# Talker(rng, num_samples, sample_rate) -> somebody talking without end, [num_samples].
Talker = Callable[[np.random.Generator, int, int], np.ndarray]
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 3, 5, 7, 10), (0, 2, 4, 7, 9))


def render(kind: str, rng: np.random.Generator, seconds: float, sample_rate: int, talker: Talker) -> np.ndarray:
    """A noise of a class: [T] float32, between -28 and -21 dBFS, never clipped.

    `talker` gives the voices of babble; the other classes do not call it.
    """
    num_samples = round(seconds * sample_rate)
    if kind == "babble":
        samples = babble(rng, num_samples, sample_rate, talker)
    else:
        samples = _MAKERS[kind](rng, num_samples, sample_rate)
    return levelled(samples, rng)


def levelled(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[T] at a level drawn from the usual range, lower where it would clip, with faded ends."""
    samples = samples - samples.mean()
    fade = np.linspace(0.0, 1.0, min(200, len(samples) // 2))
    samples[: len(fade)] *= fade
    samples[len(samples) - len(fade) :] *= fade[::-1]
    knee = MAX_CREST * np.sqrt(np.mean(samples**2))
    if np.abs(samples).max() > knee:
        samples = knee * np.tanh(samples / knee)
    gain = 10 ** (rng.uniform(*LEVEL_DBFS) / 20) / np.sqrt(np.mean(samples**2))
    return (samples * min(gain, PEAK / np.abs(samples).max())).astype(np.float32)


def stationary(rng: np.random.Generator, num_samples: int, sample_rate: int) -> np.ndarray:
    """Rain, fans, air: filtered Gaussian noise of a steady level."""
    octaves = np.log2(np.maximum(np.fft.rfftfreq(num_samples, 1 / sample_rate), 10.0) / 1000)
    gain_db = rng.uniform(-7, 1) * octaves
    for _ in range(rng.integers(0, 4)):
        centre, width = rng.uniform(-3, 2.5), rng.uniform(0.1, 0.6)
        gain_db += rng.uniform(5, 15) * np.exp(-(((octaves - centre) / width) ** 2))
    low, high = np.log2(rng.uniform(30, 150) / 1000), np.log2(rng.uniform(2500, 7500) / 1000)
    gain_db -= 10 * np.log10(1 + 2.0 ** (4 * (low - octaves)))
    gain_db -= 10 * np.log10(1 + 2.0 ** (4 * (octaves - high)))
    return np.fft.irfft(np.fft.rfft(rng.standard_normal(num_samples)) * 10 ** (gain_db / 20), num_samples)


def modulated(rng: np.random.Generator, num_samples: int, sample_rate: int) -> np.ndarray:
    """Surf, gusts, saws, rotors: noise whose level swells regularly or at random."""
    carrier = stationary(rng, num_samples, sample_rate)
    time_s = np.arange(num_samples) / sample_rate
    if rng.random() < 0.5:
        rate_hz = np.exp(rng.uniform(np.log(0.5), np.log(12)))
        wobble = 0.3 * _slow(rng, num_samples, sample_rate, 0.5)
        swell = np.sin(2 * np.pi * rate_hz * time_s + wobble + rng.uniform(0, 2 * np.pi))
    else:
        swell = _slow(rng, num_samples, sample_rate, np.exp(rng.uniform(np.log(0.6), np.log(6))))
    return carrier * 10 ** (rng.uniform(8, 14) * np.clip(swell, -2.0, 1.2) / 20)


def _slow(rng: np.random.Generator, num_samples: int, sample_rate: int, cutoff_hz: float) -> np.ndarray:
    """Gaussian noise below `cutoff_hz`, with standard deviation 1."""
    knots = rng.standard_normal(int(2 * cutoff_hz * num_samples / sample_rate) + 4)
    place = np.arange(num_samples) * (2 * cutoff_hz / sample_rate)
    left, share = place.astype(int), place % 1
    share = 0.5 - 0.5 * np.cos(np.pi * share)
    curve = knots[left] * (1 - share) + knots[left + 1] * share
    return curve / (curve.std() + 1e-9)


def impulsive(rng: np.random.Generator, num_samples: int, sample_rate: int) -> np.ndarray:
    """Knocks, clicks, hammers, typing: short decaying bursts over a faint floor."""
    samples = 10 ** (rng.uniform(-52, -40) / 20) * stationary_unit(rng, num_samples, sample_rate)
    mean_gap_s = np.exp(rng.uniform(np.log(0.12), np.log(0.8)))
    regular = rng.random() < 0.4
    modes_hz = rng.uniform(120, 3500, rng.integers(2, 7))
    decays_s = np.exp(rng.uniform(np.log(0.008), np.log(0.05), len(modes_hz)))
    time_s = np.arange(int(0.25 * sample_rate)) / sample_rate
    hiss_share, hiss_decay_s = rng.uniform(0.2, 1.0), rng.uniform(0.003, 0.02)
    start_s = rng.uniform(0.05, 0.3)
    while start_s < num_samples / sample_rate - 0.05:
        phases = rng.uniform(0, 2 * np.pi, len(modes_hz))
        burst = hiss_share * rng.standard_normal(len(time_s)) * np.exp(-time_s / hiss_decay_s)
        for mode_hz, decay_s, phase in zip(modes_hz * rng.uniform(0.98, 1.02), decays_s, phases, strict=True):
            burst += np.sin(2 * np.pi * mode_hz * time_s + phase) * np.exp(-time_s / decay_s)
        start = int(start_s * sample_rate)
        part = samples[start : start + len(burst)]
        part += 10 ** (rng.uniform(-9, 0) / 20) * burst[: len(part)]
        start_s += mean_gap_s * (rng.uniform(0.97, 1.03) if regular else 0.05 + rng.exponential(0.95))
    return samples


def stationary_unit(rng: np.random.Generator, num_samples: int, sample_rate: int) -> np.ndarray:
    """Stationary noise with standard deviation 1, as a background of the other classes."""
    samples = stationary(rng, num_samples, sample_rate)
    return samples / samples.std()


def hum(rng: np.random.Generator, num_samples: int, sample_rate: int) -> np.ndarray:
    """Mains, motors, engines: many harmonics of one low tone that hardly moves, over a little noise."""
    base_hz = rng.choice([50.0, 60.0]) if rng.random() < 0.3 else np.exp(rng.uniform(np.log(45), np.log(320)))
    drift = 1 + rng.uniform(0, 0.006) * _slow(rng, num_samples, sample_rate, 0.7)
    phase = 2 * np.pi * base_hz * np.cumsum(drift) / sample_rate
    count = int(min(rng.integers(8, 40), 0.45 * min(sample_rate, 16000) / (1.05 * base_hz)))
    order = np.arange(1, count + 1)
    weights = order ** -rng.uniform(0.4, 1.4) * 10 ** (rng.normal(0, 5, count) / 20)
    samples = np.zeros(num_samples)
    for number, weight, start in zip(order, weights, rng.uniform(0, 2 * np.pi, count), strict=True):
        samples += weight * np.sin(number * phase + start)
    floor_db = rng.uniform(-32, -20)
    return samples / samples.std() + 10 ** (floor_db / 20) * stationary_unit(rng, num_samples, sample_rate)


def babble(rng: np.random.Generator, num_samples: int, sample_rate: int, talker: Talker) -> np.ndarray:
    """Several people talking at once, each at a level of their own, without a pause."""
    samples = np.zeros(num_samples)
    for _ in range(rng.integers(4, 8)):
        skipped = int(rng.uniform(0, 2) * sample_rate)
        stream = talker(rng, num_samples + skipped, sample_rate)[skipped:]
        samples += 10 ** (rng.uniform(-6, 0) / 20) * stream / stream.std()
    return samples


def music(rng: np.random.Generator, num_samples: int, sample_rate: int) -> np.ndarray:
    """Tunes and chords: notes of a scale in a steady tempo, harmonic tones with an attack and a decay."""
    beat_s = 60 / rng.uniform(70, 160)
    scale, root_hz = SCALES[rng.integers(len(SCALES))], 110 * 2 ** rng.uniform(0, 1.2)
    weights = np.arange(1, rng.integers(4, 11)) ** -rng.uniform(0.8, 2.0) * rng.uniform(0.3, 1.0)
    sustain_s, attack_s = np.exp(rng.uniform(np.log(0.2), np.log(1.5))), rng.uniform(0.004, 0.05)
    voices = rng.integers(1, 4)
    samples = np.zeros(num_samples)
    start_s, degree = 0.0, 0
    while start_s < num_samples / sample_rate - 0.05:
        length_s = beat_s * rng.choice([0.5, 1.0, 1.0, 2.0])
        degree = int(np.clip(degree + rng.integers(-3, 4), -4, 11))
        for voice in range(voices):
            octave, step = divmod(degree + 2 * voice, len(scale))
            tone_hz = root_hz * 2 ** (octave + scale[step] / 12)
            num = min(int((length_s + 0.3) * sample_rate), num_samples - int(start_s * sample_rate))
            time_s = np.arange(num) / sample_rate
            shape = np.minimum(1, time_s / attack_s) * np.exp(-time_s / sustain_s)
            shape *= np.clip((length_s + 0.3 - time_s) / 0.08, 0, 1)
            begin = int(start_s * sample_rate)
            samples[begin : begin + num] += shape * _tone(tone_hz, weights, time_s, sample_rate)
        start_s += length_s
    return samples + 1e-3 * samples.std() * rng.standard_normal(num_samples)


def _tone(tone_hz: float, weights: np.ndarray, time_s: np.ndarray, sample_rate: int) -> np.ndarray:
    total = np.zeros(len(time_s))
    for number, weight in enumerate(weights, 1):
        if number * tone_hz < 0.45 * min(sample_rate, 16000):
            total += weight * np.sin(2 * np.pi * number * tone_hz * time_s)
    return total


_MAKERS = {
    "stationary": stationary,
    "modulated": modulated,
    "impulsive": impulsive,
    "hum": hum,
    "music": music,
}
