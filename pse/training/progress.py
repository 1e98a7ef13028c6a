"""What a training tells: one progress line, train.log, metrics.jsonl and TensorBoard."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from pse.errors import PseError, from_os_error, printable
from pse.io.jsonl import read_jsonl, write_jsonl

LOG_INTERVAL_S = 10.0
TERMINAL_INTERVAL_S = 0.2


def clock(seconds: float) -> str:
    """A duration as 3:32 or 1:03:32."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def quantity(name: str, value: float | None) -> str:
    """`si_sdr_i 3.2 dB`; quantities whose name speaks of a level are in dB."""
    if value is None:
        return f"{name} -"
    unit = " dB" if name.endswith("_db") or "sdr" in name or "snr" in name else ""
    return f"{name} {value:.1f}{unit}" if unit else f"{name} {value:.4g}"


class Progress:
    """One line that rewrites itself on a terminal; in a log at most one line in ten seconds.

    The lines also go to `directory`/train.log, with the time of day. A `silent` one (every process
    but the first) says nothing.
    """

    def __init__(
        self, directory: Path, title: str, last: int, silent: bool = False, out: TextIO | None = None
    ) -> None:
        self.title, self.last, self.silent = printable(title), last, silent
        self.out = out or sys.stderr
        self.terminal = self.out.isatty()
        self._log = None if silent else _append_to(directory / "train.log")
        self._shown = self._logged = -math.inf
        self._open_line = False
        self._start: tuple[float, int] | None = None

    def step(
        self, examples: int, loss: float, headline: str, value: float | None, best: float | None
    ) -> None:
        """Tell where the training stands, if it is time to."""
        now = time.monotonic()
        if self._start is None:
            self._start = (now, examples)
        if self.silent or now - self._shown < (TERMINAL_INTERVAL_S if self.terminal else LOG_INTERVAL_S):
            return
        self._shown = now
        line = self.line(examples, loss, headline, value, best, now)
        if self.terminal:
            self.out.write("\r" + line[: shutil.get_terminal_size().columns - 1] + "\x1b[K")
            self._open_line = True
        else:
            self.out.write(line + "\n")
        self.out.flush()
        if now - self._logged >= LOG_INTERVAL_S:
            self._logged = now
            self._write_log(line)

    def line(
        self, examples: int, loss: float, headline: str, value: float | None, best: float | None, now: float
    ) -> str:
        """The progress line itself; the ETA is to the last example, early stopping may come before."""
        since, first = self._start or (now, examples)
        rate = (examples - first) / (now - since) if now > since else 0.0
        eta = clock((self.last - examples) / rate) if rate else "-"
        top = "" if best is None else f" (best {best:.1f})"
        return (
            f"{self.title}  {examples:,}/{self.last:,} ex  loss {loss:.2f}  "
            f"{quantity(headline, value)}{top}  {rate:.{0 if rate >= 10 else 1}f} ex/s  ETA {eta}"
        )

    def note(self, text: str) -> None:
        """Print one line of its own."""
        if self.silent:
            return
        text = printable(text)
        self.out.write(("\n" if self._open_line else "") + f"{self.title}: {text}\n")
        self.out.flush()
        self._open_line = False
        self._write_log(text)

    def _write_log(self, text: str) -> None:
        if self._log is not None:
            try:
                self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
                self._log.flush()
            except OSError as error:
                raise from_os_error(error, self._log.name) from error

    def close(self) -> None:
        """End an open line and close train.log."""
        if self._open_line:
            self.out.write("\n")
            self._open_line = False
        if self._log is not None:
            self._log.close()


def _append_to(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a", encoding="utf-8")
    except OSError as error:
        raise from_os_error(error, path) from error


class Metrics:
    """metrics.jsonl, one line per validation, and the same in TensorBoard where tensorboardX is there.

    A line: examples, seconds, lr, grad_norm (mean), skipped (steps so far), train_loss and
    train_<part> (means since the last line, null before the first step), valid_<name>, headline.
    """

    def __init__(self, directory: Path, resumed_at: int | None, progress: Progress) -> None:
        self.path = directory / "metrics.jsonl"
        kept = [] if resumed_at is None else _lines_until(self.path, resumed_at)
        write_jsonl(self.path, kept)
        self.latest: dict[str, Any] = kept[-1] if kept else {}
        self._board = _tensorboard(directory / "tensorboard", resumed_at, progress)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one line. A value that is not finite becomes null."""
        record = {k: _json_number(v) for k, v in record.items()}
        self.latest = record
        line = json.dumps(record, allow_nan=False, sort_keys=True) + "\n"
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise from_os_error(error, self.path) from error
        if self._board is not None:
            for name, value in record.items():
                if isinstance(value, (int, float)) and name not in ("examples", "seconds"):
                    self._board.add_scalar(name.replace("_", "/", 1), value, record["examples"])
            self._board.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _json_number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines_until(path: Path, examples: int) -> list[dict[str, Any]]:
    """The lines up to a checkpoint; a torn last line, and what came after, will be made again."""
    kept: list[dict[str, Any]] = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not isinstance(record, dict) or not isinstance(at := record.get("examples"), int) or at > examples:
            break
        kept.append(record)
    return kept


def _tensorboard(directory: Path, resumed_at: int | None, progress: Progress) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        progress.note("no TensorBoard events (pip install tensorboardX); metrics.jsonl has the same numbers")
        return None
    return SummaryWriter(str(directory), purge_step=None if resumed_at is None else resumed_at + 1)


def draw_curve(directory: Path, headline: str, larger_is_better: bool, progress: Progress) -> None:
    """Draw images/learning_curve.png of the validation headline; without matplotlib say so and go on."""
    try:
        from pse.scoring.plots import curves, learning_curve

        lines = curves(read_jsonl(directory / "metrics.jsonl"), {"validation": f"valid_{headline}"})
        learning_curve(
            lines,
            headline,
            title=progress.title,
            best="max" if larger_is_better else "min",
            path=directory / "images" / "learning_curve.png",
        )
    except (ImportError, PseError) as error:
        progress.note(f"no learning curve drawn: {error}")
