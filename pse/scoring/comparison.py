"""What can be said of the files of a recording (how long, how noisy, how near to clean speech), and of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pse.dsp.band import is_narrow
from pse.errors import PseError
from pse.io import audio
from pse.scoring.metrics import Failure, find, score
from pse.scoring.statistics import mean_ci
from pse.scoring.tables import Value

# So much of a recording is played, and so much is measured: what is left of a longer one is told.
PLAYED_S, MEASURED_S = 30.0, 600.0
# Reference and recording may differ by so much, which conversion of rates and of formats does: both are cut.
SLACK_S = 0.02


@dataclass(frozen=True)
class Judge:
    """What files are measured with: a model of frame SNR or None, and metrics by name where there is clean speech."""

    predictor: Any = None
    metrics: tuple[str, ...] = ()

    @property
    def hop_s(self) -> float:
        """Seconds from a predicted frame to the next one."""
        return self.predictor.transform.hop / self.predictor.sample_rate


@dataclass(frozen=True)
class Measured:
    """A file. samples: [T] of the part that is played, at sample_rate Hz; frame_snr_db: [F] of what is measured.

    narrow: it has hardly anything above 4 kHz, which a model of frame SNR takes for noise: there is none.
    """

    samples: np.ndarray
    sample_rate: int
    duration_s: float
    frame_snr_db: np.ndarray | None = None
    scores: Mapping[str, Value] = field(default_factory=dict)
    narrow: bool = False


class Column(NamedTuple):
    """A column of the tables: the value of a file, given that of the same recording in the first condition."""

    heading: str
    decimals: int
    value: Callable[[Measured, Measured | None], Value | None]


def metrics_here() -> tuple[str, ...]:
    """The metrics of the page, those whose package is installed."""
    return ("si_sdr", "estoi", *(["pesq"] if find_spec("pesq") else []))


def measure(
    files: Mapping[str, Path], judge: Judge, reference: Path | None = None, scored: Collection[str] = ()
) -> dict[str, Measured | PseError]:
    """What is found of files of one recording, and of those that cannot be read, why.

    Those in `scored` are compared to the reference, at the lowest rate among all files and the reference. Raises
    PseError when the reference cannot be read.
    """
    read = {label: _read(path) for label, path in files.items()}
    clean = None if reference is None else _read(reference)
    if isinstance(clean, PseError):
        raise clean
    rate = min((x.sample_rate for x in (*read.values(), clean) if isinstance(x, _Read)), default=0)
    if clean is not None:
        clean = _at(clean, rate)
    return {
        label: x if isinstance(x, PseError) else _measured(x, clean if label in scored else None, rate, judge)
        for label, x in read.items()
    }


class _Read(NamedTuple):
    """The samples [T] that are measured, their rate in Hz, and the seconds of the whole file."""

    samples: np.ndarray
    sample_rate: int
    duration_s: float


def _read(path: Path) -> _Read | PseError:
    try:
        about = audio.probe(path)
        most = min(about.num_samples, round(MEASURED_S * about.sample_rate))
        return _Read(*audio.read(path, num_samples=most), about.duration_s)
    except PseError as error:
        return error


def _at(sound: _Read, rate: int) -> _Read:
    return _Read(audio.resample(sound.samples, sound.sample_rate, rate), rate, sound.duration_s)


def _measured(sound: _Read, clean: _Read | None, rate: int, judge: Judge) -> Measured:
    scores = {} if clean is None else _scores(clean.samples, _at(sound, rate).samples, rate, judge)
    track, narrow = (None, False) if judge.predictor is None else _track(sound, judge.predictor)
    played = sound.samples[: round(PLAYED_S * sound.sample_rate)].copy()
    return Measured(played, sound.sample_rate, sound.duration_s, track, scores, narrow)


def _scores(clean: np.ndarray, samples: np.ndarray, rate: int, judge: Judge) -> dict[str, Value]:
    if abs(len(clean) - len(samples)) <= SLACK_S * rate:
        clean, samples = (x[: min(len(clean), len(samples))] for x in (clean, samples))
    return score(clean, samples, rate, judge.metrics)


def _track(sound: _Read, predictor: Any) -> tuple[np.ndarray | None, bool]:
    """Predicted frame SNRs, or that the band is too narrow for them."""
    from pse.inference.frame_snr import frame_snr_db

    samples = _at(sound, predictor.sample_rate).samples
    narrow = is_narrow(samples, predictor.sample_rate)
    return None if narrow else frame_snr_db(predictor, samples), narrow


def columns(judge: Judge, scored: bool) -> list[Column]:
    """The columns that there is something for."""
    found = [Column("frame SNR (dB)", 1, _mean_snr)] if judge.predictor is not None else []
    for name in judge.metrics if scored else ():
        metric = find(name)
        found.append(Column(metric.heading(), metric.decimals, lambda m, _, name=name: m.scores.get(name)))
        if name == "si_sdr":
            found.append(Column(metric.heading("i"), metric.decimals, _gain))
    return found


def _mean_snr(measured: Measured, _: Measured | None) -> Value | None:
    if measured.narrow:
        return Failure("it has hardly anything above 4 kHz, which the predictor takes for noise")
    return None if measured.frame_snr_db is None else float(measured.frame_snr_db.mean())


def _gain(measured: Measured, first: Measured | None) -> Value | None:
    """The improvement of SI-SDR over the first condition, which itself has none."""
    if first is None or first is measured or not measured.scores or not first.scores:
        return None
    before, after = first.scores["si_sdr"], measured.scores["si_sdr"]
    if isinstance(before, Failure) or isinstance(after, Failure):
        return after if isinstance(after, Failure) else before
    return after - before


def cell(value: Value | None, decimals: int) -> str:
    """A value as text: a dash for none and for one that failed, whose reason stands elsewhere."""
    return "-" if value is None or isinstance(value, Failure) else _number(value, decimals)


def _number(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def mean_cell(values: Iterable[Value | None], decimals: int) -> str:
    """The mean of what did not fail, with the half-width of its 95 % interval and how many there are."""
    estimate = mean_ci([v for v in values if v is not None and not isinstance(v, Failure)])
    if estimate is None:
        return "-"
    width = "" if estimate.half_width is None else f" ± {estimate.half_width:.{decimals}f}"
    return f"{_number(estimate.mean, decimals)}{width} (n = {estimate.n})"


def failures(values: Mapping[str, Sequence[Value | None]]) -> list[tuple[str, int, str]]:
    """Which columns {heading: values of all files} lack a value, of how many files, and why, for each reason."""
    found: dict[str, dict[str, int]] = {}
    for heading, column in values.items():
        for reason, times in Counter(v.reason for v in column if isinstance(v, Failure)).items():
            found.setdefault(reason, {})[heading] = times
    return [(", ".join(headings), max(headings.values()), why) for why, headings in found.items()]
