"""Metrics by name: how close an estimate is to its reference, or why that cannot be said.

A metric is a `Metric` in the `METRICS` tuple of any module of this package; `available` finds it.
"""

from __future__ import annotations

import functools
import importlib
import math
import pkgutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from pse.errors import PseError

# Ratios are held within these bounds: 100 dB is past what 16-bit audio can tell apart, and means stay finite.
LIMIT_DB = 100.0
# A signal whose peak is below this (-160 dB re full scale) is silence.
SILENCE_PEAK = 1e-8


class Undefined(Exception):
    """A metric has no value for this pair of signals; the message says why."""


@dataclass(frozen=True)
class Failure:
    """A score that could not be computed; `reason` is one line of plain text."""

    reason: str

    def __post_init__(self) -> None:
        line = " ".join("".join(c if c.isprintable() else " " for c in self.reason).split())
        object.__setattr__(self, "reason", line or "unknown")


@dataclass(frozen=True)
class Metric:
    """A measure of estimate against reference; higher is better.

    `compute(reference [T], estimate [T], sample_rate) -> float` gets float64 arrays of one length, finite
    and not silent; it raises Undefined where it has no value.
    """

    name: str
    label: str
    unit: str
    decimals: int
    compute: Callable[[np.ndarray, np.ndarray, int], float]

    def heading(self, suffix: str = "") -> str:
        """What stands over its column: `SI-SDRi (dB)` for the suffix `i`."""
        return f"{self.label}{suffix} ({self.unit})" if self.unit else f"{self.label}{suffix}"


def ratio_db(signal_energy: float, error_energy: float) -> float:
    """10 log10(signal / error), held within +-LIMIT_DB; no signal at all is -LIMIT_DB."""
    if signal_energy <= 0:
        return -LIMIT_DB
    if error_energy <= 0:
        return LIMIT_DB
    value = 10 * (math.log10(signal_energy) - math.log10(error_energy))
    return min(max(value, -LIMIT_DB), LIMIT_DB)


def si_sdr(reference: np.ndarray, estimate: np.ndarray, sample_rate: int = 0) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, finite also on silence.

    reference, estimate: [T]. No mean is removed. Source: Le Roux, Wisdom, Erdogan & Hershey,
    "SDR - half-baked or well done?", ICASSP 2019, eq. 5.
    """
    reference, estimate = np.asarray(reference, np.float64), np.asarray(estimate, np.float64)
    energy = reference @ reference
    if energy <= 0:
        return -LIMIT_DB
    target = (estimate @ reference / energy) * reference
    error = estimate - target
    return ratio_db(float(target @ target), float(error @ error))


METRICS = (Metric("si_sdr", "SI-SDR", "dB", 2, si_sdr),)


@functools.cache
def available() -> dict[str, Metric]:
    """All metrics by name, in the order of their names."""
    package = importlib.import_module("pse.scoring")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    modules = [importlib.import_module(f"pse.scoring.{name}") for name in names]
    found = [metric for module in modules for metric in getattr(module, "METRICS", ())]
    return {metric.name: metric for metric in sorted(found, key=lambda metric: metric.name)}


def find(name: str, where: str | None = None) -> Metric:
    """The metric `name`. Raises PseError naming the nearest one."""
    if name not in available():
        near = get_close_matches(name, available(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(available())}"
        raise PseError(f"no metric is named {name!r}", where, hint)
    return available()[name]


def _fault(reference: np.ndarray, estimate: np.ndarray) -> str | None:
    """Why no metric at all can judge this pair, or None."""
    if reference.ndim != 1 or estimate.ndim != 1:
        return f"signals must be mono, these are {reference.ndim}- and {estimate.ndim}-dimensional"
    if len(reference) != len(estimate):
        return f"reference has {len(reference)} samples, estimate {len(estimate)}"
    for name, signal in (("reference", reference), ("estimate", estimate)):
        if not np.isfinite(signal).all():
            return f"{name} has {int((~np.isfinite(signal)).sum())} samples that are not finite"
        if np.abs(signal).max(initial=0.0) < SILENCE_PEAK:
            return f"{name} is silent"
    return None


def _compute(
    metric: Metric, reference: np.ndarray, estimate: np.ndarray, sample_rate: int
) -> float | Failure:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = float(metric.compute(reference, estimate, sample_rate))
    except Undefined as reason:
        return Failure(str(reason))
    except Exception as error:
        return Failure(f"{type(error).__name__}: {error}")
    return value if math.isfinite(value) else Failure(f"the value is {value}")


def score(
    reference: np.ndarray, estimate: np.ndarray, sample_rate: int, metrics: Sequence[str]
) -> dict[str, float | Failure]:
    """The value of each metric, or a Failure that says why there is none; never NaN, never infinite.

    reference, estimate: [T] in [-1, 1] at sample_rate Hz. Raises PseError for the name of no metric.
    """
    chosen = [find(name) for name in metrics]
    reference, estimate = np.asarray(reference, np.float64), np.asarray(estimate, np.float64)
    fault = _fault(reference, estimate)
    if fault is not None:
        return {metric.name: Failure(fault) for metric in chosen}
    return {metric.name: _compute(metric, reference, estimate, sample_rate) for metric in chosen}
