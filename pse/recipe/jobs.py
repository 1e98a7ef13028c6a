"""Tasks side by side, each as a job of its own that runs the stage command again with `--only`."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from pse.errors import PseError, first_three
from pse.recipe.launchers.base import Call, Job
from pse.recipe.options import Context
from pse.recipe.stage import Task

_INTERVAL_S = 10.0


def side_by_side(ctx: Context, tasks: list[Task], command: list[str]) -> None:
    """Start each task as a job of its own, `nj` at a time; stop at the first that fails, or with --keep_going go on.

    Raises PseError for what failed.
    """
    # A polite end of the stage ends its jobs too, which then write their checkpoints.
    signal.signal(signal.SIGTERM, _interrupt)
    by_name = {task.name: task for task in tasks}
    calls = [_call(ctx, task, number, len(tasks), command) for number, task in enumerate(tasks)]
    running: dict[str, Job] = {}
    failures: list[PseError] = []
    start, said = time.monotonic(), 0.0
    try:
        running |= ctx.launcher.earlier(calls)
        waiting = [call for call in calls if call.task not in running]
        while waiting or running:
            while waiting and len(running) < ctx.nj:
                call = waiting.pop(0)
                running[call.task] = ctx.launcher.start(call)
            time.sleep(0.1)
            for name, job in list(running.items()):
                code = job.poll()
                if code is None:
                    continue
                del running[name]
                if code:
                    failures.append(_failure(ctx, by_name[name], code, job.cause))
                    if not ctx.keep_going:
                        raise failures[0]
                    print(f"error: {failures[-1]}", file=sys.stderr, flush=True)
                done = len(tasks) - len(waiting) - len(running)
                said_last = f"{name} failed" if code else last_line(log_path(by_name[name])) or name
                print(f"[{done}/{len(tasks)}] {said_last}", flush=True)
            if running and time.monotonic() - said > _INTERVAL_S * max(1, len(running) / 8):
                said = time.monotonic()
                _tell(said - start, {name: last_line(log_path(by_name[name])) for name in running})
    finally:
        ctx.launcher.stop(list(running.values()))
    if len(failures) == 1:
        raise failures[0]
    if failures:
        stage, names = tasks[0].stage, first_three(error.where for error in failures)
        fix = f"repeat them with: {ctx.repeat(stage)}"
        error = PseError(f"{len(failures)} of {len(tasks)} tasks failed", names, fix)
        error.exit_code = max(failure.exit_code for failure in failures)
        raise error


def _call(ctx: Context, task: Task, number: int, num_tasks: int, command: list[str]) -> Call:
    """The command of a task, with its share of the GPUs."""
    elsewhere = ctx.launcher.elsewhere
    arguments, environment, gpus = [*command, "--only", task.name], {}, ctx.ngpu
    if ctx.ngpu > 1:
        seen = "" if elsewhere else os.environ.get("CUDA_VISIBLE_DEVICES", "")
        devices = dealt(seen.split(",") if seen else [str(n) for n in range(ctx.ngpu)], number, min(ctx.nj, num_tasks))
        gpus = len(devices)
        # Which devices a job elsewhere has is said by the engine that starts it.
        environment |= {} if elsewhere else {"CUDA_VISIBLE_DEVICES": ",".join(devices)}
    if elsewhere:
        arguments += ["--ngpu", str(gpus)]
    if gpus > 1:
        from pse.training.engine import several

        arguments = several(arguments[1:], gpus)
    told = json.dumps(task.fingerprint(ctx.config), sort_keys=True)
    identity = hashlib.sha256(told.encode()).hexdigest()
    return Call(
        task.stage, task.name, tuple(arguments), log_path(task).absolute(), gpus, environment, identity, task.brief
    )  # fmt: skip


def dealt(devices: list[str], number: int, beside: int) -> list[str]:
    """The devices of job `number` when `beside` jobs run at a time: an equal share, one at least.

    The models are small: one job a device keeps all of them busier than one job on all.
    """
    share = max(1, len(devices) // beside)
    return [devices[(number * share + k) % len(devices)] for k in range(share)]


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def log_path(task: Task) -> Path:
    """Where a task that runs as a process of its own writes its log."""
    return task.work / "log" / task.stage / f"{task.name}.log"


def last_line(path: Path) -> str:
    """The last non-empty line of a log, without what a rewriting progress line left before it."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _tell(elapsed_s: float, lines: dict[str, str]) -> None:
    """What the jobs say of themselves, and who has said nothing yet."""
    for line in filter(None, lines.values()):
        print(f"  {elapsed_s:4.0f} s  {line}", flush=True)
    silent = [name for name, line in lines.items() if not line]
    if silent:
        print(f"  {elapsed_s:4.0f} s  {len(silent)} wait or are starting: {first_three(silent)}", flush=True)


def _failure(ctx: Context, task: Task, code: int, cause: str) -> PseError:
    log = log_path(task)
    try:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
    except OSError:
        tail = []
    print(f"--- last lines of {log}", *tail, "---", sep="\n", file=sys.stderr, flush=True)
    # A shell tells a signal as 128 and its number.
    cause = cause or ("killed" if code < 0 or code > 128 else f"exit code {code}")
    repeat = ctx.repeat(task.stage, task.name)
    error = PseError(f"failed ({cause})", f"{task.stage} {task.name}", f"repeat it with: {repeat}")
    error.exit_code = code if 0 < code <= 4 else 1
    return error


def end_with_stage() -> None:
    """A job whose stage was killed must not go on beside the command that continues it.

    PSE_JOB is the process to end with, or the name of an engine that keeps jobs by itself.
    """
    if not os.environ["PSE_JOB"].isdigit():
        return
    # The parent of a job is its stage, or the process that runs several as one training.
    stage, parent = int(os.environ["PSE_JOB"]), os.getppid()

    def watch() -> None:
        while os.getppid() == parent and _exists(stage):
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
