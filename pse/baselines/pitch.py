"""Up to two pitches at every frame of a recording, tracked together, and how well each bin fits them.

A comb of harmonic lobes for every candidate, and for every pair of them, is compared with the compressed
spectrum; a dynamic programme over pairs (a factorial hidden Markov model in the max approximation, as in
Wu, Wang & Brown, IEEE TSAP 11(3), 2003, with combs in place of correlograms) makes tracks of the scores.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from scipy.fft import next_fast_len
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

CANDIDATES = 72
WINDOW_S = 0.064
# The combs end here: above it a pitch that moves within the window smears its harmonics.
COMB_HZ, LOBE_HZ, NEIGHBOURHOOD_HZ = 2000.0, 15.6, 305.0
COMPRESSION, FLOOR_DB, DECAY = 0.4, 50.0, 0.5
# Scores are cosines; costs are for frames 8 ms apart. Chosen on mixtures of training readers of LibriSpeech.
UNVOICED, SECOND, ON_OFF, STEP, MAX_STEPS = 0.3, 0.03, 0.2, 0.06, 2
# Two pitches closer than this many candidates are one pitch.
CLOSE = 3
BLOCK_FRAMES = 4096
# Standard deviation of the band around a bin whose autocorrelation is looked at.
BAND_HZ = 14.0
REFINEMENTS = np.exp(np.linspace(-0.03, 0.03, 13))
REFINE_HZ = 1500.0


class Narrowband(NamedTuple):
    """Power [F, J] of frames long enough to resolve the harmonics of a low voice, J bins bin_hz apart."""

    power: np.ndarray
    bin_hz: float


class Streams(NamedTuple):
    """N runs of pitch in order of time: which track [N], first frame and the one after the last [N]."""

    track: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    @property
    def length(self) -> np.ndarray:
        """Frames of each, [N]."""
        return self.stop - self.start


def narrowband(signal: np.ndarray, sample_rate: int, hop: int, fft_multiple: int = 1) -> Narrowband:
    """Spectra of 64 ms Hann windows centred on every multiple of the hop, F = 1 + T // hop, as in `pse.dsp.stft`.

    signal: [T], T >= 1. The transform's length is a multiple of `fft_multiple` and at least two windows.
    """
    window = 2 * round(WINDOW_S * sample_rate / 2)
    size = fft_multiple * next_fast_len(-(-2 * window // fft_multiple), real=True)
    padded = np.pad(np.asarray(signal, np.float32), window // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][: 1 + len(signal) // hop]
    taper = np.hanning(window + 1)[:-1].astype(np.float32)
    power = [
        np.abs(np.fft.rfft(frames[i : i + BLOCK_FRAMES] * taper, size, axis=1)).astype(np.float32) ** 2
        for i in range(0, len(frames), BLOCK_FRAMES)
    ]
    return Narrowband(np.concatenate(power), sample_rate / size)


def pitch_tracks(spectrum: Narrowband, min_hz: float = 70.0, max_hz: float = 370.0) -> np.ndarray:
    """Two tracks [2, F] in Hz, 0 where a track is off; which voice a track follows may change when it was off."""
    num_bins = min(spectrum.power.shape[1], int(COMB_HZ / spectrum.bin_hz) + 1)
    combs, pairs = _pair_combs(num_bins, spectrum.bin_hz, min_hz, max_hz)
    candidates_hz = np.concatenate([[0.0], _candidates(min_hz, max_hz)])
    compressed = _compressed(spectrum, num_bins)
    norm = np.linalg.norm(compressed, axis=1, keepdims=True)
    compressed /= np.where(norm > 0, norm, 1)
    blocks = [compressed[i : i + BLOCK_FRAMES] for i in range(0, len(compressed), BLOCK_FRAMES)]
    path = np.concatenate([_best_path(_scores(block @ combs.T, pairs)) for block in blocks], axis=1)
    return np.stack([_refine(compressed, spectrum.bin_hz, candidates_hz[track]) for track in path])


def find_streams(tracks_hz: np.ndarray, min_frames: int) -> Streams:
    """The runs of at least so many frames in which a track of [2, F] is on."""
    edges = np.diff(np.pad(tracks_hz > 0, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    track, start = np.nonzero(edges > 0)
    stop = np.nonzero(edges < 0)[1]
    keep = np.flatnonzero(stop - start >= min_frames)
    keep = keep[np.argsort(start[keep], kind="stable")]
    return Streams(track[keep], start[keep], stop[keep])


def harmonicity(spectrum: Narrowband, tracks_hz: np.ndarray, num_bins: int) -> np.ndarray:
    """Autocorrelation [2, F, K], -1 to 1, of the band around each bin at the tracks' periods; -inf where they are off.

    By the theorem of Wiener and Khinchin it is the cosine transform of the band's power at that lag.
    """
    width = BAND_HZ / spectrum.bin_hz
    step = (spectrum.power.shape[1] - 1) // (num_bins - 1)
    total = gaussian_filter1d(spectrum.power, width, axis=1)[:, ::step]
    frequency = np.arange(spectrum.power.shape[1], dtype=np.float32) * np.float32(2 * np.pi * spectrum.bin_hz)
    match = np.full((2, *total.shape), -np.inf, np.float32)
    for track, pitch_hz in enumerate(tracks_hz):
        on = np.flatnonzero(pitch_hz)
        wave = np.cos(frequency / pitch_hz[on, None].astype(np.float32))
        lagged = gaussian_filter1d(spectrum.power[on] * wave, width, axis=1)[:, ::step]
        match[track, on] = np.clip(lagged / np.maximum(total[on], np.finfo(np.float32).tiny), -1, 1)
    return match


def _candidates(min_hz: float, max_hz: float) -> np.ndarray:
    return np.geomspace(min_hz, max_hz, CANDIDATES)


def _whitened(rows: np.ndarray, bin_hz: float) -> np.ndarray:
    """Rows less their mean over the neighbourhood of each bin: what lies between harmonics counts against a comb."""
    return rows - uniform_filter1d(rows, max(3, round(NEIGHBOURHOOD_HZ / bin_hz)), axis=1)


def _compressed(spectrum: Narrowband, num_bins: int) -> np.ndarray:
    magnitude = np.sqrt(spectrum.power[:, :num_bins])
    return _whitened(np.maximum(magnitude, magnitude.max() * 10 ** (-FLOOR_DB / 20)) ** COMPRESSION, spectrum.bin_hz)


@functools.lru_cache(maxsize=4)
def _pair_combs(num_bins: int, bin_hz: float, min_hz: float, max_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Combs [N, J] of unit norm for all N pairs of candidates, the larger lobe in each bin, and the pairs [2, N]."""
    pitch_hz = _candidates(min_hz, max_hz)[:, None]
    harmonic = np.arange(num_bins) * bin_hz / pitch_hz
    offset_hz = (harmonic - np.round(harmonic)) * pitch_hz
    comb = np.exp(-0.5 * (offset_hz / LOBE_HZ) ** 2) * np.maximum(harmonic, 1) ** -DECAY * (harmonic > 0.5)
    pairs = np.stack(np.triu_indices(CANDIDATES))
    both = _whitened(np.maximum(comb[pairs[0]], comb[pairs[1]]), bin_hz)
    return (both / np.linalg.norm(both, axis=1, keepdims=True)).astype(np.float32), pairs


def _scores(cosines: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Score [F, 1 + P, 1 + P] of the two tracks' states, 0 for off, from the cosines [F, N] with the pairs' combs."""
    first, second = pairs + 1
    scores = np.full((len(cosines), CANDIDATES + 1, CANDIDATES + 1), -np.inf, np.float32)
    scores[:, 0, 0] = UNVOICED
    one = first == second
    scores[:, first[one], 0] = scores[:, 0, first[one]] = cosines[:, one]
    apart = second - first >= CLOSE
    two = cosines[:, apart] - SECOND
    scores[:, first[apart], second[apart]] = scores[:, second[apart], first[apart]] = two
    return scores


def _best_path(scores: np.ndarray) -> np.ndarray:
    """States [2, F] of the two tracks with the greatest sum of scores [F, Q, Q] less what their changes cost.

    A change of both is a change of the first and then of the second, so a frame costs Q^2 and not Q^4 steps.
    """
    num_frames, num_states = scores.shape[:2]
    back = np.zeros((2, num_frames, num_states, num_states), np.uint8)
    best = scores[0]
    for frame in range(1, num_frames):
        best, back[0, frame] = _advance(best)
        turned, origin = _advance(best.T)
        best, back[1, frame] = turned.T + scores[frame], origin.T
    path = np.zeros((2, num_frames), int)
    path[:, -1] = np.unravel_index(best.argmax(), best.shape)
    for frame in range(num_frames - 1, 0, -1):
        a, b = path[:, frame]
        b = back[1, frame, a, b]
        path[:, frame - 1] = back[0, frame, a, b], b
    return path


def _advance(best: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best score [Q, Q] to be in each state of the first axis one frame later, and from which state."""
    num_states = len(best)
    ways = np.full((2 * MAX_STEPS + 2, *best.shape), -np.inf, best.dtype)
    for way, step in enumerate(range(-MAX_STEPS, MAX_STEPS + 1)):
        low, high = max(1, 1 - step), min(num_states, num_states - step)
        ways[way, low:high] = best[low + step : high + step] - STEP * abs(step)
    ways[-1, 1:] = best[0] - ON_OFF
    chosen = ways.argmax(0)
    origin = np.where(chosen == len(ways) - 1, 0, np.arange(num_states)[:, None] + chosen - MAX_STEPS)
    score = ways.max(0)
    last = best[1:].argmax(0) + 1
    off = best[last, np.arange(num_states)] - ON_OFF
    origin[0] = np.where(off > best[0], last, 0)
    score[0] = np.maximum(off, best[0])
    return score, origin


def _refine(compressed: np.ndarray, bin_hz: float, track_hz: np.ndarray) -> np.ndarray:
    """The track [F] moved between the candidates to where a cosine comb fits the compressed spectrum best."""
    on = np.flatnonzero(track_hz)
    rows = compressed[on, : int(REFINE_HZ / bin_hz)]
    phase = 2 * np.pi * bin_hz * np.arange(rows.shape[1]) / track_hz[on, None]
    fits = np.stack([(rows * np.cos(phase / factor)).sum(1) for factor in REFINEMENTS])
    refined = track_hz.copy()
    refined[on] *= REFINEMENTS[fits.argmax(0)]
    return refined
