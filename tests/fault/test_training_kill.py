"""A training that is killed or signalled as a process, or runs as two, ends as an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pse.training import checkpoint
from pse.training.engine import several
from tests.training_toy import equal, last, lines

ROOT = Path(__file__).parents[2]
# About three seconds of training, with a checkpoint whenever a twentieth of a second has passed.
OPTIONS = {"step_s": 0.03, "max_examples": 400, "checkpoint_every_s": 0.05}
KILLS = 6


def _start(directory: Path, **options: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.training_toy", str(directory), json.dumps({**OPTIONS, **options})]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def _finish(directory: Path, **options: object) -> dict:
    process = _start(directory, **options)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return json.loads(out)


def _inode(path: Path) -> int:
    return path.stat().st_ino if path.exists() else 0


def _wait_for_training(process: subprocess.Popen, directory: Path, before: int = 0) -> None:
    """Until the process has (re)written metrics.jsonl, so is past its imports, or has ended."""
    while process.poll() is None and _inode(directory / "metrics.jsonl") == before:
        time.sleep(0.005)


@pytest.mark.slow
def test_kill_9_at_random_moments_changes_nothing(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "kil led'$(x)"
    expected = _finish(whole, step_s=0.0)
    moments, kills = random.Random(5), 0
    for _ in range(KILLS):
        before = _inode(killed / "metrics.jsonl")
        process = _start(killed)
        _wait_for_training(process, killed, before)
        time.sleep(moments.uniform(0.0, 0.6))
        kills += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert kills >= 4
    result = _finish(killed, step_s=0.0)
    assert {k: v for k, v in result.items() if k != "seconds"} == {
        k: v for k, v in expected.items() if k != "seconds"
    }
    assert equal(last(whole), last(killed)) and lines(whole) == lines(killed)
    assert not list((killed / "checkpoint").glob(".step*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_a_signalled_process_exits_cleanly_and_says_how_to_go_on(
    tmp_path: Path, number: int, code: int
) -> None:
    process = _start(tmp_path, checkpoint_every_s=3600)
    _wait_for_training(process, tmp_path)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert "the same command goes on" in error
    assert checkpoint.newest(tmp_path, _identity(tmp_path), print) is not None


def _identity(directory: Path) -> dict:
    return checkpoint.load_checkpoint(directory, "last").state["identity"]


@pytest.mark.slow
def test_two_processes_equal_one_on_the_same_batches(tmp_path: Path) -> None:
    """Gloo on a processor. Dropout is off: each process draws its own."""
    one, two = tmp_path / "one", tmp_path / "two"
    options = {"max_examples": 120, "dropout": 0.0}
    expected = _finish(one, **options)
    arguments = ["-m", "tests.training_toy", str(two), json.dumps(options)]
    subprocess.run(several(arguments, 2), env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
    for a, b in zip(lines(one), lines(two), strict=True):
        assert b["valid_loss"] == pytest.approx(a["valid_loss"], abs=1e-4)
        if a["train_loss"] is not None:
            assert b["train_loss"] == pytest.approx(a["train_loss"], abs=1e-4)
    best = json.loads((two / "best.json").read_text())
    assert best["examples"] == expected["best_examples"]
    # One process goes on from the checkpoint of two.
    assert _finish(two, **{**options, "max_examples": 160})["examples"] == 160
