"""Reading a number off a curve: what calibrations learn, and that they are the optimum of what they say they are."""

from __future__ import annotations

import numpy as np
import pytest

from pse.clustering.calibration import Calibration, calibrate, padded

RANDOM = np.random.default_rng(0)


def curves(counts: list[int], noise: float) -> list[list[float]]:
    """c values near 1 / c, and zeros: the spectrum of c sources alike."""
    return [
        (np.r_[np.full(c, 1 / c), np.zeros(5 - c)] + noise * RANDOM.standard_normal(5)).tolist() for c in counts
    ]  # fmt: skip


def test_what_can_be_told_apart_is_told_apart_of_unseen_curves() -> None:
    counts = [1 + i % 4 for i in range(80)]
    reading = calibrate(curves(counts, 0.03), counts)
    unseen = [1 + i % 4 for i in range(200)]
    assert np.mean([reading.count(c) == n for c, n in zip(curves(unseen, 0.03), unseen, strict=True)]) > 0.95


def test_no_single_threshold_is_needed_where_the_shape_tells() -> None:
    # The second value says nothing: the third alone does, and upside down.
    counts = [1 + i % 2 for i in range(60)]
    made = [[1.0, float(RANDOM.uniform()), 0.2 * (2 - n) + 0.02 * float(RANDOM.standard_normal())] for n in counts]
    reading = calibrate(made, counts)
    assert [reading.count(c) for c in made] == counts


def test_nothing_to_tell_by_gives_what_is_most_frequent() -> None:
    reading = calibrate([[0.5, 0.5]] * 9, [2, 2, 2, 2, 2, 1, 1, 3, 3])
    assert reading.count([0.5, 0.5]) == 2


def test_scale_and_offset_of_a_curve_change_nothing() -> None:
    counts = [1 + i % 3 for i in range(60)]
    made = np.array(curves(counts, 0.2))
    one, other = calibrate(made.tolist(), counts), calibrate((1000 * made - 70).tolist(), counts)
    assert [one.count(c) for c in made.tolist()] == [other.count(c) for c in (1000 * made - 70).tolist()]


def test_what_hardly_varies_gets_no_endless_weight() -> None:
    counts = [1 + i % 3 for i in range(60)]
    # Rounding that happens to go with the number.
    made = [[*curve, 0.2 + 1e-8 * n] for curve, n in zip(curves(counts, 0.1), counts, strict=True)]
    reading = calibrate(made, counts)
    assert max(abs(w) for row in reading.weights for w in row) < 100
    # On another machine it is rounded otherwise.
    other = [reading.count([*curve[:-1], 0.2]) for curve in made]
    assert other == [reading.count(curve) for curve in made]


def test_it_is_the_minimum_of_the_penalised_likelihood() -> None:
    counts = [1 + i % 3 for i in range(45)]
    made = np.array(curves(counts, 0.3))
    deviation, labels = made.std(0), np.eye(3)[np.array(counts) - 1]

    def loss(reading: Calibration, penalty: float = 3.0) -> float:
        weights, biases = np.array(reading.weights), np.array(reading.biases)
        logits = made @ weights.T + biases
        told = np.log(np.exp(logits).sum(1)).sum() - (logits * labels).sum()
        return told + 0.5 * penalty * ((weights * deviation) ** 2).sum()

    best = calibrate(made.tolist(), counts)
    for _ in range(50):
        moved = Calibration(
            (np.array(best.weights) + 0.05 * RANDOM.standard_normal((3, 5))).tolist(),
            (np.array(best.biases) + 0.05 * RANDOM.standard_normal(3)).tolist(),
        )
        assert loss(moved) > loss(best)


def test_a_short_curve_goes_on_with_zeros() -> None:
    assert padded([1.0, 0.5], 4) == [1.0, 0.5, 0.0, 0.0] and padded([1.0, 0.5], 1) == [1.0]
    reading = Calibration([[0.0, 0.0, 0.0], [1.0, 0.0, 9.0]], [0.5, 0.0])
    assert reading.count([1.0, 0.0]) == reading.count([1.0, 0.0, 0.0, 7.0]) == 2
    assert reading.count([0.1]) == 1


@pytest.mark.parametrize(
    ("weights", "biases"), [([], []), ([[1.0]], []), ([[1.0], []], [0, 0]), ([[]], [0]), ([[float("nan")]], [0.0])]
)
def test_what_is_no_calibration_is_refused(weights: list[list[float]], biases: list[float]) -> None:
    with pytest.raises(ValueError, match="a calibration has"):
        Calibration(weights, biases)
