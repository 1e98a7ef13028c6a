"""Means with confidence intervals, and paired differences between two systems."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from pse.errors import PseError


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` values and the half-width of its confidence interval (None where n < 2)."""

    mean: float
    half_width: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """The mean of b - a over the pairs, its half-width, and how likely it is under no difference.

    `p_value` is the paired t test's, two-sided; `wilcoxon_p` the signed-rank test's. None where n < 2.
    """

    mean: float
    half_width: float | None
    n: int
    p_value: float | None
    wilcoxon_p: float | None


def _values(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise PseError("a mean needs finite numbers; failed scores are counted, not averaged")
    return array


def _half_width(values: np.ndarray, confidence: float) -> float | None:
    """Student's t times the standard error of the mean: [n] -> half-width, None where n < 2."""
    n = len(values)
    if n < 2:
        return None
    return float(stdtrit(n - 1, (1 + confidence) / 2) * values.std(ddof=1) / math.sqrt(n))


def mean_ci(values: Sequence[float], confidence: float = 0.95) -> Estimate | None:
    """The mean of `values` [n] and its confidence interval by Student's t; None for no values.

    Raises PseError when a value is not finite.
    """
    array = _values(values)
    if not len(array):
        return None
    return Estimate(float(array.mean()), _half_width(array, confidence), len(array))


def _t_test(differences: np.ndarray) -> float | None:
    """Two-sided p value of a mean of zero; differences that are all equal leave no doubt."""
    n = len(differences)
    if n < 2:
        return None
    mean, error = float(differences.mean()), float(differences.std(ddof=1) / math.sqrt(n))
    if error <= 1e-12 * abs(mean):
        return 0.0 if mean else 1.0
    return float(2 * stdtr(n - 1, -abs(mean) / error))


def _wilcoxon(differences: np.ndarray) -> float | None:
    if len(differences) < 2:
        return None
    if not differences.any():
        return 1.0
    # scipy.stats takes a second to import, so it is left to the one command that compares.
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences).pvalue)


def paired_difference(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Difference | None:
    """How much higher `b` [n] scores than `a` [n] on the same items; None for no items.

    Raises PseError when the lengths differ or a value is not finite.
    """
    before, after = _values(a), _values(b)
    if len(before) != len(after):
        raise PseError(f"a paired difference needs pairs: {len(before)} values against {len(after)}")
    if not len(before):
        return None
    differences = after - before
    return Difference(
        mean=float(differences.mean()),
        half_width=_half_width(differences, confidence),
        n=len(differences),
        p_value=_t_test(differences),
        wilcoxon_p=_wilcoxon(differences),
    )


def paired_by_id(
    a: Mapping[str, float], b: Mapping[str, float], confidence: float = 0.95
) -> Difference | None:
    """`paired_difference` over the ids that both have, in the order of the ids."""
    ids = sorted(a.keys() & b.keys())
    return paired_difference([a[i] for i in ids], [b[i] for i in ids], confidence)


def clustered_difference(
    a: Mapping[str, float], b: Mapping[str, float], cluster: Mapping[str, str], confidence: float = 0.95
) -> Difference | None:
    """How much higher `b` is than `a`, where items of one cluster are not independent.

    The paired differences are averaged within each cluster (mixtures of one utterance, say), and the
    interval and the tests are over the clusters: n is their number. None for no pairs.
    """
    groups: dict[str, list[float]] = {}
    for item in sorted(a.keys() & b.keys()):
        groups.setdefault(cluster[item], []).append(b[item] - a[item])
    means = [sum(values) / len(values) for values in groups.values()]
    return paired_difference([0.0] * len(means), means, confidence)
