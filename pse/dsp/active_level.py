"""Active speech level after ITU-T P.56, method B: the power of speech while somebody speaks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.signal import cheby2, lfilter, sosfilt

from pse.errors import PseError

SMOOTHING_S = 0.03
HANGOVER_S = 0.2
MARGIN_DB = 15.9
# The band in which speech is measured: at most 0.25 dB below its level at the edges, 50 dB outside.
BAND_HZ = (200.0, 5500.0)
_ORDER, _EDGE_DB, _STOP_DB = 5, 0.25, 50.0
# Recordings may last for hours: what is worked on in double precision is this many samples of them.
BLOCK = 1 << 20


@dataclass(frozen=True)
class ActiveLevel:
    """power: mean square over the active time; activity: its share of the time; long_term_power: over all time."""

    power: float
    activity: float
    long_term_power: float

    @property
    def level_db(self) -> float:
        """Active level in dB relative to a power of 1."""
        return 10.0 * math.log10(self.power)


def active_level(samples: np.ndarray, sample_rate: int, band_limited: bool = True) -> ActiveLevel:
    """Measure the active speech level of samples [T] (ITU-T P.56, 12/2011, method B).

    The rectified signal runs through two one-pole smoothers of 30 ms, and its peaks are held for
    200 ms. A sample is active when this envelope is not more than 15.9 dB below the level, and the
    level is the energy of the signal divided by the active time. P.56 looks for that level on a
    ladder of thresholds a factor of two apart, and interpolates in dB between two rungs; here every
    value of the envelope is a rung, so that a gain of g changes the power by exactly g^2.

    band_limited: measure between 200 Hz and 5.5 kHz, as voicebox's `activlev` does by default
    (Chebyshev filters of type 2 and order 5; below 12.1 kHz without the upper edge). The published
    levels of WSJ0-mix were made so, at 8 kHz. P.56 itself leaves such a filter to the user.
    voicebox's rungs are 3 dB apart in power and tied to full scale, and its version of 2017, unlike
    that of 2012, appends 0.35 s of silence: on read speech the one moves a level by less than
    0.1 dB, the other by less than 0.2 dB.
    Raises PseError for an empty, silent or broken signal.
    """
    samples = np.asarray(samples)
    if samples.ndim != 1 or not len(samples):
        raise PseError(f"an active level needs samples [T], and got {list(samples.shape)}")
    if not np.isfinite(samples).all():
        raise PseError("an active level cannot be measured: samples are NaN or infinite")
    smooth, energy = smoothed(samples, sample_rate, band_filters(sample_rate) if band_limited else [])
    if not energy > 0.0:
        raise PseError("a silent signal has no active level", fix="leave it out")
    active = _active_samples(held(smooth, sample_rate), energy)
    return ActiveLevel(energy / active, active / len(samples), energy / len(samples))


def band_filters(sample_rate: int) -> list[np.ndarray]:
    """Second-order sections that leave 200 Hz to 5.5 kHz; no upper edge at rates that do not reach it."""
    # A Chebyshev filter's two edges, for its order and its two attenuations, have this ratio.
    depth = math.sqrt((10 ** (_STOP_DB / 10) - 1) / (10 ** (_EDGE_DB / 10) - 1))
    ratio = math.cosh(math.acosh(depth) / _ORDER)
    low, high = (math.tan(math.pi * edge / sample_rate) for edge in BAND_HZ)
    edges = [("highpass", low / ratio)]
    if sample_rate >= 2.2 * BAND_HZ[1]:
        edges.append(("lowpass", high * ratio))
    hz = sample_rate / math.pi
    return [cheby2(_ORDER, _STOP_DB, math.atan(e) * hz, kind, output="sos", fs=sample_rate) for kind, e in edges]


def smoothed(samples: np.ndarray, sample_rate: int, filters: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """Filter [T] and smooth its magnitude twice: ([T] float32, energy of the filtered signal)."""
    pole = math.exp(-1.0 / (SMOOTHING_S * sample_rate))
    states = [np.zeros((len(sections), 2)) for sections in filters]
    tails = [np.zeros(1), np.zeros(1)]
    out, energy = np.empty(len(samples), np.float32), 0.0
    for start in range(0, len(samples), BLOCK):
        block = samples[start : start + BLOCK].astype(np.float64)
        for i, sections in enumerate(filters):
            block, states[i] = sosfilt(sections, block, zi=states[i])
        energy += float(np.square(block).sum())
        block = np.abs(block)
        for i in range(2):
            block, tails[i] = lfilter([1 - pole], [1, -pole], block, zi=tails[i])
        out[start : start + BLOCK] = block
    return out, energy


def held(envelope: np.ndarray, sample_rate: int) -> np.ndarray:
    """The largest of each value of [T] and those of the 200 ms before it."""
    width, reach = math.ceil(HANGOVER_S * sample_rate) + 1, 1
    out = envelope.copy()
    # A window is the larger of two windows of half its width.
    while reach < width:
        step = min(reach, width - reach)
        out[step:] = np.maximum(out[step:], out[:-step])
        reach += step
    return out


def _active_samples(envelope: np.ndarray, energy: float) -> int:
    """How many samples are active: the most whose envelope is within the margin of their own level."""
    envelope.sort()
    nearest_db, active = math.inf, len(envelope)
    for start in range(0, len(envelope), BLOCK):
        rungs = envelope[start : start + BLOCK].astype(np.float64)
        counts = np.arange(len(envelope) - start, len(envelope) - start - len(rungs), -1)
        with np.errstate(divide="ignore"):
            margin_db = 10.0 * np.log10(energy / counts) - 20.0 * np.log10(rungs)
        within = np.flatnonzero(margin_db <= MARGIN_DB)
        if len(within):
            return int(counts[within[0]])
        # A click is never within: its time is that in which the envelope comes nearest.
        best = int(np.argmin(margin_db))
        if margin_db[best] < nearest_db:
            nearest_db, active = float(margin_db[best]), int(counts[best])
    return active
