"""How steady a voice is: pitch, timbre, energy and speaking rate of one speaker against those of all.

Ochieng (2305.10652) takes the frames of a speaker for augmentations of one hidden frame, as if prosody were steady.
That holds as far as two measurements of one speaker are more alike than two of anybody: the intraclass correlation
ICC(1) of Shrout & Fleiss, Psychological Bulletin 86(2), 1979, here of pairs so many seconds apart. Close together
they are alike because they hear the same phone; what is left far apart is the speaker's.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.fft import dct, next_fast_len
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

FRAME_S, HOP_S = 0.032, 0.01
# Of the loudest frame of a recording: what is quieter is a pause.
ACTIVE_DB = -40.0
NUM_MEL, NUM_CEPSTRA = 24, 12
# Two periods of the lowest pitch, and more, have to be in a window.
PITCH_S, MIN_HZ, MAX_HZ, VOICED, OCTAVE_COST, LEAP_SEMITONES = 0.064, 70.0, 400.0, 0.5, 0.02, 2.0
# A syllable is a peak of the smoothed level that stands out by so much, and no two are nearer than the least gap.
RATE_S, RATE_HOP_S, SMOOTH_S, PROMINENCE_DB, SYLLABLE_GAP_S, SYLLABLE_DB = 1.0, 0.1, 0.03, 3.0, 0.1, -25.0
NUM_RESAMPLES = 1000
# Stretches of one recording that are compared are at least so far apart, or one sound would be in both.
APART_S = 1.0


class Measured(NamedTuple):
    """A quantity of a recording: values [F, C], whether it is there [F], and the seconds from one to the next."""

    values: np.ndarray
    there: np.ndarray
    hop_s: float


class Agreement(NamedTuple):
    """ICC(1) and F ratio of pairs of n speakers, each with the ends of its 95 % interval over speakers."""

    icc: float
    icc_low: float
    icc_high: float
    f_ratio: float
    f_low: float
    f_high: float
    n: int


def measure(samples: np.ndarray, sample_rate: int) -> dict[str, Measured]:
    """Pitch (semitones re 100 Hz), timbre (mel cepstra without level), energy (dB re its mean), rate (syllables/s).

    samples: [T], of one speaker. The first three are of frames every 10 ms (of 32 ms; pitch of 64), there where the
    frame is no pause, pitch where it is voiced; the rate is of windows of 1 s every 0.1 s that are mostly speech.
    Energy is relative to the recording's own: its level is the microphone's.
    """
    hop = round(HOP_S * sample_rate)
    frames = _frames(samples, round(FRAME_S * sample_rate), hop)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    level_db = 10 * np.log10(np.maximum(power.sum(1), np.finfo(float).tiny))
    active = (level_db > level_db.max() + ACTIVE_DB) & (power.sum(1) > 0)
    mean_db = 10 * np.log10(power.sum(1)[active].mean()) if active.any() else 0.0
    pitch_hz, periodicity = _pitch(_frames(samples, round(PITCH_S * sample_rate), hop), sample_rate)
    semitones = 12 * np.log2(pitch_hz / 100)
    # A voice glides; what leaps between two frames is an octave too high or low, or noise.
    leaps = np.abs(np.diff(semitones, prepend=np.inf, append=np.inf)) > LEAP_SEMITONES
    voiced = active & (periodicity > VOICED) & ~leaps[:-1] & ~leaps[1:]
    return {
        "pitch": Measured(semitones[:, None], voiced, HOP_S),
        "timbre": Measured(_cepstra(power, sample_rate), active, HOP_S),
        "energy": Measured((level_db - mean_db)[:, None], active, HOP_S),
        "rate": _rate(level_db, active),
    }


def lagged(recordings: Sequence[Measured], lag_s: float) -> np.ndarray:
    """All pairs [N, 2, C] of one recording whose two measurements are `lag_s` seconds apart."""
    found = [np.empty((0, 2, recordings[0].values.shape[1]))]
    for one in recordings:
        lag = round(lag_s / one.hop_s)
        both = one.there[:-lag] & one.there[lag:]
        found.append(np.stack([one.values[:-lag][both], one.values[lag:][both]], 1))
    return np.concatenate(found)


def across(recordings: Sequence[Measured], count: int, seed: int = 0) -> np.ndarray:
    """Pairs [N, 2, C] of different recordings, `count` at random of each two; none where there is one alone."""
    random, found = np.random.default_rng(seed), [np.empty((0, 2, recordings[0].values.shape[1]))]
    usable = [one.values[one.there] for one in recordings if one.there.any()]
    for i, first in enumerate(usable):
        for second in usable[i + 1 :]:
            pair = [x[random.integers(len(x), size=count)] for x in (first, second)]
            found.append(np.stack(pair, 1))
    return np.concatenate(found)


def agreement(speakers: Sequence[np.ndarray], seed: int = 0) -> Agreement | None:
    """How much more alike two measurements of a speaker are than two of anybody; None for less than three speakers.

    speakers: for each the pairs [N, 2, C]; those with less than two are left out. The mean squares are those of one
    pair a speaker, averaged over all such choices: between speakers twice the variance of the pairs' means, within
    them half the mean squared difference; F is their ratio and ICC(1) = (F - 1) / (F + 1). Those of several
    numbers C are added. The interval is the bootstrap's, over speakers.
    """
    speakers = [pairs for pairs in speakers if len(pairs) > 1]
    size = len(speakers)
    if size < 3:
        return None
    means = np.stack([pairs.mean((0, 1)) for pairs in speakers])
    # About their own mean, whose variance has the rest of that of a single pair.
    spread = np.stack([pairs.mean(1).var(0).sum() for pairs in speakers])
    within = np.stack([0.5 * np.square(pairs[:, 0] - pairs[:, 1]).mean(0).sum() for pairs in speakers])
    drawn = np.random.default_rng(seed).integers(size, size=(NUM_RESAMPLES, size))
    ratios = []
    for chosen in (np.arange(size), *drawn):
        between = 2 * (means[chosen].var(0, ddof=1).sum() + spread[chosen].mean())
        ratios.append(between / max(within[chosen].mean(), np.finfo(float).tiny))
    f, low, high = ratios[0], *np.quantile(ratios[1:], (0.025, 0.975))
    return Agreement(*(float((x - 1) / (x + 1)) for x in (f, low, high)), float(f), float(low), float(high), size)


def averages(one: Measured, duration_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Means [N, C] over stretches of `duration_s` one after the other, at least half there; their starts [N] in s."""
    # A stretch has the frames that lie within it.
    count = max(1, 1 + int((duration_s - FRAME_S) / one.hop_s + 1e-6))
    step = max(count, round(duration_s / one.hop_s))
    found, starts = [np.empty((0, one.values.shape[1]))], []
    for start in range(0, len(one.there) - count + 1, step):
        there = one.there[start : start + count]
        if 2 * there.sum() >= count and there.any():
            found.append(one.values[start : start + count][there].mean(0, keepdims=True))
            starts.append(start * one.hop_s)
    return np.concatenate(found), np.array(starts)


def verification_eer(
    vectors: np.ndarray, speakers: np.ndarray, recordings: np.ndarray, starts_s: np.ndarray | None = None
) -> float:
    """Equal error rate in percent of telling whether two vectors [N, C] are one speaker's.

    speakers, recordings: whole numbers [N]. By the distance of the vectors, each number divided by its deviation
    within a recording. A speaker's pairs are of different recordings; with starts_s [N] of one, at least APART_S
    apart, where the microphone helps. Not a number where there is no such pair.
    """
    import torch

    from pse.scoring.verification import equal_error_rate

    # Within each recording, the variance about its own mean.
    names, which = np.unique(recordings, return_inverse=True)
    sums = np.zeros((len(names), vectors.shape[1]))
    np.add.at(sums, which, vectors)
    about = vectors - (sums / np.bincount(which)[:, None])[which]
    scaled = torch.from_numpy(vectors / np.maximum(about.std(0), 1e-9))
    first, second = np.triu_indices(len(vectors), 1)
    same, compared = speakers[first] == speakers[second], recordings[first] != recordings[second]
    if starts_s is not None:
        compared = np.where(same, ~compared & (np.abs(starts_s[first] - starts_s[second]) >= APART_S), compared)
    scores = -torch.cdist(scaled, scaled)[first[compared], second[compared]]
    return equal_error_rate(scores, torch.from_numpy(same[compared]))


def _frames(samples: np.ndarray, width: int, hop: int) -> np.ndarray:
    """Hann-windowed frames [F, N] centred on every multiple of the hop, with zeros beyond the ends."""
    padded = np.pad(np.asarray(samples, np.float64), (width // 2, width))
    frames = np.lib.stride_tricks.sliding_window_view(padded, width)[::hop][: 1 + len(samples) // hop]
    return frames * np.hanning(width + 1)[:-1]


def _pitch(frames: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Pitch in Hz and how periodic each is, -1 to 1, of windowed frames [F, N]: two arrays [F].

    The highest peak of the autocorrelation divided by that of the window: Boersma, Proc. IFA Amsterdam 17, 1993.
    """
    width = frames.shape[1]
    size = next_fast_len(2 * width, real=True)
    own = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(width + 1)[:-1], size)) ** 2, size)
    heard = np.fft.irfft(np.abs(np.fft.rfft(frames, size, axis=1)) ** 2, size, axis=1)
    first, last = int(sample_rate / MAX_HZ), int(np.ceil(sample_rate / MIN_HZ))
    lags = np.arange(first - 1, last + 2)
    likeness = heard[:, lags] / np.maximum(heard[:, :1], np.finfo(float).tiny) * (own[0] / own[lags])
    before, at, after = likeness[:, :-2], likeness[:, 1:-1], likeness[:, 2:]
    peak = (at >= before) & (at >= after)
    bend = np.minimum(before - 2 * at + after, -1e-9)
    # The top of the parabola: of a peak between two samples the samples are lower than its double's may be.
    offset = np.where(peak, 0.5 * (before - after) / bend, 0.0)
    height = at - 0.25 * (before - after) * offset
    # As good a peak at half the pitch is the same pitch.
    liked = np.where(peak, height - OCTAVE_COST * np.log2(lags[1:-1] * MIN_HZ / sample_rate), -np.inf)
    best = liked.argmax(1)[:, None]
    period = lags[1:-1][best[:, 0]] + np.take_along_axis(offset, best, 1)[:, 0]
    return sample_rate / period, np.where(peak.any(1), np.take_along_axis(height, best, 1)[:, 0], -1.0)


@functools.lru_cache(maxsize=4)
def _mel_bands(num_bins: int, sample_rate: int) -> np.ndarray:
    """Triangles [NUM_MEL, K] with their corners evenly spaced on the mel scale, from 0 to half the rate."""
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, NUM_MEL + 2) / 2595) - 1)
    hz = np.linspace(0, sample_rate / 2, num_bins)
    rising = (hz - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - hz) / np.diff(corners)[1:, None]
    return np.maximum(0, np.minimum(rising, falling))


def _cepstra(power: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mel cepstra [F, NUM_CEPSTRA] of power spectra [F, K], in dB; the first, which is the level, is left out."""
    energies = power @ _mel_bands(power.shape[1], sample_rate).T
    floor = max(energies.max() * 1e-8, np.finfo(float).tiny)
    return dct(10 * np.log10(np.maximum(energies, floor)), norm="ortho", axis=1)[:, 1 : NUM_CEPSTRA + 1]


def _rate(level_db: np.ndarray, active: np.ndarray) -> Measured:
    """Syllable-like peaks a second, in windows of RATE_S."""
    floored = np.maximum(level_db, level_db.max() + ACTIVE_DB)
    smooth = gaussian_filter1d(floored, SMOOTH_S / HOP_S)
    height, gap = smooth.max() + SYLLABLE_DB, max(1, round(SYLLABLE_GAP_S / HOP_S))
    peaks, _ = find_peaks(smooth, height=height, prominence=PROMINENCE_DB, distance=gap)
    width, step = round(RATE_S / HOP_S), round(RATE_HOP_S / HOP_S)
    starts = np.arange(0, max(0, len(level_db) - width + 1), step)
    counts = np.searchsorted(peaks, starts + width) - np.searchsorted(peaks, starts)
    speech = np.array([active[s : s + width].mean() >= 0.5 for s in starts], bool)
    return Measured(counts[:, None] / RATE_S, speech, RATE_HOP_S)
