"""SDR as BSS Eval defines it: a 512-tap filter of the reference is forgiven."""

from __future__ import annotations

import numpy as np
from scipy import fft
from scipy.linalg import LinAlgError, lstsq, solve_toeplitz, toeplitz

from pse.scoring.metrics import Metric, ratio_db

TAPS = 512


def _best_filter(autocorrelation: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """The least-squares filter, from the normal equations R h = c with R symmetric Toeplitz.

    Levinson's recursion takes a millisecond but can go wrong without a word where R is close to singular
    (a reference with empty bands), so its answer is checked and the slow way taken if need be.
    """
    try:
        taps = solve_toeplitz(autocorrelation, cross)
    except LinAlgError:
        taps = np.full_like(cross, np.nan)
    matrix = toeplitz(autocorrelation)
    if not np.abs(matrix @ taps - cross).max() <= 1e-9 * np.abs(cross).max():
        taps = lstsq(matrix, cross)[0]
    return taps


def project(reference: np.ndarray, estimate: np.ndarray, num_taps: int = TAPS) -> np.ndarray:
    """The part of `estimate` [T] that a causal filter of `reference` [T] explains: [T + num_taps - 1].

    Source: Vincent, Gribonval & Fevotte, IEEE TASLP 14(4), 2006, section III-B (time-invariant filters).
    """
    length = len(reference) + num_taps - 1
    size = fft.next_fast_len(length, real=True)
    spectrum = fft.rfft(reference, size)
    autocorrelation = fft.irfft(np.abs(spectrum) ** 2, size)[:num_taps]
    cross = fft.irfft(spectrum.conj() * fft.rfft(estimate, size), size)[:num_taps]
    taps = _best_filter(autocorrelation, cross)
    return fft.irfft(spectrum * fft.rfft(taps, size), size)[:length]


def sdr(reference: np.ndarray, estimate: np.ndarray, sample_rate: int = 0) -> float:
    """Signal-to-distortion ratio of BSS Eval for one source, in dB, finite also on silence.

    reference, estimate: [T]. Source: Vincent, Gribonval & Fevotte 2006, eq. 12.
    """
    reference, estimate = np.asarray(reference, np.float64), np.asarray(estimate, np.float64)
    if not reference.any() or not estimate.any():
        return ratio_db(0.0, 0.0)
    target = project(reference, estimate)
    error = target.copy()
    error[: len(estimate)] -= estimate
    return ratio_db(float(target @ target), float(error @ error))


METRICS = (Metric("sdr", "SDR", "dB", 2, sdr),)
