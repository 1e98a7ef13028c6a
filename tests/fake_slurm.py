"""A Slurm of three programs that run jobs on this machine, for tests where there is none.

`install` makes sbatch, squeue and scancel; each job is a directory below `jobs` with its script, its
options, the process that runs it and its state. A test may put files beside `jobs`: `hold` keeps new jobs
from starting, `refuse` is what sbatch says instead of taking a job, `deaf` takes the job and answers that,
`broken` makes squeue fail. Run as a program, this module is one of the three, or runs a job.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def install(root: Path) -> Path:
    """Make the programs; returns their directory, for the front of PATH."""
    programs = root / "bin"
    programs.mkdir(parents=True)
    (root / "jobs").mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "{__file__}" {name} "{root}" "$@"\n')
        program.chmod(0o755)
    return programs


def jobs(root: Path) -> list[Path]:
    """The directories of all jobs, in the order in which they were submitted."""
    return sorted((p for p in (root / "jobs").iterdir() if p.name.isdigit()), key=lambda p: int(p.name))


def state(job: Path) -> str:
    """The state of a job."""
    return (job / "state").read_text()


def lose(job: Path, why: str) -> None:
    """End a job as a machine does that goes down: at once and without a word."""
    _set(job, why)
    _kill(job, signal.SIGKILL)


def end_all(root: Path) -> None:
    """End what still waits or runs."""
    for job in jobs(root):
        if state(job) == "PENDING":
            _set(job, "CANCELLED")
        _kill(job, signal.SIGKILL)


def _set(job: Path, text: str) -> None:
    (job / "state.new").write_text(text)
    (job / "state.new").replace(job / "state")


def _kill(job: Path, number: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        os.killpg(int((job / "pid").read_text()), number)


def sbatch(root: Path, words: list[str]) -> int:
    """Take a job and print its number."""
    refuse, deaf = root / "refuse", root / "deaf"
    if refuse.exists():
        print(f"sbatch: error: {refuse.read_text()}", file=sys.stderr)
        return 1
    job = root / "jobs" / f"new-{os.getpid()}"
    job.mkdir()
    (job / "options").write_text("\n".join(words))
    (job / "script").write_text(sys.stdin.read())
    (job / "name").write_text(next(w.split("=", 1)[1] for w in words if w.startswith("--job-name=")))
    _set(job, "PENDING")
    job = job.rename(root / "jobs" / str(len(jobs(root)) + 1))
    subprocess.Popen(
        [sys.executable, "-S", "-E", __file__, "run", str(root), str(job)], start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    if deaf.exists():
        deaf.unlink()
        print("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", file=sys.stderr)
        return 1
    print(job.name)
    return 0


def run(root: Path, words: list[str]) -> int:
    """Run a job to its end."""
    job = Path(words[0])
    while (root / "hold").exists() and state(job) == "PENDING":
        time.sleep(0.05)
    if state(job) != "PENDING":
        return 0
    environment = os.environ | {"SLURM_JOB_ID": job.name}
    process = subprocess.Popen(["/bin/sh", job / "script"], env=environment, cwd="/", start_new_session=True)
    (job / "pid").write_text(str(process.pid))
    _set(job, "RUNNING")
    code = process.wait()
    if state(job) == "RUNNING":
        _set(job, "FAILED" if code else "COMPLETED")
    elif state(job) == "COMPLETING":
        _set(job, "CANCELLED")
    return 0


def squeue(root: Path, words: list[str]) -> int:
    """Print number, state and name of every job."""
    with open(root / "asked", "a") as file:
        file.write("x")
    if (root / "broken").exists():
        print("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", file=sys.stderr)
        return 1
    for job in jobs(root):
        print(f"{job.name}|{state(job)}|{(job / 'name').read_text()}")
    return 0


def scancel(root: Path, words: list[str]) -> int:
    """End jobs, politely."""
    for job in (root / "jobs" / word for word in words):
        if state(job) == "PENDING":
            _set(job, "CANCELLED")
        elif state(job) == "RUNNING":
            _set(job, "COMPLETING")
            _kill(job, signal.SIGTERM)
    return 0


if __name__ == "__main__":
    program = {"sbatch": sbatch, "squeue": squeue, "scancel": scancel, "run": run}[sys.argv[1]]
    sys.exit(program(Path(sys.argv[2]), sys.argv[3:]))
