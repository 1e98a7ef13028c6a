"""What the benchmarks of several claims share: two sides timed in turns, and peers that may not be there."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def versus(name: str, ours: Callable[[], Any], peer: str, theirs: Callable[[], Any] | None, rounds: int) -> None:
    """Print both times and their ratio: medians of alternating rounds, after one to warm up."""
    sides = [ours] if theirs is None else [ours, theirs]
    seconds: list[list[float]] = [[] for _ in sides]
    for number in range(rounds + 1):
        for taken, run in zip(seconds, sides, strict=True):
            start = time.perf_counter()
            run()
            if number:
                taken.append(time.perf_counter() - start)
    told = f"{name:<46} ours {1e3 * statistics.median(seconds[0]):8.1f} ms"
    if theirs is None:
        print(f"{told}   {peer} is not installed", flush=True)
        return
    ratio = statistics.median(t / o for o, t in zip(*seconds, strict=True))
    print(f"{told}   {peer} {1e3 * statistics.median(seconds[1]):8.1f} ms   {ratio:5.2f} x", flush=True)


def imported(module: str, name: str) -> Any:
    """A function of a package that may not be there."""
    try:
        return getattr(__import__(module, fromlist=[name]), name)
    except (ImportError, AttributeError):
        return None
