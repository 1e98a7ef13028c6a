"""Laws of the pitch tracker on harmonic complexes whose pitch is known; its search against all paths."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pse.baselines import pitch
from pse.baselines.pitch import find_streams, harmonicity, narrowband, pitch_tracks
from pse.dsp.stft import STFT

RATE_HZ, HOP = 8000, 64


def _complex(pitch_hz: float | np.ndarray, seconds: float = 0.6, seed: int = 0, lowest: int = 1) -> np.ndarray:
    """Harmonics of random phase and an amplitude of 1 / number, [T]."""
    rng = np.random.default_rng(seed)
    cycles = np.cumsum(np.broadcast_to(pitch_hz, round(seconds * RATE_HZ))) / RATE_HZ
    numbers = range(lowest, int(3800 / np.max(pitch_hz)) + 1)
    return sum(np.cos(2 * np.pi * (h * cycles + rng.random())) / h for h in numbers)


def _tracks(signal: np.ndarray) -> np.ndarray:
    return pitch_tracks(narrowband(signal, RATE_HZ, HOP))


def _inner(tracks: np.ndarray) -> np.ndarray:
    """Without the frames whose windows reach beyond the ends."""
    return tracks[:, 5:-5]


@pytest.mark.parametrize("pitch_hz", [80, 97, 113, 140, 175, 211, 260, 301, 350])
def test_a_harmonic_complex_has_its_pitch_and_no_other(pitch_hz: float) -> None:
    found = np.sort(_inner(_tracks(_complex(pitch_hz))), axis=0)
    assert not found[0].any()
    np.testing.assert_allclose(found[1], pitch_hz, rtol=0.02)


@pytest.mark.parametrize("pitch_hz", [90, 150, 240, 340])
def test_the_pitch_is_found_where_the_lowest_harmonics_are_missing(pitch_hz: float) -> None:
    found = _inner(_tracks(_complex(pitch_hz, lowest=3)))
    assert (np.abs(found / pitch_hz - 1) < 0.02).any(0).all()


@pytest.mark.parametrize(("low_hz", "high_hz"), [(100, 163), (120, 210), (150, 190), (110, 330), (200, 300)])
def test_two_pitches_at_a_time_are_both_found(low_hz: float, high_hz: float) -> None:
    found = np.sort(_inner(_tracks(_complex(low_hz) + _complex(high_hz, seed=1))), axis=0)
    np.testing.assert_allclose(found[0], low_hz, rtol=0.02)
    np.testing.assert_allclose(found[1], high_hz, rtol=0.02)


def test_a_glide_is_followed_in_one_track() -> None:
    glide = np.geomspace(120, 200, round(0.6 * RATE_HZ))
    found = _inner(_tracks(_complex(glide)))
    track = found[found.any(1)]
    assert len(track) == 1
    np.testing.assert_allclose(track[0], glide[::HOP][5 : 5 + track.shape[1]], rtol=0.03)


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(0).standard_normal(2 * RATE_HZ)
    assert (_tracks(noise) > 0).any(0).mean() < 0.05
    assert not _tracks(np.zeros(4000)).any()


def test_the_level_does_not_matter() -> None:
    signal = _complex(130) + _complex(210, seed=1)
    np.testing.assert_array_equal(_tracks(signal), _tracks(signal * 2.0**-12))


def test_blocks_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pitch, "BLOCK_FRAMES", 20)
    found = _inner(_tracks(_complex(150)))
    np.testing.assert_allclose(found.max(0), 150, rtol=0.02)


@pytest.mark.parametrize("num_samples", [1, 2, 100, 513])
def test_frames_are_those_of_the_stft_for_signals_of_any_length(num_samples: int) -> None:
    signal = np.random.default_rng(0).standard_normal(num_samples)
    power, bin_hz = narrowband(signal, RATE_HZ, HOP, fft_multiple=256)
    assert power.shape == (STFT(256, 64, "sqrt_hann").num_frames(num_samples), RATE_HZ / bin_hz / 2 + 1)
    assert RATE_HZ / bin_hz % 256 == 0
    assert np.isfinite(_tracks(signal)).all()


def test_a_tone_peaks_at_its_frequency() -> None:
    power, bin_hz = narrowband(np.cos(2 * np.pi * 1000 * np.arange(8000) / RATE_HZ), RATE_HZ, HOP)
    assert set(power[10:-10].argmax(1)) == {round(1000 / bin_hz)}


def _cost(state: int, following: int) -> float:
    if not state or not following:
        return pitch.ON_OFF * (state != following)
    return pitch.STEP * abs(state - following) if abs(state - following) <= pitch.MAX_STEPS else np.inf


@pytest.mark.parametrize("seed", range(5))
def test_the_path_is_the_best_of_all_paths(seed: int) -> None:
    # With states few and scores close to the costs, all kinds of change occur.
    num_frames, num_states = 4, 5
    scores = 0.5 * np.random.default_rng(seed).random((num_frames, num_states, num_states)).astype(np.float32)
    best = {pair: scores[0][pair] for pair in np.ndindex(num_states, num_states)}
    for frame in scores[1:]:
        best = {
            (a, b): frame[a, b] + max(v - _cost(p, a) - _cost(q, b) for (p, q), v in best.items())
            for a, b in itertools.product(range(num_states), repeat=2)
        }
    path = pitch._best_path(scores)
    total = sum(scores[i][tuple(path[:, i])] for i in range(num_frames))
    total -= sum(_cost(a, b) for track in path for a, b in itertools.pairwise(track))
    assert total == pytest.approx(max(best.values()), abs=1e-5)


def test_streams_are_the_long_enough_runs_of_both_tracks_in_order_of_time() -> None:
    tracks = np.zeros((2, 20))
    tracks[0, 5:9] = tracks[0, 12:14] = tracks[1, 0:6] = tracks[1, 16:20] = 100
    found = find_streams(tracks, 4)
    assert [tuple(map(int, s)) for s in zip(*found, strict=True)] == [(1, 0, 6), (0, 5, 9), (1, 16, 20)]


def test_harmonics_match_their_pitch_and_the_middle_between_them_does_not() -> None:
    # 250 Hz is 8 bins of 31.25 Hz.
    time = np.arange(RATE_HZ) / RATE_HZ
    signal = sum(np.cos(2 * np.pi * 250 * h * time) for h in range(1, 8))
    spectrum = narrowband(signal, RATE_HZ, 64, 256)
    num_frames = len(spectrum.power)
    match = harmonicity(spectrum, np.stack([np.full(num_frames, 250.0), np.full(num_frames, 2000 / 7)]), 129)
    inner = match[:, 6:-6]
    assert (inner[0][:, 8:57:8] > 0.95).all()
    # 1000 Hz is 3.5 times the second pitch.
    assert (inner[1][:, 32] < -0.95).all()
    assert (np.abs(match) <= 1).all()
    assert np.isneginf(harmonicity(spectrum, np.zeros((2, num_frames)), 129)).all()
