"""A line on stderr that says how far something is, and is renewed."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType

# On a terminal, and where each line stays.
RENEW_S, REPEAT_S = 1.0, 10.0


class StatusLine:
    """One line that is renewed each second on a terminal; every ten seconds another one elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._told_at = time.monotonic()

    def __enter__(self) -> StatusLine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def tell(self, text: str) -> None:
        """Show the text, unless the last one is too new."""
        now = time.monotonic()
        if now - self._told_at < (RENEW_S if self._terminal else REPEAT_S):
            return
        self._told_at = now
        if self._terminal:
            columns = shutil.get_terminal_size().columns
            print(f"\r\x1b[K{text[: columns - 1]}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)


class Progress(StatusLine):
    """How much of a recording is done, how fast, and how long the rest will take."""

    def __init__(self, name: str, duration_s: float) -> None:
        super().__init__()
        self._name, self._duration_s, self._start = name, duration_s, time.monotonic()

    def done(self, part: float) -> None:
        """This part of the recording, from 0 to 1, is done."""
        if 0 < part < 1:
            self.tell(told(self._name, part, self._duration_s, time.monotonic() - self._start))


def told(name: str, part: float, duration_s: float, spent_s: float) -> str:
    """A line of progress: `talk.wav: 25 %, 40 times real time, 1:30 left`."""
    factor = part * duration_s / max(1e-9, spent_s)
    return f"{name}: {100 * part:.0f} %, {factor:.3g} times real time, {clock(spent_s * (1 - part) / part)} left"


def clock(seconds: float) -> str:
    """A duration as `1:02:03`, or `2:03` below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
