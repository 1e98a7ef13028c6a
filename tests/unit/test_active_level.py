"""Laws of the active speech level (ITU-T P.56, method B)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import sosfreqz

from pse.dsp import active_level as module
from pse.dsp.active_level import HANGOVER_S, MARGIN_DB, active_level, band_filters, held, smoothed
from pse.errors import PseError

RATES = (8000, 16000, 48000)


def noise(seconds: float, rate: int = 8000, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).normal(size=int(seconds * rate))


def talk(share: float, seconds: float = 40.0, rate: int = 8000) -> np.ndarray:
    """Noise in turns of five seconds, of which `share` is speech and the rest digital silence."""
    signal = noise(seconds, rate)
    signal[(np.arange(len(signal)) / rate) % 5.0 >= 5.0 * share] = 0.0
    return signal


@pytest.mark.parametrize("rate", RATES)
def test_a_steady_signal_is_active_all_the_time_and_its_level_is_its_power(rate: int) -> None:
    signal = noise(20, rate)
    got = active_level(signal, rate, band_limited=False)
    assert got.long_term_power == pytest.approx(np.mean(signal**2), rel=1e-12)
    assert 0.998 < got.activity <= 1.0
    assert got.level_db == pytest.approx(10 * math.log10(np.mean(signal**2)), abs=0.01)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_speech_with_pauses_has_the_level_of_the_speech_and_its_share_of_the_time(share: float, rate: int) -> None:
    signal = talk(share, rate=rate)
    got = active_level(signal, rate, band_limited=False)
    # A turn ends with the hang-over, and with the fall of the envelope to the threshold.
    extra = (HANGOVER_S + 0.1) / 5.0
    assert share < got.activity < share + extra
    assert got.power == pytest.approx(got.long_term_power / got.activity, rel=1e-12)
    assert 0.01 * share / (share + extra) < got.power < 1.05 * 0.01


@pytest.mark.parametrize("band_limited", [True, False])
@pytest.mark.parametrize("gain", [1e-3, 0.3, 2.0, 1234.5])
def test_a_gain_changes_the_level_by_its_square_and_the_activity_not_at_all(gain: float, band_limited: bool) -> None:
    signal = talk(0.6) * np.abs(np.sin(np.arange(320000) / 3000))
    plain, scaled = (active_level(g * signal, 8000, band_limited) for g in (1.0, gain))
    assert scaled.power == pytest.approx(gain**2 * plain.power, rel=1e-4)
    assert scaled.activity == pytest.approx(plain.activity, rel=1e-4)


@pytest.mark.parametrize("band_limited", [True, False])
def test_silence_before_speech_changes_nothing_but_the_activity(band_limited: bool) -> None:
    signal = talk(0.7)
    plain = active_level(signal, 8000, band_limited)
    late = active_level(np.concatenate([np.zeros(77777), signal]), 8000, band_limited)
    assert late.power == pytest.approx(plain.power, rel=1e-9)
    assert late.activity == pytest.approx(plain.activity * 320000 / 397777, rel=1e-9)


def test_silence_after_speech_counts_as_active_for_the_hang_over_and_no_longer() -> None:
    short, long = (active_level(np.pad(noise(10), (0, n)), 8000) for n in (8000, 800000))
    assert long.power == pytest.approx(short.power, rel=1e-9)
    assert active_level(noise(10), 8000).power > short.power > active_level(noise(10), 8000).power * 10 / 10.4


def test_pauses_shorter_than_the_hang_over_belong_to_speech() -> None:
    signal = noise(20)
    signal[(np.arange(len(signal)) / 8000) % 0.5 < 0.15] = 0.0
    got = active_level(signal, 8000, band_limited=False)
    assert got.activity > 0.98
    assert got.power == pytest.approx(np.mean(signal**2), rel=0.02)


def test_a_background_below_the_margin_is_not_active() -> None:
    for below_db, loud in ((MARGIN_DB - 6, True), (MARGIN_DB + 6, False)):
        signal = talk(0.5) + 10 ** (-below_db / 20) * noise(40, seed=1)
        assert (active_level(signal, 8000, band_limited=False).activity > 0.95) is loud


def test_level_and_activity_are_those_of_a_fine_ladder_of_thresholds() -> None:
    signal = talk(0.4) * (1.2 + np.sin(np.arange(320000) / 5000))
    got = active_level(signal, 8000, band_limited=False)
    envelope, energy = held(smoothed(signal, 8000, [])[0], 8000), np.sum(signal**2)
    # As P.56 has it, with rungs 0.01 dB apart: from below, the first at which level - threshold is the margin.
    for threshold_db in np.arange(-100.0, 0.0, 0.01):
        level_db = 10 * math.log10(energy / np.sum(envelope >= 10 ** (threshold_db / 20)))
        if level_db - threshold_db <= MARGIN_DB:
            break
    assert got.level_db == pytest.approx(level_db, abs=0.01)


@pytest.mark.parametrize("rate", RATES)
def test_the_envelope_is_two_smoothers_of_30_ms_and_a_maximum_over_200_ms(rate: int) -> None:
    click = np.zeros(rate)
    click[0] = 1.0
    time = np.arange(rate) / rate
    smooth = (1 - math.exp(-1 / (0.03 * rate))) ** 2 * (time * rate + 1) * np.exp(-time / 0.03)
    hold = math.ceil(0.2 * rate) + 1
    expected = [smooth[max(0, n - hold + 1) : n + 1].max() for n in range(0, rate, 97)]
    envelope, energy = smoothed(click, rate, [])
    assert energy == 1.0
    np.testing.assert_allclose(held(envelope, rate)[::97], expected, rtol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_the_band_is_flat_within_a_quarter_of_a_decibel_and_falls_by_fifty(rate: int) -> None:
    hz = np.linspace(10, rate / 2 - 10, 4000)
    gains_db = sum(20 * np.log10(np.abs(sosfreqz(f, hz, fs=rate)[1]) + 1e-12) for f in band_filters(rate))
    upper = 5500 if rate >= 12100 else rate / 2
    inside = (hz >= 200) & (hz <= upper)
    assert -0.2501 < gains_db[inside].min() and gains_db[inside].max() < 1e-6
    assert gains_db[(hz < 200) & (hz > 190)].max() < -0.24
    outside = (hz < 79) | (hz > 14000)
    assert gains_db[outside].max() < -49.9


@pytest.mark.parametrize("band_limited", [True, False])
def test_the_blocks_that_a_long_recording_is_worked_on_in_leave_no_trace(band_limited, monkeypatch) -> None:
    signal = talk(0.6, 10.0)
    whole = active_level(signal, 8000, band_limited)
    monkeypatch.setattr(module, "BLOCK", 1003)
    in_blocks = active_level(signal, 8000, band_limited)
    assert in_blocks.power == pytest.approx(whole.power, rel=1e-12)
    assert in_blocks.activity == whole.activity


def test_hum_is_not_heard_when_the_band_is_limited() -> None:
    signal = talk(0.5)
    hum = 0.3 * np.sin(2 * np.pi * 50 * np.arange(len(signal)) / 8000)
    assert active_level(signal + hum, 8000).level_db == pytest.approx(active_level(signal, 8000).level_db, abs=0.05)
    assert active_level(signal + hum, 8000, band_limited=False).activity > 0.99


def test_a_rate_does_not_change_the_level_of_what_both_rates_hold() -> None:
    tones = [np.sin(2 * np.pi * 700 * np.arange(int(20 * r)) / r) for r in RATES]
    bursts = [t * ((np.arange(len(t)) / r) % 4 < 2) for t, r in zip(tones, RATES, strict=True)]
    levels = [active_level(b, r).level_db for b, r in zip(bursts, RATES, strict=True)]
    assert max(levels) - min(levels) < 0.02


def test_a_click_has_a_level() -> None:
    click = np.zeros(16000)
    click[5000] = 1.0
    got = active_level(click, 8000, band_limited=False)
    assert 0.1 < got.activity * 2.0 < 0.5


@pytest.mark.parametrize(
    "signal, message",
    [
        (np.zeros(8000), "silent"),
        (np.zeros(0), r"needs samples \[T\]"),
        (np.ones((2, 100)), r"needs samples \[T\], and got \[2, 100\]"),
        (np.array([0.1, np.nan]), "NaN or infinite"),
    ],
)
def test_what_has_no_level_is_refused(signal: np.ndarray, message: str) -> None:
    for band_limited in (True, False):
        with pytest.raises(PseError, match=message):
            active_level(signal, 8000, band_limited)
