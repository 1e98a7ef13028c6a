"""The time axis of validation curves: a pause is no training."""

from __future__ import annotations

import pytest

from pse.recipe.separation.figures import minutes


def lines(*points: tuple[int, float]) -> list[dict[str, float]]:
    """Lines of a metrics.jsonl: so many examples after so many seconds."""
    return [{"examples": examples, "seconds": seconds} for examples, seconds in points]


def test_at_a_steady_speed_it_is_the_time_of_training() -> None:
    assert minutes(lines((0, 4), (600, 64), (1200, 124))) == pytest.approx([0, 1, 2])


def test_a_pause_and_a_busy_machine_for_a_while_change_nothing() -> None:
    steady = [(600 * i, 60.0 * i) for i in range(8)]
    paused = [(n, s + (3600 if i > 2 else 0)) for i, (n, s) in enumerate(steady)]
    busy = [(n, s + (50 if i > 6 else 0)) for i, (n, s) in enumerate(steady)]
    assert minutes(lines(*paused)) == minutes(lines(*busy)) == pytest.approx(minutes(lines(*steady)))


def test_a_line_that_is_there_twice_has_no_speed() -> None:
    assert minutes(lines((0, 0), (600, 60), (600, 75))) == pytest.approx([0, 1, 1])
