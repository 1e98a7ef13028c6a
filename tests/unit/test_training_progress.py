"""What a training tells: progress line, log, metrics, curves."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from pse.training import progress as progress_module
from pse.training.progress import Progress, clock, quantity
from tests.training_toy import plainly, run


def test_a_run_leaves_a_curve_and_tensorboard_events(tmp_path: Path) -> None:
    run(tmp_path, max_examples=24)
    assert (tmp_path / "images" / "learning_curve.png").stat().st_size > 1000
    assert list((tmp_path / "tensorboard").iterdir())


def test_training_needs_neither_tensorboard_nor_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for name in ("tensorboardX", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    run(tmp_path, max_examples=8)
    printed = capsys.readouterr().err
    assert printed.count("no TensorBoard events") == 1 and printed.count("no learning curve drawn") == 1


def test_metrics_drop_a_torn_line_and_what_follows_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plainly(monkeypatch)
    run(tmp_path, max_examples=24)
    kept = (tmp_path / "metrics.jsonl").read_text()
    for tail in ('{"examples": 36, "seconds": 1}\n', '{"examples": 30, "sec', "\x00\xff"):
        (tmp_path / "metrics.jsonl").write_text(kept + tail)
        run(tmp_path, max_examples=24)
        assert (tmp_path / "metrics.jsonl").read_text() == kept


def test_progress_line_reads_as_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 30.0])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(now))
    out = io.StringIO()
    shown = Progress(tmp_path, "pretrain 19.pseudo_se", 100_000, out=out)
    shown.step(440, -1.0, "si_sdr_i", None, None)
    shown.step(12_800, -6.314, "si_sdr_i", 3.21, 3.43)
    shown.close()
    assert out.getvalue().splitlines()[1] == (
        "pretrain 19.pseudo_se  12,800/100,000 ex  loss -6.31  si_sdr_i 3.2 dB (best 3.4)  412 ex/s  ETA 3:32"
    )
    assert clock(3812) == "1:03:32" and clock(9.6) == "0:10" and quantity("loss", 0.01234) == "loss 0.01234"


def test_a_log_gets_one_line_in_ten_seconds_and_a_terminal_rewrites_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [float(s) for s in range(41)]
    for terminal in (False, True):
        out = io.StringIO()
        monkeypatch.setattr(out, "isatty", lambda value=terminal: value)
        now = iter(seconds)
        monkeypatch.setattr(progress_module.time, "monotonic", lambda now=now: next(now))
        shown = Progress(tmp_path, "t", 100, out=out)
        for number in range(len(seconds)):
            shown.step(number, 0.0, "loss", None, None)
        shown.note("a line\nof its own")
        shown.close()
        lines = out.getvalue().split("\n")
        if terminal:
            assert len(lines) == 3 and lines[0].count("\r") == 41 and lines[1] == "t: a line\\nof its own"
        else:
            assert len(lines) == 5 + 2 and "\r" not in out.getvalue()
