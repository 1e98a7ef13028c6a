"""WSJ0-2mix to WSJ0-5mix: the public lists, and the arithmetic that makes mixtures out of them."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from pse.dsp.active_level import active_level
from pse.errors import PseError, first_three

COUNTS = {"tr": 20000, "cv": 5000, "tt": 3000}
MODES = ("min", "max")
RATES_HZ = (8000, 16000)
LEVEL_RATE_HZ, SOURCE_RATE_HZ = 8000, 16000
PEAK = 0.9
# SHA-256 of the files as published in github.com/mpariente/pywsj0-mix, commit 6ca4c92, metadata/
# (lists by J. Le Roux and E. Nachmani, MIT licence). mix_5_spk_tr.txt could not be had there.
SHA256 = {
    "mix_2_spk_tr.txt": "9ba81d1d2b06fd6761aa3d54484b0374cf0472e7ecb6e5a174d34c08d392a36f",
    "mix_2_spk_cv.txt": "bdb4feebebdc8250db8b40254ce941551758ddf0ffb35f9d93d7c3ae8147f445",
    "mix_2_spk_tt.txt": "92b33ac1df349b80eab62a019a94c129add44b414caeeeeab7cb3adfe0024ad5",
    "mix_3_spk_tr.txt": "1d9ae12aa6db1b86d57ccc3d4d20d7134da9ad59cafc1aeaad8159ae06e1c4d5",
    "mix_3_spk_cv.txt": "db3bad6ab7128b1ec664bae59dc899d1341be1039c67388add2f04363e949a9c",
    "mix_3_spk_tt.txt": "505d321597169d67fcbd2ec978fbafc6e3e601f53ecbcb7e8bc0ce8689497f67",
    "mix_4_spk_tr.txt": "3b775d5bd66e780656e7cf351d74010a9368a3584008bc47092ec636c9e2867f",
    "mix_4_spk_cv.txt": "ee23383ccbf86348f73bb1e65a0ee525a87b9939285ca4b4131d1f4cd610b853",
    "mix_4_spk_tt.txt": "2b6b37452c1f4fd090774dad6d1cb4f81cde1774a893980cbb29d32db3198594",
    "mix_5_spk_cv.txt": "30dda6fbe2ab7fee5124ab6e29a8e94f4df74aaab94e7f2c68db4f5eec22264b",
    "mix_5_spk_tt.txt": "b2ee14d4458aa414ea63a9ea6be5ce6d52ef9433d06a53c41ef4431c7ef3af20",
    "activlev_si_tr_s.txt": "9ead04bd70a93b495b7111e320e4d80f40ca414fa91c8bf0133e00fb114f6a0a",
    "activlev_si_dt_05.txt": "700b45e864f72f43462bdf6c7e62182bc481ebb9366fc6a40e2b76b4f81ad903",
    "activlev_si_et_05.txt": "21957136dffde1ea4d51ca819bc39c4948dd630eb923f4c1d978245b7eeb1085",
}
AGAIN = "download the list again"
LEAVE_OUT = "leave this mixture out"
_PATH = re.compile(r"wsj0/(si_[a-z]+_[0-9a-z]+/[0-9a-z]{3}/[0-9a-z]{8})\.wav")


@dataclass(frozen=True)
class Entry:
    """A line of a list: utterances as `si_tr_s/01t/01to030v`, and the gain of each."""

    paths: tuple[str, ...]
    gains_db: tuple[float, ...]

    @property
    def utts(self) -> tuple[str, ...]:
        """The utterances' ids."""
        return tuple(p.rpartition("/")[2] for p in self.paths)

    @property
    def speakers(self) -> tuple[str, ...]:
        """Who speaks, in the order of the sources."""
        return tuple(u[:3] for u in self.utts)

    @property
    def id(self) -> str:
        """The mixture's file name without .wav: each utterance with its gain.

        Gains have up to 8 significant digits, as MATLAB's num2str writes them: those of the 2- and
        3-speaker lists have 5 and come out as they stand in the list.
        """
        return "_".join(f"{u}_{g:.8g}" for u, g in zip(self.utts, self.gains_db, strict=True))

    def sexes(self, sex: Mapping[str, str]) -> str:
        """The speakers' sexes in the order of the alphabet, `FM`; `?` stands for an unknown one."""
        return "".join(sorted(sex.get(s) or "?" for s in self.speakers))


@dataclass(frozen=True)
class Mixed:
    """A mixture as it is stored: mix [T] and sources [S, T] in int16, and the scale that both were given."""

    mix: np.ndarray
    sources: np.ndarray
    scale: float


def verify(path: str | Path) -> str:
    """The text of a published file. Raises PseError when its name is unknown or its content is another."""
    path = Path(path)
    if path.name not in SHA256:
        raise PseError("is not the name of a published list", path, f"take one of {first_three(SHA256)}")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise PseError("no such file", path, "download the list") from None
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256[path.name]:
        raise PseError(f"is not the published file (SHA-256 {found[:12]}..)", path, AGAIN)
    return data.decode("ascii")


def read_published(path: str | Path) -> list[Entry]:
    """A published list mix_<2..5>_spk_<tr|cv|tt>.txt: content and number of lines are verified."""
    entries = parse(verify(path), path)
    _, speakers, _, part = Path(path).stem.split("_")
    if len(entries) != COUNTS[part] or {len(e.paths) for e in entries} != {int(speakers)}:
        raise PseError(f"has {len(entries)} mixtures, not {COUNTS[part]} of {speakers} speakers", path, AGAIN)
    return entries


def parse(text: str, where: str | Path | None = None) -> list[Entry]:
    """The lines of a list: `wsj0/<set>/<speaker>/<utterance>.wav <gain in dB>`, two to five times.

    Raises PseError that counts the lines that are not so, mix an utterance with itself, or occur
    twice. (The 4- and 5-speaker lists do have mixtures with two utterances of one speaker.)
    """
    entries, bad = [], []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        paths = [m[1] for m in map(_PATH.fullmatch, words[::2]) if m]
        gains = [g for g in map(_number, words[1::2]) if g is not None]
        whole = 2 <= len(paths) == len(gains) == len(words) / 2 and len(paths) <= 5
        entry = Entry(tuple(paths), tuple(gains))
        if whole and len(set(paths)) == len(paths):
            entries.append(entry)
        else:
            bad.append(f"line {number}")
    if bad or not entries:
        total = len(bad) + len(entries)
        raise PseError(f"{len(bad)} of {total} lines are no mixture: {first_three(bad)}", where, AGAIN)
    twice = len(entries) - len({e.id for e in entries})
    if twice:
        raise PseError(f"{twice} mixtures occur twice", where, AGAIN)
    return entries


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def parse_levels(text: str, where: str | Path | None = None) -> dict[str, float]:
    """Utterance -> active power at 8 kHz, of the lines `<utterance> <power>` of an activlev_*.txt."""
    rows = [line.split() for line in text.splitlines()]
    powers = {r[0]: _number(r[1]) for r in rows if len(r) == 2}
    if not rows or len(powers) < len(rows) or not all(p is not None and p > 0.0 for p in powers.values()):
        raise PseError("has lines that are not `utterance power`, or utterances that occur twice", where, AGAIN)
    return powers


def resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resample [T] in a polyphase filter, scipy's default one, as the Python port of the builder does.

    MATLAB's `resample` has nearly the same filter: the port's authors report about 70 dB between the two.
    """
    if from_hz == to_hz:
        return np.asarray(samples)
    common = math.gcd(from_hz, to_hz)
    return resample_poly(samples, to_hz // common, from_hz // common)


def level(samples: np.ndarray, sample_rate: int) -> float:
    """The power that a source [T] is divided by: its active power at 8 kHz. PseError when it is silent."""
    return active_level(resample(samples, sample_rate, LEVEL_RATE_HZ), LEVEL_RATE_HZ).power


def mix(
    sources: Sequence[np.ndarray],
    gains_db: Sequence[float],
    levels: Sequence[float] | None = None,
    *,
    from_hz: int = SOURCE_RATE_HZ,
    to_hz: int = LEVEL_RATE_HZ,
    mode: str = "min",
) -> Mixed:
    """Mix sources [T] as the published builder (create_wav_2speakers.m, its Python port pywsj0-mix) does.

    Each whole source is resampled, brought to active power 1, whatever the rate with its level at
    8 kHz (None measures it), and given its gain. Then all are cut to the shortest (`min`) or padded
    with zeros to the longest (`max`), summed, and scaled together so that the largest sample of mix
    and sources is 0.9; each is rounded to 16 bits on its own.
    Raises PseError for fewer than two or more than five sources, silent ones, levels or gains that
    are no numbers, and unknown modes or rates.
    """
    _check(sources, gains_db, to_hz, mode)
    levels = _measured(sources, from_hz) if levels is None else levels
    if len(levels) != len(sources) or not all(p > 0.0 and math.isfinite(p) for p in levels):
        raise PseError(f"the levels {list(levels)} are not a positive number for each of {len(sources)} sources")
    scaled = [
        resample(s, from_hz, to_hz).astype(np.float64) * (10.0 ** (g / 20.0) / math.sqrt(p))
        for s, g, p in zip(sources, gains_db, levels, strict=True)
    ]
    length = (min if mode == "min" else max)(len(s) for s in scaled)
    together = np.stack([np.pad(s[:length], (0, max(0, length - len(s)))) for s in scaled])
    silent = [i + 1 for i, s in enumerate(together) if not s.any()]
    if silent:
        raise PseError(f"source {first_three(silent)} is silent in what is mixed", fix=LEAVE_OUT)
    total = together.sum(axis=0)
    # The port divides by at least 1 / 0.9, which only differs where no sample exceeds an active level of 1.
    scale = PEAK / max(float(np.abs(total).max()), float(np.abs(together).max()))
    return Mixed(to_int16(scale * total), to_int16(scale * together), scale)


def _check(sources: Sequence[np.ndarray], gains_db: Sequence[float], to_hz: int, mode: str) -> None:
    if mode not in MODES or to_hz not in RATES_HZ:
        raise PseError(f"no WSJ0-mix is {mode!r} at {to_hz} Hz", fix="choose min or max, and 8000 or 16000")
    if not 2 <= len(sources) <= 5 or len(sources) != len(gains_db):
        raise PseError(f"{len(sources)} sources with {len(gains_db)} gains are no mixture of 2 to 5")
    if not all(math.isfinite(g) for g in gains_db):
        raise PseError(f"the gains {list(gains_db)} are not all numbers")
    bad = [i for i, s in enumerate(sources, 1) if s.ndim != 1 or not len(s) or not np.isfinite(s).all()]
    if bad:
        raise PseError(f"source {first_three(bad)} is empty, not mono, or holds NaN or infinity", fix=LEAVE_OUT)


def _measured(sources: Sequence[np.ndarray], sample_rate: int) -> list[float]:
    levels = []
    for number, samples in enumerate(sources, 1):
        try:
            levels.append(level(samples, sample_rate))
        except PseError as error:
            raise PseError(f"source {number}: {error.what}", fix=LEAVE_OUT) from error
    return levels


def to_int16(samples: np.ndarray) -> np.ndarray:
    """round(2^15 x) in int16, as MATLAB's old wavwrite had it: halves away from zero, and no sample beyond 16 bits."""
    steps = 32768.0 * np.asarray(samples, dtype=np.float64)
    return np.clip(np.trunc(steps + np.copysign(0.5, steps)), -32768, 32767).astype(np.int16)


def folders(num_speakers: int, sample_rate: int, mode: str, part: str) -> dict[str, str]:
    """Where a set lies in the published tree: {`mix`: `2speakers/wav8k/min/tr/mix`, `s1`: ..}."""
    base = f"{num_speakers}speakers/wav{sample_rate // 1000}k/{mode}/{part}"
    return {name: f"{base}/{name}" for name in ("mix", *(f"s{i + 1}" for i in range(num_speakers)))}


def describe(entry: Entry, sex: Mapping[str, str] | None = None) -> dict[str, object]:
    """A list entry in words, ready for JSON lines."""
    return {
        "id": entry.id,
        "utts": list(entry.utts),
        "speakers": list(entry.speakers),
        "gains_db": list(entry.gains_db),
        "sexes": entry.sexes(sex or {}),
    }


def level_fault(measured: Mapping[str, float], published: Mapping[str, float], tolerance_db: float = 0.5) -> str | None:
    """What is wrong with audio whose measured levels (`level`) are not the published ones; None when nothing is.

    WSJ0 has two microphones with the same file names, and audio of the second one costs 1 to 2 dB
    of every result. Their levels differ, so some utterances tell whose audio a `.wav` holds.
    """
    both = sorted(set(measured) & set(published))
    apart = {u: abs(10.0 * math.log10(measured[u] / published[u])) for u in both}
    off = [u for u in both if apart[u] > tolerance_db]
    if len(off) * 2 <= len(both):
        return None
    middle = float(np.median(list(apart.values())))
    what = f"the active level of {len(off)} of {len(both)} utterances is not the published one"
    return f"{what} (median {middle:.1f} dB apart, {first_three(off)}): the audio may be the second microphone's"
