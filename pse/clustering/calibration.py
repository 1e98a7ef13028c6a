"""Reading the number of speakers off the curve of an estimator, as mixtures taught it whose number is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Values of a curve are parts of 1: what varies by less than this says nothing, and must not get an endless weight.
LEAST_DEVIATION = 1e-3
# No curve that an estimator makes has more values, and nobody counts so many speakers.
MOST = 1000


@dataclass(frozen=True)
class Calibration:
    """Multinomial logistic regression from a curve to the number of speakers.

    weights: [C][F], biases: [C], of 1 to C speakers and the first F values of a curve, zeros where it has fewer.
    Raises ValueError for other sizes and for what is no number.
    """

    weights: list[list[float]]
    biases: list[float]

    def __post_init__(self) -> None:
        sizes = {len(row) for row in self.weights}
        if len(sizes) != 1 or not 0 < len(self.weights) == len(self.biases) <= MOST or not 0 < max(sizes) <= MOST:
            told = f"{len(self.weights)} rows of {sorted(sizes)[:3]} and {len(self.biases)} biases"
            raise ValueError(f"a calibration has rows of one length, and as many biases, got {told}")
        if not all(map(math.isfinite, (*self.biases, *(w for row in self.weights for w in row)))):
            raise ValueError("a calibration has finite numbers")

    def count(self, curve: Sequence[float]) -> int:
        """The likeliest number of speakers."""
        values = padded(curve, len(self.weights[0]))
        scores = [
            bias + sum(w * v for w, v in zip(row, values, strict=True))
            for row, bias in zip(self.weights, self.biases, strict=True)
        ]
        return 1 + scores.index(max(scores))

    def note(self, count: int) -> str | None:
        """What a user is to be told of the largest number that it can tell."""
        told = f"at least {count} speakers: its calibration tells no more, give the number where you know it"
        return told if count == len(self.biases) else None


def padded(curve: Sequence[float], size: int) -> list[float]:
    """The first values of a curve, with zeros where it has fewer."""
    return [*curve[:size], *[0.0] * (size - len(curve))]


def calibrate(curves: Sequence[Sequence[float]], counts: Sequence[int], penalty: float = 3.0) -> Calibration:
    """What tells counts (from 1 on) from curves best: the mode of the posterior of a logistic regression.

    penalty: half of it times the square of each weight of the standardised values is added to the negative logarithm
    of the likelihood, without which curves that can be told apart without a fault would have endless weights.
    """
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    size, most = max(map(len, curves)), max(counts)
    values = np.array([padded(curve, size) for curve in curves])
    mean, deviation = values.mean(0), values.std(0).clip(LEAST_DEVIATION)
    inputs = np.column_stack([(values - mean) / deviation, np.ones(len(values))])
    labels = np.eye(most)[np.asarray(counts) - 1]
    free = np.append(np.ones(size), 0.0)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(most, size + 1)
        logits = inputs @ weights.T
        total = logsumexp(logits, axis=1, keepdims=True)
        value = (total.sum() - (logits * labels).sum()) + 0.5 * penalty * (free * weights**2).sum()
        slope = (np.exp(logits - total) - labels).T @ inputs + penalty * free * weights
        return float(value), slope.ravel()

    found = minimize(loss, np.zeros(most * (size + 1)), jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    weights = found.x.reshape(most, size + 1)
    scaled = weights[:, :-1] / deviation
    return Calibration(scaled.tolist(), (weights[:, -1] - scaled @ mean).tolist())
