"""Jobs as tasks of Ray: in the cluster of RAY_ADDRESS or of this machine, else in one that the stage starts.

A task starts the command as a process and waits for it. Ray ends the tasks of a stage that was killed, and
their processes end with them.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pse.config import bind
from pse.errors import EnvironmentFault
from pse.recipe.launchers.base import LOST, Call, Launcher, read_options

_ASK_S = 0.5
_END_S = 40.0


@dataclass(frozen=True)
class TaskOptions:
    """What conf/launchers/ray.yaml may ask for; num_gpus may be a part of one, memory is in bytes."""

    num_cpus: float = 1
    num_gpus: float | None = None
    memory: int | None = None
    resources: dict[str, float] | None = None
    accelerator_type: str | None = None


class RayJob:
    """A job that is a task of Ray."""

    def __init__(self, launcher: Ray, task: Any) -> None:
        self.launcher, self.task = launcher, task
        self.code: int | None = None
        self.cause = ""

    def poll(self) -> int | None:
        """Its exit code, None while it waits or runs."""
        if self.code is None:
            self.launcher.ask()
        return self.code

    def settle(self) -> None:
        """Note how it ended."""
        import ray

        try:
            self.code = ray.get(self.task)
        except ray.exceptions.RayError as error:
            self.code, self.cause = LOST, f"Ray lost it: {type(error).__name__}"


class Ray(Launcher):
    """Runs jobs with the resources that conf/launchers/ray.yaml asks for."""

    def __init__(self, recipe_dir: Path, stages: Iterable[str]) -> None:
        where = recipe_dir / "conf" / "launchers" / "ray.yaml"
        given = read_options("ray", recipe_dir, stages)
        self._options = {stage: bind(TaskOptions, options, f"{where}: {stage}") for stage, options in given.items()}
        self._open: dict[Any, RayJob] = {}
        self._next = 0.0

    def check(self) -> None:
        """Raise EnvironmentFault when the package is not there."""
        if importlib.util.find_spec("ray") is None:
            fix = "pip install ray, or use --cmd local"
            raise EnvironmentFault("the package ray is missing", "--cmd ray", fix)

    def start(self, call: Call) -> RayJob:
        """Hand a task to Ray, which starts it where there is room for it."""
        ray = self._connected()
        options = {"num_gpus": call.gpus}
        options |= {k: v for k, v in asdict(self._options[call.stage]).items() if v is not None}
        there = ray.cluster_resources().get("GPU", 0)
        if options["num_gpus"] > there:
            told = f"{call.task} waits for {options['num_gpus']:g} GPUs, Ray has {there:g}"
            print(f"{told}; with --ngpu 0 it runs on processors", flush=True)
        environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
        environment["OMP_NUM_THREADS"] = str(max(1, int(options["num_cpus"])))
        # Tried once: a second attempt could write beside the first, on a machine that is only out of reach.
        call.log.unlink(missing_ok=True)
        remote = ray.remote(max_retries=0, **options)(_run)
        job = RayJob(self, remote.remote(call, environment, os.getcwd()))
        self._open[job.task] = job
        return job

    def stop(self, jobs: Collection[RayJob]) -> None:
        """Cancel tasks, wait until they have ended, and leave Ray."""
        ray = sys.modules.get("ray")
        if ray is None or not ray.is_initialized():
            return
        tasks = [job.task for job in jobs]
        for task in tasks:
            ray.cancel(task)
        if tasks:
            ray.wait(tasks, num_returns=len(tasks), timeout=_END_S)
        ray.shutdown()

    def ask(self) -> None:
        """Ask Ray which jobs have ended, if it is time to: a question takes a millisecond or two."""
        import ray

        if time.monotonic() < self._next:
            return
        tasks = list(self._open)
        for task in ray.wait(tasks, num_returns=len(tasks), timeout=0)[0]:
            self._open.pop(task).settle()
        self._next = time.monotonic() + _ASK_S

    def _connected(self) -> Any:
        self.check()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        if not ray.is_initialized():
            before = signal.getsignal(signal.SIGTERM)
            try:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            except Exception as error:  # Ray raises the bare class
                told = " ".join(str(error).split())[:200]
                raise EnvironmentFault(f"Ray does not start: {told}", "--cmd ray", "try: ray start --head") from error
            # Ray's handler ends the program at once; a stage ends its jobs first.
            signal.signal(signal.SIGTERM, before)
        return ray


def _run(call: Call, environment: Mapping[str, str], directory: str) -> int:
    """In a process of Ray: run the job, and end it when Ray cancels the task."""
    from pse.recipe.launchers.local import begin, end

    os.chdir(directory)
    # Which GPUs the job has is said by Ray, here.
    devices = {k: v for k, v in os.environ.items() if k == "CUDA_VISIBLE_DEVICES"}
    process = begin(call, {**environment, **devices})
    try:
        # Ray interrupts Python, which a wait in the kernel would not notice.
        while process.poll() is None:
            time.sleep(0.2)
        return process.returncode
    finally:
        end([process])


PLUGIN = Ray
