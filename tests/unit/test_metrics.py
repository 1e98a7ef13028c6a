"""Metrics: analytic oracles, a second library, and a reason for every score that cannot be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pse.errors import PseError
from pse.scoring import metrics
from pse.scoring.bss_eval import _best_filter, project, sdr
from pse.scoring.metrics import LIMIT_DB, Failure, Metric, score, si_sdr
from pse.scoring.perceptual import estoi, pesq_wb

RATE = 16_000


def noise(seed: int, num_samples: int = RATE) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(num_samples)


def at_ratio(signal: np.ndarray, error: np.ndarray, ratio_db: float) -> np.ndarray:
    return error * np.sqrt(signal @ signal / (error @ error) * 10 ** (-ratio_db / 10))


def apart(ratio_db: float, taps: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """A reference and an estimate whose noise no filter of up to `taps` taps of the reference can reach."""
    reference, error = noise(0, 12_000), noise(1, 12_000)
    reference[5_000:] = 0
    error[: 5_000 + taps] = 0
    return reference, reference + at_ratio(reference, error, ratio_db)


def voice(num_samples: int = 3 * RATE) -> np.ndarray:
    """A syllabic harmonic tone in a little noise: enough like speech for eSTOI and PESQ."""
    t = np.arange(num_samples) / RATE
    phase = 2 * np.pi * np.cumsum(140 + 30 * np.sin(2 * np.pi * 0.7 * t)) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 20))
    return np.clip(np.sin(2 * np.pi * 3 * t) + 0.5, 0, 1) * 0.1 * tone + 0.01 * noise(7, num_samples)


@pytest.mark.parametrize("ratio_db", [-30.0, -5.0, 0.0, 12.5, 60.0])
def test_si_sdr_of_orthogonal_noise_is_its_energy_ratio(ratio_db: float) -> None:
    reference, error = noise(0), noise(1)
    error = error - (error @ reference) / (reference @ reference) * reference
    estimate = reference + at_ratio(reference, error, ratio_db)
    assert si_sdr(reference, estimate) == pytest.approx(ratio_db, abs=1e-4)


@given(gain=st.floats(1e-4, 1e4), sign=st.sampled_from([-1, 1]))
def test_si_sdr_does_not_change_with_scale_or_sign(gain: float, sign: int) -> None:
    reference = noise(0, 500)
    estimate = reference + 0.3 * noise(1, 500)
    expected = si_sdr(reference, estimate)
    assert si_sdr(reference, sign * gain * estimate) == pytest.approx(expected, abs=1e-8)
    assert si_sdr(gain * reference, estimate) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("ratio_db", [-20.0, 0.0, 35.0])
def test_sdr_of_noise_out_of_the_filters_reach_is_its_energy_ratio(ratio_db: float) -> None:
    assert sdr(*apart(ratio_db)) == pytest.approx(ratio_db, abs=1e-6)


def test_sdr_forgives_a_short_filter_and_si_sdr_does_not() -> None:
    reference = noise(0)
    reference[-3:] = 0
    estimate = np.convolve(reference, [0.2, 0.0, 1.0, -0.5])[: len(reference)]
    assert sdr(reference, estimate) == LIMIT_DB
    assert si_sdr(reference, estimate) < 0


def test_sdr_does_not_forgive_a_delay_beyond_its_taps() -> None:
    reference = noise(0)
    assert sdr(reference, np.roll(reference, 2_000)) < 0


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), level=st.floats(0.01, 10))
def test_sdr_is_never_below_si_sdr(seed: int, level: float) -> None:
    reference, error = noise(seed, 2_000), noise(seed + 1, 2_000)
    estimate = reference + level * error
    assert sdr(reference, estimate) >= si_sdr(reference, estimate) - 1e-9


def test_projection_leaves_an_error_orthogonal_to_every_delayed_reference() -> None:
    reference, estimate = noise(0, 3_000), noise(1, 3_000)
    error = np.pad(estimate, (0, 511)) - project(reference, estimate)
    products = [error[k : k + 3_000] @ reference for k in range(512)]
    assert np.abs(products).max() < 1e-9 * (reference @ reference)


COLOURS = {
    "white": noise(3),
    "red": np.cumsum(noise(4)),
    "dull": np.convolve(noise(6), np.hanning(12), "same"),
}


@pytest.mark.parametrize("reference", COLOURS.values(), ids=COLOURS)
@pytest.mark.parametrize("level", [1e-3, 0.1, 3.0])
def test_sdr_agrees_with_mir_eval(reference: np.ndarray, level: float) -> None:
    separation = pytest.importorskip("mir_eval").separation
    estimate = np.convolve(reference, [0.9, 0.3])[: len(reference)] + level * noise(5)
    with pytest.warns(FutureWarning):
        expected = separation.bss_eval_sources(reference[None], estimate[None], compute_permutation=False)[0]
    assert sdr(reference, estimate) == pytest.approx(expected[0], abs=1e-3)


def tone(num_samples: int = RATE) -> np.ndarray:
    """One band-limited line: its 512 delayed versions are almost linearly dependent."""
    return np.hanning(num_samples) * np.sin(0.17 * np.arange(num_samples))


def test_sdr_of_a_nearly_singular_reference_is_still_its_energy_ratio() -> None:
    reference, error = np.zeros(12_000), noise(1, 12_000)
    reference[:5_000] = tone(5_000)
    error[:5_512] = 0
    assert sdr(reference, reference + at_ratio(reference, error, 20.0)) == pytest.approx(20, abs=1e-3)


def test_an_exactly_singular_system_is_solved_all_the_same() -> None:
    assert np.ones((4, 4)) @ _best_filter(np.ones(4), np.ones(4)) == pytest.approx(np.ones(4))


@pytest.mark.parametrize("measure", [si_sdr, sdr])
def test_ratios_are_finite_on_silence_and_on_a_perfect_estimate(measure: Callable[..., float]) -> None:
    signal, silence = noise(0), np.zeros(RATE)
    assert measure(silence, signal) == measure(signal, silence) == measure(silence, silence) == -LIMIT_DB
    assert measure(signal, signal) == LIMIT_DB


ALL = ("si_sdr", "sdr", "pesq", "estoi")
BAD = {
    "reference is silent": (np.zeros(RATE), noise(0)),
    "estimate is silent": (noise(0), np.zeros(RATE)),
    "estimate has 2 samples that are not finite": (noise(0), np.r_[np.nan, np.inf, noise(0)[2:]]),
    "reference has 15999 samples, estimate 16000": (noise(0)[1:], noise(0)),
    "signals must be mono, these are 2- and 1-dimensional": (noise(0)[None], noise(0)),
    "reference is silent ": (np.zeros(0), np.zeros(0)),
}


@pytest.mark.parametrize("reason", BAD)
def test_signals_that_no_metric_can_judge_are_a_failure_in_every_metric(reason: str) -> None:
    reference, estimate = BAD[reason]
    assert score(reference, estimate, RATE, ALL) == dict.fromkeys(ALL, Failure(reason))


def test_a_metric_that_raises_or_gives_no_number_is_a_failure_and_the_others_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raises(*_: object) -> float:
        raise ZeroDivisionError("division by\nzero")

    table = metrics.available()
    monkeypatch.setitem(table, "raises", Metric("raises", "R", "", 2, raises))
    monkeypatch.setitem(table, "nan", Metric("nan", "N", "", 2, lambda *_: float("nan")))
    reference, estimate = apart(10.0)
    found = score(reference, estimate, RATE, ["raises", "nan", "si_sdr"])
    assert found["raises"] == Failure("ZeroDivisionError: division by zero")
    assert found["nan"] == Failure("the value is nan")
    assert found["si_sdr"] == pytest.approx(10, abs=1e-6)


def test_the_name_of_no_metric_is_an_error_naming_the_nearest() -> None:
    with pytest.raises(PseError, match="did you mean 'si_sdr'"):
        score(noise(0), noise(1), RATE, ["sisdr"])


def test_float32_signals_score_as_float64_ones() -> None:
    reference, estimate = (x.astype(np.float32) for x in apart(20.0))
    assert score(reference, estimate, RATE, ["si_sdr", "sdr"]) == pytest.approx(
        {"si_sdr": 20.0, "sdr": 20.0}, abs=1e-4
    )


@pytest.mark.parametrize(("package", "metric"), [("pesq", "pesq"), ("pystoi", "estoi")])
def test_a_missing_package_is_a_failure_that_names_it(
    monkeypatch: pytest.MonkeyPatch, package: str, metric: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert score(noise(0), noise(1), RATE, [metric]) == {metric: Failure(f"{package} is not installed")}


def test_estoi_is_one_for_the_reference_itself_and_falls_with_noise() -> None:
    clean = voice()
    values = [estoi(clean, clean + at_ratio(clean, noise(2, len(clean)), snr), RATE) for snr in (20, 5, -10)]
    assert estoi(clean, clean, RATE) == pytest.approx(1, abs=1e-6)
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.6 and values[-1] < 0.4


def test_estoi_is_repeatable_and_leaves_numpys_generator_alone() -> None:
    clean = voice(RATE)
    estimate = clean * (np.arange(RATE) > RATE // 2)
    np.random.seed(5)
    first, drawn = estoi(clean, estimate, RATE), np.random.rand()
    np.random.seed(5)
    assert np.random.rand() == drawn
    assert estoi(clean, estimate, RATE) == first


def test_estoi_needs_8_khz_and_0_4_s_of_speech() -> None:
    burst = np.zeros(RATE)
    burst[: RATE // 5] = noise(0, RATE // 5)
    assert isinstance(score(voice(RATE), voice(RATE), 8_000, ["estoi"])["estoi"], float)
    for reference, rate, reason in [
        (noise(0), 4_000, "eSTOI needs 8000 Hz or more, not 4000"),
        (noise(0, 6_000), RATE, "shorter than the 0.4 s that eSTOI needs"),
        (burst, RATE, "less than the 0.4 s of speech that eSTOI needs"),
    ]:
        assert score(reference, reference, rate, ["estoi"]) == {"estoi": Failure(reason)}


def stand_in(monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> list[tuple]:
    """Put a module in the place of `pesq` that notes its arguments."""
    calls = []

    def value(*arguments: object) -> float:
        calls.append(arguments)
        if error:
            raise error
        return 2.5

    monkeypatch.setitem(sys.modules, "pesq", SimpleNamespace(pesq=value, PesqError=RuntimeError))
    return calls


def test_pesq_is_asked_for_the_wide_band_value_of_reference_then_estimate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = stand_in(monkeypatch)
    reference, estimate = noise(0), noise(1)
    assert score(reference, estimate, RATE, ["pesq"]) == {"pesq": 2.5}
    ((rate, first, second, mode),) = calls
    assert (rate, mode) == (RATE, "wb")
    assert (first == reference).all() and (second == estimate).all()


def test_pesq_is_not_called_where_it_is_not_defined_or_would_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stand_in(monkeypatch)
    long = noise(0, 21 * RATE)
    assert score(noise(0), noise(1), 8_000, ["pesq"])["pesq"] == Failure(
        "wide-band PESQ needs 16000 Hz, not 8000"
    )
    assert score(long, long, RATE, ["pesq"])["pesq"] == Failure("PESQ is limited to 20 s, this is longer")
    assert not calls


def test_the_reason_pesq_gives_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, RuntimeError(b"No utterances detected"))
    assert score(noise(0), noise(1), RATE, ["pesq"])["pesq"] == Failure("No utterances detected")


def test_pesq_of_the_reference_itself_is_the_top_of_its_scale() -> None:
    pytest.importorskip("pesq")
    clean = voice()
    top = 0.999 + 4 / (1 + np.exp(-1.3669 * 4.5 + 3.8224))  # P.862.2 maps the highest raw score, 4.5, to this
    assert pesq_wb(clean, clean, RATE) == pytest.approx(top, abs=1e-3)
    assert pesq_wb(clean, clean + at_ratio(clean, noise(1, len(clean)), 0.0), RATE) < 2
    assert score(noise(0, 1_000), noise(1, 1_000), RATE, ["pesq"])["pesq"] == Failure(
        "Buffer needs to be at least 1/4 of a second long"
    )
