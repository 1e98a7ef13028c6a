"""Jobs as processes of this machine; they end with the stage that started them."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pse.recipe.launchers.base import Call, Launcher

# How the command of a job begins that is a verb of ours.
VERB = (sys.executable, "-m", "pse.cli")
# What takes seconds to import, and starts no thread by that.
PRELOADED = ["torch", "scipy.signal", "scipy.optimize", "soundfile", "soxr"]


class Process:
    """A job that is a process."""

    cause = ""

    def __init__(self, process: subprocess.Popen | Forked) -> None:
        self.process = process

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.process.poll()


class Forked:
    """A process that is forked off one which has imported what is slow to import, looked at like a Popen."""

    def __init__(self, process: Any) -> None:
        self.process = process

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.process.exitcode

    def terminate(self) -> None:
        """End it politely."""
        self.process.terminate()

    def kill(self) -> None:
        """End it."""
        self.process.kill()

    def wait(self, timeout: float) -> None:
        """Wait for its end. Raises TimeoutExpired."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired("a forked job", timeout)


class Local(Launcher):
    """Starts processes."""

    elsewhere = False

    def start(self, call: Call) -> Process:
        """Start a process, or fork one."""
        forked = call.brief and call.command[: len(VERB)] == VERB
        return Process(fork(call) if forked else begin(call, os.environ))

    def stop(self, jobs: Collection[Process]) -> None:
        """End processes."""
        end([job.process for job in jobs])


def begin(call: Call, environment: Mapping[str, str]) -> subprocess.Popen:
    """Start the process of a job, which watches this one and ends with it."""
    call.log.parent.mkdir(parents=True, exist_ok=True)
    with open(call.log, "w", encoding="utf-8") as out:
        return subprocess.Popen(
            call.command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env={**environment, **call.environment, "PSE_JOB": str(os.getpid())},
            # Ctrl-C reaches the stage alone, which then ends its jobs politely, once.
            start_new_session=True,
        )  # fmt: skip


def fork(call: Call) -> Forked:
    """Start the process of a job as `begin` does, in a twentieth of a second instead of three."""
    call.log.parent.mkdir(parents=True, exist_ok=True)
    # What an earlier job said is not taken for this one's.
    call.log.write_bytes(b"")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_run, args=(call, os.getpid()))
    process.start()
    return Forked(process)


def _run(call: Call, stage: int) -> None:
    """What a forked process does: the verb, with its own session, log and environment."""
    os.setsid()
    with open(os.devnull, "rb") as nothing, open(call.log, "wb") as log:
        for stream, number in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(stream.fileno(), number)
    os.environ |= {**call.environment, "PSE_JOB": str(stage)}
    from pse.cli import main

    code = main(call.command[len(VERB) :])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end(processes: Iterable[subprocess.Popen | Forked]) -> None:
    """End processes, politely first."""
    processes = list(processes)
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


PLUGIN = Local
