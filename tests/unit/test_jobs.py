"""Tasks side by side: each is a job with its share of the devices, and the first failure ends the others."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pse.errors import PseError
from pse.recipe.jobs import end_with_stage, side_by_side
from pse.recipe.launchers.base import Call, Launcher
from pse.recipe.stage import Task


class Recorder(Launcher):
    """A launcher whose jobs end as soon as they are looked at."""

    def __init__(self, elsewhere: bool, codes: dict[str, int] | None = None) -> None:
        self.elsewhere, self.codes = elsewhere, codes or {}
        self.calls: list[Call] = []
        self.stopped: list[object] = []

    def start(self, call: Call) -> Any:
        self.calls.append(call)
        return SimpleNamespace(cause="", poll=lambda: self.codes.get(call.task, 0))

    def stop(self, jobs: Any) -> None:
        self.stopped += jobs


def run_side_by_side(
    tmp_path: Path, made: Recorder, ngpu: int, nj: int, tasks: str = "abcd", keep_going: bool = False
) -> list[Call]:
    def repeat(stage: str, task: str = "") -> str:
        return f"./run.sh --only {task}"

    ctx = SimpleNamespace(launcher=made, ngpu=ngpu, nj=nj, config={}, repeat=repeat, keep_going=keep_going)
    every = [Task(t, "pretrain", (), (), (), tmp_path, print) for t in tasks]
    before = signal.getsignal(signal.SIGTERM)
    try:
        side_by_side(ctx, every, ["python", "-m", "pse.cli", "train", "pretrain"])
    finally:
        signal.signal(signal.SIGTERM, before)
    return made.calls


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the module that knows how to start several processes, which takes seconds to import."""
    engine = SimpleNamespace(several=lambda words, number: ["python", f"several={number}", *words])
    monkeypatch.setitem(sys.modules, "pse.training.engine", engine)


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(("ngpu", "nj", "share"), [(0, 4, 0), (1, 4, 1), (2, 4, 1), (4, 4, 1), (8, 2, 4), (3, 1, 3)])
def test_a_job_elsewhere_is_told_its_share_of_the_gpus(tmp_path: Path, ngpu: int, nj: int, share: int) -> None:
    calls = run_side_by_side(tmp_path, Recorder(True), ngpu, nj)
    assert [c.gpus for c in calls] == [share] * 4
    assert all(c.command[-4:] == ("--only", c.task, "--ngpu", str(share)) and c.environment == {} for c in calls)
    assert all((f"several={share}" in c.command) == (share > 1) for c in calls)


@pytest.mark.usefixtures("processes")
def test_jobs_here_are_dealt_the_devices_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    calls = run_side_by_side(tmp_path, Recorder(False), ngpu=4, nj=2, tasks="abc")
    assert [c.environment["CUDA_VISIBLE_DEVICES"] for c in calls] == ["4,5", "6,7", "4,5"]
    assert all("--ngpu" not in c.command for c in calls)
    assert run_side_by_side(tmp_path, Recorder(False), ngpu=1, nj=2)[0].environment == {}


def test_the_first_failure_ends_the_other_jobs_with_its_cause_and_command(tmp_path: Path) -> None:
    for code, cause, exit_code in ((3, "exit code 3", 3), (137, "killed", 1), (-9, "killed", 1), (7, "exit code 7", 1)):
        made = Recorder(True, {"b": code})
        with pytest.raises(PseError, match=f"pretrain b: failed .{cause}.; repeat it with: ./run.sh --only b") as told:
            run_side_by_side(tmp_path, made, ngpu=0, nj=3)
        # a has ended well and d waited; c was there to be ended.
        assert len(made.stopped) == 1 and told.value.exit_code == exit_code


def test_with_keep_going_the_others_run_and_all_failures_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = Recorder(True, {"b": 3}), Recorder(True, {"a": 1, "c": 3})
    with pytest.raises(PseError, match="pretrain b: failed .exit code 3.; repeat it with") as told:
        run_side_by_side(tmp_path, one, ngpu=0, nj=1, keep_going=True)
    assert [c.task for c in one.calls] == list("abcd") and told.value.exit_code == 3
    with pytest.raises(PseError, match="pretrain a, pretrain c: 2 of 4 tasks failed") as told:
        run_side_by_side(tmp_path, two, ngpu=0, nj=2, keep_going=True)
    assert [c.task for c in two.calls] == list("abcd") and told.value.exit_code == 3
    out = capsys.readouterr()
    assert "[4/4]" in out.out and out.err.count("error:") == 3


def test_jobs_of_an_earlier_command_are_waited_for_and_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Recorder(True)
    found = SimpleNamespace(cause="", poll=lambda: 0)
    monkeypatch.setattr(made, "earlier", lambda calls: {"b": found, "d": found}, raising=False)
    assert [c.task for c in run_side_by_side(tmp_path, made, ngpu=0, nj=4)] == ["a", "c"]
    assert "[4/4]" in capsys.readouterr().out


def test_the_identity_of_a_job_is_that_of_what_its_task_makes(tmp_path: Path) -> None:
    first, again = (run_side_by_side(tmp_path, Recorder(True), ngpu=0, nj=n) for n in (4, 2))
    assert [c.identity for c in first] == [c.identity for c in again] and len(first[0].identity) == 64


def test_a_job_whose_engine_keeps_it_does_not_watch_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    before = threading.active_count()
    monkeypatch.setenv("PSE_JOB", "slurm")
    end_with_stage()
    assert threading.active_count() == before
