"""Predictors of what a listener would say, through their packages: wide-band PESQ, eSTOI, and DNSMOS."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

import numpy as np

from pse.scoring.metrics import Metric, Undefined

PESQ_RATE_HZ = 16_000
# The C code of `pesq` keeps room for 50 utterances and overruns it beyond; each takes it 0.4 s at least.
PESQ_LONGEST_S = 20.0
DNSMOS_RATE_HZ = 16_000
ESTOI_LOWEST_RATE_HZ = 8_000
# 30 frames of 256 samples at 10 kHz, half overlapping: what one intermediate measure of eSTOI is made of.
ESTOI_SHORTEST_S = 0.4


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Undefined(f"{name} is not installed") from error


def pesq_wb(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Wide-band PESQ, MOS-LQO from 1.04 to 4.64.

    reference, estimate: [T] at 16 kHz. Raises Undefined where it is not defined or not installed.
    Source: ITU-T P.862.2 (2007), the `pesq` package.
    """
    pesq = _package("pesq")
    if sample_rate != PESQ_RATE_HZ:
        raise Undefined(f"wide-band PESQ needs 16000 Hz, not {sample_rate}")
    if len(reference) > PESQ_LONGEST_S * sample_rate:
        raise Undefined(f"PESQ is limited to {PESQ_LONGEST_S:g} s, this is longer")
    try:
        return float(pesq.pesq(sample_rate, reference, estimate, "wb"))
    except pesq.PesqError as error:
        text = error.args[0] if error.args else type(error).__name__
        raise Undefined(text.decode() if isinstance(text, bytes) else str(text)) from error


def estoi(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Extended short-time objective intelligibility, about 0 to 1.

    reference, estimate: [T] at 8 kHz or more. Raises Undefined where less than 0.4 s of speech is there.
    Source: Jensen & Taal, IEEE TASLP 24(11), 2016, the `pystoi` package.
    """
    stoi = _package("pystoi").stoi
    if sample_rate < ESTOI_LOWEST_RATE_HZ:
        raise Undefined(f"eSTOI needs {ESTOI_LOWEST_RATE_HZ} Hz or more, not {sample_rate}")
    if len(reference) < ESTOI_SHORTEST_S * sample_rate:
        raise Undefined(f"shorter than the {ESTOI_SHORTEST_S} s that eSTOI needs")
    # pystoi adds noise of 1e-16 from NumPy's global generator: seeded here, so that a score can be repeated.
    state = np.random.get_state()
    np.random.seed(0)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Not enough STFT frames")
            return float(stoi(reference, estimate, sample_rate, extended=True))
    except RuntimeWarning as warning:
        raise Undefined(f"less than the {ESTOI_SHORTEST_S} s of speech that eSTOI needs") from warning
    finally:
        np.random.set_state(state)


def dnsmos(samples: np.ndarray, sample_rate: int) -> float:
    """Overall quality without a reference, about 1 to 5: what listeners would say by ITU-T P.835.

    samples: [T] at 16 kHz. Raises Undefined where it is not defined or not installed. Source: Reddy, Gopal & Cutler,
    "DNSMOS P.835", ICASSP 2022 (2110.01763), the `speechmos` package, whose weights are in its wheel.
    """
    try:
        run = importlib.import_module("speechmos.dnsmos").run
    except ImportError as error:
        raise Undefined(f"{error.name} is not installed") from error
    if sample_rate != DNSMOS_RATE_HZ:
        raise Undefined(f"DNSMOS needs 16000 Hz, not {sample_rate}")
    return float(run(np.clip(samples, -1, 1), sample_rate)["ovrl_mos"])


METRICS = (Metric("estoi", "eSTOI", "", 3, estoi), Metric("pesq", "PESQ", "", 2, pesq_wb))
