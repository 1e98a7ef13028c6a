"""How steady a voice is, on signals whose pitch, timbre and syllables are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from pse.recipe.separation.prosody import spread
from pse.scoring.prosody import Measured, across, agreement, averages, lagged, measure, verification_eer

RATE = 8000


def voice(pitch_hz: float, formants_hz: tuple[float, ...], seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """Pulses at a fixed pitch through resonances, with a little noise."""
    random = np.random.default_rng(seed)
    phase = pitch_hz * np.arange(round(seconds * RATE)) / RATE + random.uniform()
    # As many harmonics as there are: pulses on whole samples would not be periodic.
    signal = sum(np.cos(2 * np.pi * k * phase) for k in range(1, int(RATE / 2 / pitch_hz)))
    signal = signal + 0.01 * random.standard_normal(len(phase))
    for hz in formants_hz:
        pole = np.exp(-np.pi * 80 / RATE + 2j * np.pi * hz / RATE)
        signal = lfilter([1.0], np.poly([pole, pole.conjugate()]).real, signal)
    return 0.3 * signal / np.abs(signal).max()


VOICES = [(90.0, (500.0, 1500.0)), (130.0, (700.0, 1100.0)), (180.0, (300.0, 2300.0)), (240.0, (600.0, 1900.0))]


@pytest.fixture(scope="module")
def speakers() -> list[list[dict[str, Measured]]]:
    return [[measure(voice(*v, seed=10 * s + k), RATE) for k in range(3)] for s, v in enumerate(VOICES)]


@pytest.mark.parametrize(("pitch_hz", "formants_hz"), VOICES)
def test_the_pitch_is_that_of_the_pulses(pitch_hz: float, formants_hz: tuple[float, ...]) -> None:
    pitch = measure(voice(pitch_hz, formants_hz), RATE)["pitch"]
    found_hz = 100 * 2 ** (pitch.values[pitch.there, 0] / 12)
    assert pitch.there.mean() > 0.9
    assert np.median(found_hz) == pytest.approx(pitch_hz, rel=0.005)
    assert np.mean(np.abs(found_hz / pitch_hz - 1) < 0.03) > 0.95


def test_noise_has_no_pitch_and_silence_nothing() -> None:
    noise = measure(0.1 * np.random.default_rng(0).standard_normal(RATE), RATE)
    assert noise["pitch"].there.mean() < 0.05 and noise["timbre"].there.all()
    for one in measure(np.zeros(RATE), RATE).values():
        assert not one.there.any() and np.isfinite(one.values).all()


@pytest.mark.parametrize("syllables_hz", [2.0, 4.0, 6.0])
def test_syllables_are_counted(syllables_hz: float) -> None:
    time = np.arange(6 * RATE) / RATE
    train = np.sin(np.pi * syllables_hz * time) ** 4 * np.sin(2 * np.pi * 200 * time)
    rate = measure(train, RATE)["rate"]
    # A window that begins within a syllable has one more or less at its ends.
    assert np.mean(rate.values) == pytest.approx(syllables_hz, abs=0.25)
    assert np.abs(rate.values - syllables_hz).max() <= 1


def test_level_moves_neither_timbre_nor_energy() -> None:
    quiet, loud = (measure(gain * voice(*VOICES[0]), RATE) for gain in (0.01, 1.0))
    for name in ("pitch", "timbre", "energy", "rate"):
        assert np.allclose(quiet[name].values, loud[name].values, atol=1e-6)


@pytest.mark.parametrize("name", ["pitch", "timbre"])
def test_fixed_voices_agree_with_themselves_and_shuffled_ones_with_nobody(speakers, name: str) -> None:
    own = [[one[name] for one in heard] for heard in speakers]
    for pairs in ([lagged(s, 0.3) for s in own], [across(s, 100) for s in own]):
        found = agreement(pairs)
        assert found.icc > 0.95 and found.f_ratio > 30 and found.n == 4
    shuffled = [[own[(s + k) % 4][k] for k in range(3)] for s in range(4)]
    assert agreement([across(s, 100) for s in shuffled]).icc < 0.1


def test_agreement_is_the_share_of_variance_between_speakers() -> None:
    random = np.random.default_rng(0)
    for share in (0.0, 0.25, 0.8):
        of = np.sqrt(share) * random.standard_normal((400, 1, 1, 2))
        pairs = of + np.sqrt(1 - share) * random.standard_normal((400, 50, 2, 2))
        found = agreement(list(pairs))
        assert found.icc == pytest.approx(share, abs=0.05) and found.n == 400
        assert found.icc_low <= found.icc <= found.icc_high and found.icc_high - found.icc_low < 0.12
        assert found.f_ratio == pytest.approx((1 + found.icc) / (1 - found.icc))
        # One pair a speaker at a time, by the textbook's analysis of variance.
        ratios = [_textbook(pairs[:, k]) for k in range(50)]
        assert found.f_ratio == pytest.approx(np.mean([b for b, _ in ratios]) / np.mean([w for _, w in ratios]), 0.01)
    assert agreement(list(pairs[:2])) is None and agreement([pairs[0][:1]] * 9) is None


def _textbook(pairs: np.ndarray) -> tuple[float, float]:
    """Mean squares between and within n groups of two, [n, 2, C], added over C."""
    means = pairs.mean(1)
    between = 2 * np.square(means - means.mean(0)).sum() / (len(pairs) - 1)
    return between, np.square(pairs - means[:, None]).sum() / len(pairs)


def test_pairs_are_so_far_apart_and_both_there() -> None:
    there = np.ones(50, bool)
    there[[3, 20]] = False
    one = Measured(np.arange(50.0)[:, None], there, 0.01)
    pairs = lagged([one, one], 0.1)
    assert len(pairs) == 2 * 37 and (np.diff(pairs[..., 0], axis=1) == 10).all()
    assert not np.isin(pairs, [3, 20]).any() and lagged([one], 3.0).shape == (0, 2, 1)
    assert across([one], 9).shape == (0, 2, 1) and across([one, one, one], 9).shape == (27, 2, 1)


def test_longer_stretches_tell_speakers_better() -> None:
    random, rates = np.random.default_rng(0), []
    centres = random.standard_normal((20, 4))
    one = [Measured(c + 2 * random.standard_normal((300, 4)), np.ones(300, bool), 0.01) for c in centres for _ in "ab"]
    for seconds in (0.032, 0.128, 0.512):
        found = [averages(x, seconds)[0][:5] for x in one]
        numbers = np.repeat(np.arange(40), [len(x) for x in found])
        rates.append(verification_eer(np.concatenate(found), numbers // 2, numbers))
    assert rates[0] > rates[1] + 3 > rates[2] + 6
    values, starts_s = averages(one[0], 0.512)
    assert averages(one[0], 0.032)[0].shape == (100, 4) and values.shape == (5, 4)
    assert np.allclose(starts_s, 0.51 * np.arange(5)) and np.allclose(values[1], one[0].values[51:100].mean(0))
    silent = one[0]._replace(there=np.zeros(300, bool))
    assert averages(silent, 0.032)[0].shape == (0, 4)
    assert np.isnan(verification_eer(centres, np.arange(20), np.arange(20)))


def test_pairs_of_one_recording_are_apart_and_of_two_are_not_the_speakers_own() -> None:
    vectors = np.array([[0.0], [0.1], [9.0], [5.0], [5.1], [-9.0]])
    who, what = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 2, 2, 3])
    near, far = np.array([0.0, 0.5, 0.0, 0.0, 0.5, 0.0]), np.array([0.0, 2.0, 0.0, 0.0, 2.0, 0.0])
    assert np.isnan(verification_eer(vectors, who, what, near))
    assert verification_eer(vectors, who, what, far) == 0 and verification_eer(vectors, who, what) > 50


def test_utterances_are_spread_over_all() -> None:
    utts = [f"u{n}" for n in range(10)]
    assert spread(utts, 4) == ["u0", "u3", "u6", "u9"] and spread(utts[:3], 4) == utts[:3] and spread(utts, 1) == ["u0"]
