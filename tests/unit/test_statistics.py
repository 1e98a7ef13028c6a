"""Means, intervals and paired tests against textbook values and scipy.stats."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pse.errors import PseError
from pse.scoring.statistics import Estimate, clustered_difference, mean_ci, paired_by_id, paired_difference

NUMBERS = st.lists(st.floats(-100, 100), min_size=2, max_size=30)


def test_the_interval_is_students_t_times_the_standard_error() -> None:
    estimate = mean_ci([1.0, 2.0, 3.0, 4.0])
    assert estimate is not None and (estimate.mean, estimate.n) == (2.5, 4)
    assert estimate.half_width == pytest.approx(3.182446 * math.sqrt(5 / 3) / 2, rel=1e-6)  # t(0.975, 3)


def test_no_value_has_no_mean_and_one_value_no_interval() -> None:
    assert mean_ci([]) is None
    assert mean_ci([3.5]) == Estimate(3.5, None, 1)


@given(values=NUMBERS, shift=st.floats(-50, 50), scale=st.floats(-3, 3))
def test_mean_and_interval_follow_shift_and_scale(values: list[float], shift: float, scale: float) -> None:
    before, after = mean_ci(values), mean_ci([scale * v + shift for v in values])
    assert after.mean == pytest.approx(scale * before.mean + shift, abs=1e-9)
    assert after.half_width == pytest.approx(abs(scale) * before.half_width, abs=1e-9)


def test_about_95_of_100_intervals_hold_the_true_mean() -> None:
    draws = np.random.default_rng(0).normal(2.0, 3.0, (2000, 8))
    held = [abs(e.mean - 2.0) <= e.half_width for e in map(mean_ci, draws)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(PseError, match="finite"):
        mean_ci([1.0, bad])
    with pytest.raises(PseError, match="finite"):
        paired_difference([1.0, 2.0], [bad, 2.0])


@settings(max_examples=25)
@given(pairs=st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=7))
def test_swapping_the_systems_turns_the_difference_round(pairs: list[tuple[float, float]]) -> None:
    a, b = zip(*pairs, strict=True)
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert there.mean == -back.mean
    assert (there.half_width, there.p_value, there.wilcoxon_p) == (
        back.half_width,
        back.p_value,
        back.wilcoxon_p,
    )


def test_p_values_and_interval_agree_with_scipy_stats() -> None:
    from scipy import stats

    random = np.random.default_rng(1)
    a = random.normal(0, 2, 40)
    b = a + random.normal(0.4, 1, 40)
    found, oracle = paired_difference(a, b), stats.ttest_rel(b, a)
    low, high = oracle.confidence_interval(0.95)
    assert found.p_value == pytest.approx(oracle.pvalue, rel=1e-9)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    assert found.wilcoxon_p == pytest.approx(stats.wilcoxon(b, a).pvalue, rel=1e-12)


def test_equal_systems_have_p_one_and_a_constant_gain_leaves_no_doubt() -> None:
    a = [1.0, 5.0, -2.0, 0.25]
    same, gain = paired_difference(a, a), paired_difference(a, [v + 0.5 for v in a])
    assert (same.mean, same.half_width, same.p_value, same.wilcoxon_p) == (0, 0, 1, 1)
    assert (gain.mean, gain.half_width, gain.p_value) == (0.5, 0, 0)


def test_one_pair_has_a_difference_without_a_test_and_none_has_nothing() -> None:
    one = paired_difference([1.0], [3.0])
    assert (one.mean, one.n, one.half_width, one.p_value, one.wilcoxon_p) == (2.0, 1, None, None, None)
    assert paired_difference([], []) is None


def test_lists_of_different_length_are_not_pairs() -> None:
    with pytest.raises(PseError, match="2 values against 1"):
        paired_difference([1.0, 2.0], [1.0])


def test_only_ids_that_both_have_are_paired_whatever_their_order() -> None:
    a = {"u1": 1.0, "u2": 2.0, "u4": 9.0}
    b = {"u3": 7.0, "u2": 2.5, "u1": 1.5}
    assert paired_by_id(a, b) == paired_difference([1.0, 2.0], [1.5, 2.5])


def test_items_of_one_cluster_count_once() -> None:
    values = {"a1": 1.0, "a2": 1.0, "a3": 1.0, "b1": 2.0}
    cluster = {k: k[0] for k in values}
    zero = dict.fromkeys(values, 0.0)
    found = clustered_difference(zero, values, cluster)
    assert found is not None and found.n == 2 and found.mean == 1.5
    alone = clustered_difference(zero, values, {k: k for k in values})
    plain = paired_by_id(zero, values)
    assert alone is not None and plain is not None
    assert (alone.mean, alone.half_width, alone.n) == (plain.mean, plain.half_width, plain.n)
