"""Jobs as processes of this machine; they end with the stage that started them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterable, Mapping

from pse.recipe.launchers.base import Call, Launcher


class Process:
    """A job that is a process."""

    cause = ""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.process.poll()


class Local(Launcher):
    """Starts processes."""

    elsewhere = False

    def start(self, call: Call) -> Process:
        """Start a process."""
        return Process(begin(call, os.environ))

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


def end(processes: Iterable[subprocess.Popen]) -> None:
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
