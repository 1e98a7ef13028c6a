"""Keys that the recipes' configs have alike, and the checks of their values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

# A method names directories and rows of tables; a dot stands before what was done with its model.
METHOD = re.compile(r"[A-Za-z0-9_-]+")
EXPERIMENT = re.compile(r"\w[\w.-]*", re.ASCII)
# Names of conditions that no method makes: the unprocessed input, and first weights that nothing trained; and of a
# package.
RESERVED = ("mixture", "random", "snr_predictor")
MAX_SEED = 2**32 - 1
MAX_SNR_DB = 100.0
SAMPLE_RATES_HZ = (4000, 96000)


def within(config: Any, low: float, high: float, *names: str) -> None:
    """Refuse a value of these keys that is not between two bounds, which it may be."""
    for name in names:
        value = getattr(config, name)
        if not low <= value <= high:
            bounds = f"at least {low}" if high == math.inf else f"from {low} to {high}"
            raise ValueError(f"{name} must be {bounds}, got {value}")


def positive(config: Any, *names: str) -> None:
    """Refuse a value of these keys that is not a number above 0."""
    for name in names:
        value = getattr(config, name)
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be above 0, got {value}")


def range_db(config: Any, *names: str) -> None:
    """Refuse what is no range of ratios in dB."""
    for name in names:
        low, high = getattr(config, name)
        if not -MAX_SNR_DB <= low <= high <= MAX_SNR_DB:
            most = f"{MAX_SNR_DB:g} dB"
            raise ValueError(f"{name} must be [lowest, highest] within -{most} and {most}, got [{low}, {high}]")


def unique(name: str, values: Sequence[str]) -> None:
    """Refuse a list that holds something twice."""
    twice = [v for i, v in enumerate(values) if v in values[:i]]
    if twice:
        raise ValueError(f"{name} holds {twice[0]} twice; leave one out")


def one_line(config: Any) -> None:
    """Refuse names of directories that hold a newline: the tables of a data directory have one line an entry."""
    for name in (f.name for f in fields(config) if f.name.endswith(("_dir", "_manifest"))):
        if len(str(getattr(config, name)).splitlines()) > 1:
            raise ValueError(f"{name} holds a newline; rename the directory")


def method_names(names: Iterable[str]) -> None:
    """Refuse names that cannot be those of methods."""
    for name in names:
        if not METHOD.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a method; use letters, digits, _ and -")
        if name in RESERVED:
            raise ValueError(f"{name!r} has a meaning of its own; give the method another name")


@dataclass(frozen=True)
class MiniConfig:
    """The embedded corpus: how much of it to synthesise, and which one."""

    seed: int = 0
    num_speakers: int = 40
    speaker_s: float = 120.0
    target_speaker_s: float = 300.0
    noise_share: float = 1.0

    def __post_init__(self) -> None:
        within(self, 0, MAX_SEED, "seed")
        within(self, 1, math.inf, "num_speakers")
        positive(self, "speaker_s", "target_speaker_s", "noise_share")


@dataclass(frozen=True)
class ScoreConfig:
    """Stage score."""

    metrics: list[Literal["si_sdr", "sdr", "pesq", "estoi"]] = field(
        default_factory=lambda: ["si_sdr", "sdr", "pesq", "estoi"]
    )

    def __post_init__(self) -> None:
        if "si_sdr" not in self.metrics:
            raise ValueError("metrics needs si_sdr: the systems are put in order by it")
        unique("metrics", self.metrics)


def check_speeds(speeds: Sequence[float]) -> None:
    """Raise ValueError for speeds of training speech that are none, or none that a voice could have."""
    if not speeds or not all(0.5 <= s <= 2 for s in speeds) or len(set(speeds)) < len(speeds):
        raise ValueError(f"speeds must be numbers from 0.5 to 2, each once, got {speeds}")
