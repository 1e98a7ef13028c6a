"""A launcher starts a command anywhere, says how it ended, and ends what it started."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pse.errors import EnvironmentFault, PseError
from pse.recipe.jobs import last_line
from pse.recipe.launchers import slurm as slurm_module
from pse.recipe.launchers.base import LOST, Call, Job, Launcher
from pse.recipe.launchers.local import Local
from pse.registry import find, names
from tests import fake_slurm

STAGES = ("pretrain", "finetune")
# What a command sees: its words, its directory and two of its variables.
TELL = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), os.environ['A'], os.environ['PSE_JOB']]))"
ODD = ["it's", 'a "b"', "$(touch PWNED) `x` ; | & * ~ \\ %j", "-x", "", "ä"]
WAIT = "import time, signal, sys; "
WAIT += "signal.signal(signal.SIGTERM, lambda *a: (open('asked', 'w').close(), sys.exit(143))); "
WAIT += "print('up', flush=True); "
WAIT += "time.sleep(100)"
ORPHAN = "import os, time; print('up', flush=True); parent = os.getppid()\nwhile os.getppid() == parent: time.sleep(1)"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe's directory, with a blank and a quote in its name, which is the current one."""
    place = tmp_path / "it's a %j place"
    (place / "conf" / "launchers").mkdir(parents=True)
    monkeypatch.chdir(place)
    monkeypatch.setenv("A", 'it\'s an "A"\n$HOME')
    return place


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fake Slurm that answers at once."""
    root = tmp_path / "slurm"
    monkeypatch.setenv("PATH", f"{fake_slurm.install(root)}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm_module, "_ASK_S", (0.05, 0.05))
    monkeypatch.setattr(slurm_module, "_RETRY_S", (0.05, 0.05))
    yield root
    fake_slurm.end_all(root)


def launcher(name: str, place: Path) -> Launcher:
    return find("launcher", name)(place, STAGES)


def call(place: Path, code: str, *words: str, **more: Any) -> Call:
    log = place / "exp" / "log of it" / "t.1.log"
    return Call("pretrain", "t.1", (sys.executable, "-c", code, *words), log, **more)


def ended(job: Job) -> int:
    deadline = time.monotonic() + 60
    while (code := job.poll()) is None:
        assert time.monotonic() < deadline, "the job does not end"
        time.sleep(0.02)
    return code


def until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_launchers_are_found_by_name() -> None:
    assert names("launcher") == ["local", "ray", "slurm"]


@pytest.mark.parametrize("name", ["local", "slurm"])
def test_a_command_arrives_word_for_word_with_directory_and_environment(name: str, place: Path, cluster: Path) -> None:
    job = launcher(name, place).start(call(place, TELL, *ODD))
    assert ended(job) == 0 and job.cause == ""
    *_, last = (place / "exp" / "log of it" / "t.1.log").read_text().splitlines()
    words, directory, variable, _ = json.loads(last)
    assert (words, directory, variable) == (ODD, str(place), os.environ["A"])
    assert not list(place.rglob("PWNED"))


@pytest.mark.parametrize("name", ["local", "slurm"])
@pytest.mark.parametrize(("code", "told"), [("raise SystemExit(3)", 3), ("import nothing_of_this_name", 1)])
def test_the_exit_code_is_that_of_the_command_and_the_log_says_why(
    name: str, place: Path, cluster: Path, code: str, told: int
) -> None:
    job = launcher(name, place).start(call(place, f"print('before', flush=True)\n{code}"))
    assert ended(job) == told and job.cause == ""
    assert "before" in (place / "exp" / "log of it" / "t.1.log").read_text()


@pytest.mark.parametrize("name", ["local", "slurm"])
def test_a_job_that_is_stopped_is_asked_politely_and_awaited(name: str, place: Path, cluster: Path) -> None:
    made = launcher(name, place)
    polite = WAIT.replace("sys.exit(143)", "time.sleep(0.5), open('saved', 'w').close(), sys.exit(143)")
    job = made.start(call(place, polite))
    until(lambda: "up" in last_line(place / "exp" / "log of it" / "t.1.log"))
    made.stop([job])
    assert (place / "saved").exists() and ended(job) != 0


def settings(place: Path, text: str) -> Launcher:
    (place / "conf" / "launchers" / "slurm.yaml").write_text(text)
    return launcher("slurm", place)


def test_options_of_a_stage_come_on_top_of_the_default(place: Path, cluster: Path) -> None:
    made = settings(
        place,
        """
default: {partition: cpu, time: "4:00:00", mem: 4G, cpus_per_task: 2, exclusive: true, nice: 5}
pretrain: {partition: gpu, exclusive: false}
""",
    )
    assert ended(made.start(call(place, "import os; raise SystemExit(int(os.environ['OMP_NUM_THREADS']) + 40)"))) == 42
    (job,) = fake_slurm.jobs(cluster)
    options = (job / "options").read_text().splitlines()
    assert options[3:] == ["--partition=gpu", "--time=4:00:00", "--mem=4G", "--cpus-per-task=2", "--nice=5"]


@pytest.mark.parametrize(
    ("text", "gpus", "asked"),
    [
        ("", 0, []),
        ("", 2, ["--gres=gpu:2"]),
        ("default: {gres: 'gpu:a100:1'}", 2, ["--gres=gpu:a100:1"]),
        ("pretrain: {gpus-per-task: 1}", 2, ["--gpus-per-task=1"]),
        ("finetune: {gres: 'gpu:1'}", 0, []),
    ],
)
def test_gpus_are_asked_for_unless_the_file_does(
    place: Path, cluster: Path, text: str, gpus: int, asked: list[str]
) -> None:
    assert ended(settings(place, text).start(call(place, "", gpus=gpus))) == 0
    (job,) = fake_slurm.jobs(cluster)
    assert [o for o in (job / "options").read_text().splitlines() if "gpu" in o] == asked


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("pretrian: {}", "no stage is named 'pretrian'; did you mean 'pretrain'"),
        ("default: [partition]", "default: must be a mapping"),
        ("default: {p: x, -x: 1}", "'-x' is not a long option"),
        ("default: {'mem=1 --wrap': x}", "is not a long option"),
        ("default: {time: 4:00:00}", "time has to stand in quotes"),
        ("default: {job_name: x}", "job_name cannot be given here"),
        ("default: {output: x}", "output cannot be given here"),
        ("default: {mem: [1]}", "mem cannot be \\[1\\]"),
        ("default: {mem: null}", "mem cannot be None"),
        ("default: {mem", "is not valid YAML"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_that_names_it(place: Path, text: str, told: str) -> None:
    with pytest.raises(PseError, match=told) as caught:
        settings(place, text)
    assert "conf/launchers/slurm.yaml" in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_the_examples_in_the_file_that_ships_and_on_the_page_are_sound(place: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    shipped = (root / "egs" / "librispeech_pse" / "conf" / "launchers" / "slurm.yaml").read_text("utf-8")
    page = (root / "docs" / "scaling.md").read_text("utf-8").split("## Slurm")[1].split("```")[1]
    for text in (shipped, re.sub(r"^# (?=\w+: {)", "", shipped, flags=re.M), page.removeprefix("yaml\n")):
        (place / "conf" / "launchers" / "slurm.yaml").write_text(text)
        find("launcher", "slurm")(place, find("recipe", "personal").stages)
    assert "partition: gpu" in text and "pretrain: {" in page


def test_one_question_is_asked_for_all_jobs(place: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = launcher("slurm", place)
    monkeypatch.setattr(slurm_module, "_ASK_S", (1000.0, 1000.0))
    (cluster / "hold").touch()
    jobs = [made.start(Call("pretrain", f"t{n}", ("true",), place / f"t{n}.log")) for n in range(5)]
    assert not (cluster / "asked").exists()
    assert [job.poll() for job in jobs] == [None] * 5
    assert (cluster / "asked").read_text() == "x"


def test_the_next_command_waits_for_the_job_that_does_the_same(
    place: Path, cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = call(place, WAIT.replace("100", "1"), identity="i")
    launcher("slurm", place).start(same)
    found = launcher("slurm", place).earlier([same])
    assert "t.1 (job 1)" in capsys.readouterr().out and list(found) == ["t.1"]
    assert ended(found["t.1"]) == 0 and len(fake_slurm.jobs(cluster)) == 1
    assert launcher("slurm", place).earlier([same]) == {}


@pytest.mark.parametrize(
    ("change", "held"),
    [("identity", False), ("identity", True), ("command", True), ("gpus", True), ("options", True)],
)
def test_the_next_command_first_ends_a_job_that_does_something_else_there(
    place: Path, cluster: Path, change: str, held: bool
) -> None:
    if held:
        (cluster / "hold").touch()
    launcher("slurm", place).start(call(place, WAIT, identity="i"))
    (job,) = fake_slurm.jobs(cluster)
    until(lambda: held or fake_slurm.state(job) == "RUNNING")
    text = "pretrain: {mem: 2G}" if change == "options" else ""
    other = call(place, WAIT, *(["x"] if change == "command" else []), gpus=int(change == "gpus"),
                 identity="j" if change == "identity" else "i")  # fmt: skip
    assert settings(place, text).earlier([other]) == {}
    assert fake_slurm.state(job) == "CANCELLED"


def test_jobs_of_another_place_are_left_alone(place: Path, cluster: Path) -> None:
    (cluster / "hold").touch()
    launcher("slurm", place).start(call(place, WAIT, identity="i"))
    elsewhere = Call("pretrain", "t.1", ("true",), place / "other" / "t.1.log")
    assert launcher("slurm", place).earlier([elsewhere]) == {}
    assert [fake_slurm.state(job) for job in fake_slurm.jobs(cluster)] == ["PENDING"]


@pytest.mark.parametrize("why", ["NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"])
def test_a_lost_job_ends_with_what_slurm_says(place: Path, cluster: Path, why: str) -> None:
    job = launcher("slurm", place).start(call(place, WAIT))
    (there,) = fake_slurm.jobs(cluster)
    until(lambda: fake_slurm.state(there) == "RUNNING")
    assert job.poll() is None
    fake_slurm.lose(there, why)
    assert ended(job) == LOST and job.cause == f"job 1 left no exit code, Slurm says {why}"


def test_a_job_that_slurm_has_forgotten_still_has_its_exit_code(place: Path, cluster: Path) -> None:
    job = launcher("slurm", place).start(call(place, "raise SystemExit(7)"))
    (there,) = fake_slurm.jobs(cluster)
    until(lambda: fake_slurm.state(there) == "FAILED")
    there.rename(there.with_name("gone"))
    assert ended(job) == 7 and job.cause == ""


def test_a_job_that_nobody_knows_is_lost_after_a_while_and_not_before(
    place: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cluster / "hold").touch()
    job = launcher("slurm", place).start(call(place, ""))
    (there,) = fake_slurm.jobs(cluster)
    fake_slurm.lose(there, "COMPLETED")
    assert [job.poll() for _ in range(3)] == [None] * 3
    monkeypatch.setattr(slurm_module, "_FILES_S", 0.0)
    assert ended(job) == LOST and "left no exit code, Slurm says COMPLETED" in job.cause


def test_a_requeued_job_is_waited_for(place: Path, cluster: Path) -> None:
    code = "import pathlib; p = pathlib.Path('ran'); first = not p.exists(); p.touch(); raise SystemExit(143 * first)"
    job = launcher("slurm", place).start(call(place, code))
    (there,) = fake_slurm.jobs(cluster)
    until(lambda: fake_slurm.state(there) == "FAILED")
    # As after a preemption: the job ended with the exit code of a signal, and waits again.
    (there / "state").write_text("PENDING")
    assert [job.poll() for _ in range(3)] == [None] * 3
    assert fake_slurm.run(cluster, [str(there)]) == 0 and ended(job) == 0


def test_a_silent_squeue_loses_no_job(place: Path, cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = launcher("slurm", place).start(call(place, ""))
    (cluster / "broken").touch()
    for _ in range(5):
        assert job.poll() is None
        time.sleep(0.06)
    assert capsys.readouterr().out.count("squeue does not answer") == 1
    with pytest.raises(EnvironmentFault, match="squeue does not answer"):
        launcher("slurm", place).earlier([call(place, "")])
    (cluster / "broken").unlink()
    assert ended(job) == 0


def test_a_refused_job_is_one_line_with_the_file_to_change(place: Path, cluster: Path) -> None:
    (cluster / "refuse").write_text("invalid partition specified: x\nsbatch: error: Batch job submission failed")
    with pytest.raises(PseError, match="Slurm refuses the job: invalid partition specified: x; give") as caught:
        launcher("slurm", place).start(call(place, ""))
    assert "conf/launchers/slurm.yaml" in str(caught.value)


def test_a_job_whose_answer_was_lost_is_not_submitted_twice(place: Path, cluster: Path) -> None:
    (cluster / "deaf").touch()
    (cluster / "hold").touch()
    made = launcher("slurm", place)
    job = made.start(call(place, ""))
    (cluster / "hold").unlink()
    assert ended(job) == 0 and len(fake_slurm.jobs(cluster)) == 1


def test_without_slurm_or_ray_the_environment_is_at_fault(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(place))
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("slurm", "ray"):
        with pytest.raises(EnvironmentFault, match=f"--cmd {name}: .* --cmd local"):
            launcher(name, place).check()
        with pytest.raises(EnvironmentFault, match=f"--cmd {name}: .* --cmd local"):
            launcher(name, place).start(call(place, ""))
    launcher("ray", place).stop([])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("pretrian: {}", "no stage is named 'pretrian'; did you mean 'pretrain'"),
        ("pretrain: {num_cpu: 2}", "pretrain: unknown key 'num_cpu'; did you mean 'num_cpus'"),
        ("default: {num_gpus: many}", "num_gpus: must be float, got 'many'"),
    ],
)
def test_a_mistake_in_the_file_of_ray_is_one_line_that_names_it(place: Path, text: str, told: str) -> None:
    (place / "conf" / "launchers" / "ray.yaml").write_text(text)
    with pytest.raises(PseError, match=told) as caught:
        launcher("ray", place)
    assert "conf/launchers/ray.yaml" in str(caught.value)


@pytest.mark.slow
def test_ray_runs_commands_word_for_word_tells_their_ends_and_stops_them_politely(place: Path) -> None:
    ray = pytest.importorskip("ray")
    (place / "conf" / "launchers" / "ray.yaml").write_text("default: {num_cpus: 0.1}")
    made = launcher("ray", place)
    try:
        jobs = {}
        for name, code in (("tell", TELL), ("fail", "raise SystemExit(5)"), ("wait", WAIT), ("lost", ORPHAN)):
            command = (sys.executable, "-c", code, *(ODD if name == "tell" else []))
            jobs[name] = made.start(Call("pretrain", name, command, place / "log" / f"{name}.log"))
        assert ended(jobs["tell"]) == 0 and ended(jobs["fail"]) == 5
        words, directory, variable, parent = json.loads(last_line(place / "log" / "tell.log"))
        assert (words, directory, variable) == (ODD, str(place), os.environ["A"]) and parent.isdigit()
        until(lambda: all(last_line(place / "log" / f"{name}.log") == "up" for name in ("wait", "lost")))
        assert jobs["wait"].poll() is None and jobs["lost"].poll() is None
        ray.cancel(jobs["lost"].task, force=True)
        assert ended(jobs["lost"]) == LOST and jobs["lost"].cause.startswith("Ray lost it: ")
        made.stop([jobs["wait"]])
        assert (place / "asked").exists() and not ray.is_initialized()
    finally:
        made.stop([])


def test_a_brief_job_is_forked_and_does_what_a_process_does(tmp_path: Path) -> None:
    """Its own log, and the exit code of its verb; what is no verb of ours is started."""
    words = (sys.executable, "-m", "pse.cli")
    launcher = Local(tmp_path, [])
    log, plain = tmp_path / "log" / "a.log", (sys.executable, "-c", "print('not ours')")
    calls = {
        "version": Call("score", "version", (*words, "--version"), log, brief=True),
        "wrong": Call("score", "wrong", (*words, "nonsense"), log.with_name("b.log"), brief=True),
        "other": Call("score", "other", plain, log.with_name("c.log"), brief=True),
    }
    log.parent.mkdir()
    log.write_text("what an earlier job said")
    jobs = {name: launcher.start(call) for name, call in calls.items()}
    deadline = time.monotonic() + 120
    while any(job.poll() is None for job in jobs.values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert {name: job.poll() for name, job in jobs.items()} == {"version": 0, "wrong": 1, "other": 0}
    assert log.read_text().startswith("pse ") and "no verb is named" in (log.parent / "b.log").read_text()
    assert (log.parent / "c.log").read_text() == "not ours\n"


def test_a_brief_job_ends_when_its_launcher_says_so(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # It waits for a config that nobody writes.
    words = (sys.executable, "-m", "pse.cli", "score", "--recipe", "personal", "--config", str(pipe))
    launcher = Local(tmp_path, [])
    job = launcher.start(Call("score", "waits", words, tmp_path / "log" / "a.log", brief=True))
    time.sleep(1)
    assert job.poll() is None
    launcher.stop([job])
    assert job.poll() == -signal.SIGTERM
