"""Laws of CASA on synthetic voices; its search against all groupings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from pse.baselines.base import Scene
from pse.baselines.casa import CASAOptions, casa_masks, search, segments
from pse.dsp.stft import STFT
from pse.errors import PseError
from pse.registry import find
from pse.scoring.metrics import si_sdr

RATE_HZ = 8000
TRANSFORM = STFT(256, 64, "sqrt_hann")


def _voice(pitch_hz: float, formants_hz: tuple[float, ...], seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """Harmonics of a slightly moving pitch under resonances, [T]."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    cycles = np.cumsum(pitch_hz * (1 + 0.03 * np.sin(2 * np.pi * (3 * time + rng.random())))) / RATE_HZ
    voice = np.zeros(len(time))
    for harmonic in range(1, int(3800 / pitch_hz / 1.03)):
        gain = sum(1 / (1 + ((harmonic * pitch_hz - f) / 120) ** 2) for f in formants_hz) + 0.02
        voice += gain * np.cos(2 * np.pi * (harmonic * cycles + rng.random()))
    ramp = np.minimum(1, np.minimum(time, time[::-1]) / 0.02)
    return ramp * voice / np.sqrt(np.mean(voice**2))


def _separated(mix: np.ndarray, masks: np.ndarray) -> np.ndarray:
    spectrum = TRANSFORM.stft(torch.from_numpy(mix)[None])
    return TRANSFORM.istft(torch.from_numpy(masks) * spectrum, len(mix)).numpy()


def _worst_si_sdr(sources: np.ndarray, masks: np.ndarray) -> float:
    """The worse speaker's, in dB, under the better assignment."""
    estimates = _separated(sources.sum(0), masks)
    orders = itertools.permutations(range(len(sources)))
    return max(min(si_sdr(s, estimates[k]) for s, k in zip(sources, order, strict=True)) for order in orders)


@pytest.mark.parametrize(("one_hz", "other_hz"), [(105, 190), (130, 220), (170, 235)])
def test_two_steady_voices_are_separated(one_hz: float, other_hz: float) -> None:
    sources = np.stack([_voice(one_hz, (500, 1500)), _voice(other_hz, (700, 1200), seed=1)])
    assert _worst_si_sdr(sources, casa_masks(sources.sum(0), RATE_HZ)) > 8


def _dialogue(seed: int = 0) -> np.ndarray:
    """Two speakers with several vowels each, in turn and together, [2, T]."""
    rng = np.random.default_rng(seed)
    sources = np.zeros((2, 3 * RATE_HZ))
    for turn in range(7):
        who = turn % 2
        start = round((0.4 * turn + 0.05 * rng.random()) * RATE_HZ)
        pitch_hz = (110, 215)[who] * np.exp(0.08 * rng.standard_normal())
        formants = ((450, 1100, 2400), (650, 1700, 2900))[who] * np.exp(0.05 * rng.standard_normal(3))
        voice = _voice(pitch_hz, tuple(formants), 0.5, seed=100 * seed + turn)
        sources[who, start : start + len(voice)] += voice
    return sources


@pytest.mark.parametrize("seed", range(2))
def test_what_a_speaker_says_one_after_another_is_put_together(seed: int) -> None:
    sources = _dialogue(seed)
    assert _worst_si_sdr(sources, casa_masks(sources.sum(0), RATE_HZ)) > 9


@pytest.mark.parametrize("num_speakers", [1, 2, 3])
def test_masks_have_the_shape_of_the_stft_are_binary_or_split_and_add_up_to_one(num_speakers: int) -> None:
    mix = _dialogue().sum(0) + 0.05 * np.random.default_rng(0).standard_normal(3 * RATE_HZ)
    masks = casa_masks(mix, RATE_HZ, num_speakers)
    assert masks.shape == (num_speakers, TRANSFORM.num_bins, TRANSFORM.num_frames(len(mix)))
    np.testing.assert_allclose(masks.sum(0), 1, atol=1e-6)
    allowed = {0, 1, np.float32(1 / num_speakers), np.float32(1 / max(1, num_speakers - 1))}
    assert set(np.unique(masks)) <= allowed
    np.testing.assert_allclose(_separated(mix, masks).sum(0), mix, atol=1e-4)


@pytest.mark.parametrize(
    "mix",
    [np.zeros(4000), np.zeros(1), np.ones(1), np.full(90, 0.1), np.random.default_rng(0).standard_normal(200)],
    ids=["silence", "a silent sample", "a sample", "a constant", "25 ms"],
)
def test_what_tells_nothing_is_split(mix: np.ndarray) -> None:
    assert (casa_masks(mix, RATE_HZ) == 0.5).all()


@pytest.mark.parametrize("num_samples", [512, 4000])
@pytest.mark.parametrize("kind", ["constant", "click", "tone", "faint"])
def test_odd_signals_leave_finite_masks_that_add_up_to_one(kind: str, num_samples: int) -> None:
    time = np.arange(num_samples)
    mix = {
        "constant": np.ones(num_samples),
        "click": (time == num_samples // 2).astype(float),
        "tone": np.cos(0.7 * time),
        "faint": 1e-300 * np.cos(0.7 * time),
    }[kind]
    masks = casa_masks(mix, RATE_HZ)
    assert np.isin(masks, [0, 0.5, 1]).all()
    np.testing.assert_array_equal(masks.sum(0), 1)


def test_noise_is_split_nearly_everywhere() -> None:
    masks = casa_masks(np.random.default_rng(0).standard_normal(2 * RATE_HZ), RATE_HZ)
    assert (masks == 0.5).mean() > 0.9


def test_the_level_does_not_matter() -> None:
    mix = _dialogue().sum(0)
    expected = casa_masks(mix, RATE_HZ)
    np.testing.assert_array_equal(casa_masks(mix * 2.0**-14, RATE_HZ), expected)
    assert (casa_masks(mix * 0.037, RATE_HZ) != expected).mean() < 1e-3


def test_the_same_mixture_gives_the_same_masks() -> None:
    mix = _dialogue(1).sum(0)
    np.testing.assert_array_equal(casa_masks(mix, RATE_HZ), casa_masks(mix, RATE_HZ))


def test_another_rate_and_grid_separate_as_well() -> None:
    sources = np.repeat(np.stack([_voice(105, (500, 1500)), _voice(190, (700, 1200), seed=1)]), 2, axis=1)
    transform = STFT(512, 128, "sqrt_hann")
    masks = casa_masks(sources.sum(0), 2 * RATE_HZ, transform=transform)
    spectrum = transform.stft(torch.from_numpy(sources))
    kept = [
        float((torch.from_numpy(m) * s).abs().square().sum() / s.abs().square().sum()) for m in masks for s in spectrum
    ]
    assert max(min(kept[0], kept[3]), min(kept[1], kept[2])) > 0.8


@pytest.mark.parametrize(
    ("mix", "num_speakers"),
    [
        (np.zeros(0), 2),
        (np.zeros((2, 100)), 2),
        (np.zeros(100, np.int16), 2),
        (np.array([0.1, np.nan]), 2),
        (np.ones(100), 0),
        (np.ones(601 * RATE_HZ, np.float32), 2),
    ],
    ids=["empty", "two channels", "integers", "NaN", "no speakers", "too long"],
)
def test_bad_input_is_told_in_one_line(mix: np.ndarray, num_speakers: int) -> None:
    with pytest.raises(PseError) as error:
        casa_masks(mix, RATE_HZ, num_speakers)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [{"min_pitch_hz": 5.0}, {"max_pitch_hz": 80.0}, {"beam": 0}, {"match": 2.0}])
def test_options_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        CASAOptions(**wrong)


@pytest.mark.parametrize("num_groups", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_the_best_of_all_groupings(seed: int, num_groups: int) -> None:
    affinity = np.random.default_rng(seed).standard_normal((7, 7))
    affinity += affinity.T
    np.fill_diagonal(affinity, 0)

    def value(groups: np.ndarray) -> float:
        return float((affinity * (groups[:, None] == groups)).sum())

    best = max(value(np.array(g)) for g in itertools.product(range(num_groups), repeat=7))
    weight = np.arange(1.0, 8.0)
    group, margin = search(affinity, num_groups, weight, 3**7)
    assert value(group) == pytest.approx(best)
    for n, other in itertools.product(range(7), range(num_groups)):
        moved = group.copy()
        moved[n] = other
        if other != group[n]:
            assert value(moved) <= best + 1e-9
    assert (margin >= -1e-9).all() and np.average(margin, weights=weight) == pytest.approx(1)


def test_a_narrow_beam_finds_planted_groups() -> None:
    rng = np.random.default_rng(0)
    planted = rng.integers(0, 3, 60)
    affinity = np.where(planted[:, None] == planted, 1.0, -0.5) + 0.3 * rng.standard_normal((60, 60))
    affinity = affinity + affinity.T
    np.fill_diagonal(affinity, 0)
    group, _ = search(affinity, 3, np.ones(60), 16)
    assert len(set(zip(planted.tolist(), group.tolist(), strict=True))) == 3


def test_a_burst_of_noise_is_one_segment_from_its_onset_to_its_offset() -> None:
    rng = np.random.default_rng(0)
    power = np.full((100, 65), 1e-4)
    power[40:60, 20:50] = 1 + 0.1 * rng.random((20, 30))
    labels, num_segments = segments(power, 0.008)
    assert num_segments == 1
    frames, bins = np.nonzero(labels)
    assert abs(frames.min() - 40) <= 6 and abs(frames.max() - 59) <= 6
    assert (labels[43:56, 22:48] == 1).all()


def test_the_plug_in_gives_the_masks_of_its_scene() -> None:
    sources = torch.from_numpy(_dialogue()).float()
    mix = sources.sum(0)
    plugin = find("baseline", "casa")
    scene = Scene("a", mix.numpy(), RATE_HZ, TRANSFORM.stft(torch.cat([mix[None], sources])), ["x", "y"])
    found = plugin(plugin.Options(), TRANSFORM, None).masks(scene)
    np.testing.assert_array_equal(found.numpy(), casa_masks(mix.numpy(), RATE_HZ))
