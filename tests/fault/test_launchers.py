"""The recipe through each launcher: the same files as on one machine, and nothing left behind by a kill.

Slurm is here twice: as three programs of the tests, and as itself where `sinfo` finds a cluster.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pse.recipe.jobs import last_line
from tests import fake_slurm
from tests.recipe_place import TINY, Place

pytestmark = pytest.mark.slow

LONG = ("--set", "pretrain.training.max_examples=100000", "--set", "pretrain.training.min_examples=100000")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fake Slurm on PATH."""
    root = tmp_path / "slurm"
    monkeypatch.setenv("PATH", f"{fake_slurm.install(root)}:{os.environ['PATH']}")
    yield root
    fake_slurm.end_all(root)


@pytest.fixture(params=["fake slurm", "slurm", "ray"])
def cmd(request: pytest.FixtureRequest) -> str:
    """What to give --cmd, for every engine that is there."""
    if request.param == "ray" and importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    if request.param == "slurm" and (
        not shutil.which("sinfo") or subprocess.run(["sinfo"], capture_output=True, check=False).returncode
    ):
        pytest.skip("there is no Slurm")
    if request.param == "fake slurm":
        request.getfixturevalue("fake")
    return request.param.split()[-1]


class Trainings(Place):
    """Two trainings on the data of a place where the whole recipe has run."""

    def __init__(self, root: Path, finished: Place) -> None:
        super().__init__(root)
        self.config.write_text("".join(line for line in TINY.splitlines(True) if "pseudo_se_dp" not in line))
        self.data = [x for d in ("data", "dump") for x in (f"--{d}dir", str(finished.root / d))]

    def arguments(self, *more: str) -> list[str]:
        """The command line of their stage."""
        stage = ("--stage", "pretrain", "--stop_stage", "pretrain", "--nj", "2", "--ngpu", "0")
        return super().arguments(*self.data, *stage, *more)


@pytest.fixture
def place(tmp_path: Path, finished: Place) -> Iterator[Trainings]:
    """A place that is ready to train; what still runs there in the end is killed."""
    place = Trainings(tmp_path, finished)
    # A shell starts its background jobs with Ctrl-C ignored, and a test run may be one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield place
    signal.signal(signal.SIGINT, before)
    for process in running(place, "--config"):
        process.kill()


def weights(place: Place) -> list[bytes]:
    """The best weights of the two trainings."""
    trainings = [place.exp / "pretrain" / name for name in ("generalist", "19.pseudo_se")]
    best = [training / json.loads((training / "best.json").read_text())["checkpoint"] for training in trainings]
    return [(checkpoint / "model.safetensors").read_bytes() for checkpoint in best]


def logs(place: Place) -> list[Path]:
    return sorted((place.exp / "log" / "pretrain").glob("*.log"))


def running(place: Place, option: str = "--only") -> list[psutil.Process]:
    """Jobs of the place that run; with another option also other processes of it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if option in words and str(place.config) in words:
            found.append(process)
    return found


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def started(place: Place, *options: str) -> subprocess.Popen:
    """A command of the recipe, in a process group of its own."""
    return subprocess.Popen(
        place.arguments(*options), start_new_session=True, env=place.environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def trains(place: Place) -> bool:
    return len(logs(place)) == 2 and all(" ex/s " in last_line(log) for log in logs(place))


def test_jobs_anywhere_make_what_jobs_here_make(cmd: str, place: Place, finished: Place) -> None:
    told = place.run("--cmd", cmd)
    assert "[2/2]" in told and weights(place) == weights(finished)
    assert "nothing to do" in place.run("--cmd", cmd)


def test_nothing_goes_on_beside_the_command_that_follows_a_kill(cmd: str, place: Place, finished: Place) -> None:
    stage = started(place, "--cmd", cmd, *LONG)
    until(lambda: trains(place), "the jobs do not start")
    os.killpg(stage.pid, signal.SIGKILL)
    stage.wait()
    place.run("--cmd", cmd)
    assert running(place) == []
    assert weights(place) == weights(finished)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_stage_that_is_ended_ends_its_jobs_which_save(cmd: str, place: Place, number: signal.Signals) -> None:
    stage = started(place, "--cmd", cmd, *LONG)
    until(lambda: trains(place), "the jobs do not start")
    os.killpg(stage.pid, number)
    assert stage.wait(timeout=120) != 0
    until(lambda: not running(place), "jobs go on")
    assert all("saved at" in last_line(log) for log in logs(place))


def test_a_failing_job_ends_the_stage_which_names_its_command(cmd: str, place: Place) -> None:
    told = place.run("--cmd", cmd, "--set", "pretrain.training.precision=fp16", expect=1)
    *_, error = [line for line in told.splitlines() if line.startswith("error: ")]
    assert "failed (exit code 1); repeat it with: ./run.sh --stage pretrain" in error and f"--cmd {cmd}" in error
    assert "--- last lines of" in told and "fp16 needs a GPU" in told and "Traceback" not in told
    until(lambda: not running(place), "jobs go on")


def test_the_same_command_waits_for_the_jobs_of_the_killed_one(fake: Path, place: Place, finished: Place) -> None:
    (fake / "hold").touch()
    stage = started(place, "--cmd", "slurm")
    until(lambda: len(fake_slurm.jobs(fake)) == 2, "the jobs are not submitted")
    os.killpg(stage.pid, signal.SIGKILL)
    stage.wait()
    (fake / "hold").unlink()
    told = place.run("--cmd", "slurm")
    assert len(fake_slurm.jobs(fake)) == 2 and weights(place) == weights(finished)
    assert "jobs of an earlier command" in told or "nothing to do" in told


def test_a_lost_job_is_one_line_with_the_command_that_repeats_it(fake: Path, place: Place) -> None:
    stage = subprocess.Popen(
        place.arguments("--cmd", "slurm", *LONG), env=place.environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    until(lambda: trains(place), "the jobs do not start")
    fake_slurm.lose(fake_slurm.jobs(fake)[0], "NODE_FAIL")
    told = stage.communicate(timeout=240)[0]
    *_, error = [line for line in told.splitlines() if line.startswith("error: ")]
    assert stage.returncode == 3 and "Slurm says NODE_FAIL" in error and "repeat it with: ./run.sh" in error
    until(lambda: not running(place), "jobs go on")
