"""Curves over time under the players: drawn as lines of the page, so that they follow its colours and its width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pse.scoring.markup import text
from pse.scoring.players import axes

# More points than this are more than a screen shows apart.
MOST_POINTS = 600
# The style sheet has so many colours; of more lines the next ones are dashed.
NUM_COLOURS = 5
WIDTH, HEIGHT = 1000, 100


@dataclass(frozen=True)
class Curve:
    """Values [F] by signal, None where one is missing, on an axis from low to high; `level` gets a line of its own."""

    title: str
    unit: str
    low: float
    high: float
    values: Mapping[str, np.ndarray | None]
    level: float


@dataclass(frozen=True)
class Tracks:
    """Curves on one time axis of `seconds`; frame f stands at f * hop_s."""

    curves: Sequence[Curve]
    hop_s: float
    seconds: float

    def html(self) -> str:
        """The block with the names of the lines above it."""
        names = {name: None for curve in self.curves for name in curve.values}
        keys = "".join(f'<li><span class="key {_look(i)}"></span>{text(n)}</li>' for i, n in enumerate(names))
        drawn = "".join(self._drawn(curve) for curve in self.curves)
        return f'<div class="tracks"><ul class="keys">{keys}</ul>{drawn}</div>'

    def _drawn(self, curve: Curve) -> str:
        lines = "".join(
            f'<polyline class="{_look(number)}" points="{self._points(curve, values)}"/>'
            for number, values in enumerate(curve.values.values())
            if values is not None
        )
        at = _height(curve, np.array([curve.level]))[0]
        middle = (curve.low + curve.high) / 2
        marks = [f"{curve.high:g} {curve.unit}".strip(), f"{middle:g}", f"{curve.low:g}"]
        alt = f"{curve.title} over time of {', '.join(n for n, v in curve.values.items() if v is not None)}"
        picture = (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{text(alt)}">'
            f'<polyline class="level" points="0,{at:.1f} {WIDTH},{at:.1f}"/>{lines}</svg>'
        )
        return f"<h4>{text(curve.title)}</h4>{axes(picture, marks, self.seconds)}"

    def _points(self, curve: Curve, values: np.ndarray) -> str:
        size = -(-len(values) // MOST_POINTS)
        blocks = np.pad(np.asarray(values, np.float64), (0, -len(values) % size), mode="edge").reshape(-1, size)
        middle = np.minimum(np.arange(len(blocks)) * size + (size - 1) / 2, len(values) - 1)
        time = np.minimum(middle * self.hop_s / self.seconds, 1) * WIDTH
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(time, _height(curve, blocks.mean(1)), strict=True))


def _height(curve: Curve, values: np.ndarray) -> np.ndarray:
    """Where values [N] stand, counted from the top."""
    return HEIGHT * (1 - (np.clip(values, curve.low, curve.high) - curve.low) / (curve.high - curve.low))


def _look(number: int) -> str:
    """The classes of a line: its colour, and whether it is dashed."""
    return f"line{number % NUM_COLOURS}" + (" dashed" if number >= NUM_COLOURS else "")
