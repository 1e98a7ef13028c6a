"""Tasks side by side, each as a process of its own that runs the stage command again with `--only`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from pse.errors import PseError
from pse.recipe.options import Context
from pse.recipe.stage import Task

_INTERVAL_S = 10.0


def side_by_side(ctx: Context, tasks: list[Task], command: list[str]) -> None:
    """Start each task as a process of its own, `nj` at a time; stop at the first that fails."""
    waiting, running, done = list(enumerate(tasks)), {}, 0
    # A polite end of the stage ends its jobs too, which then write their checkpoints.
    signal.signal(signal.SIGTERM, _interrupt)
    start, said = time.monotonic(), 0.0
    try:
        while waiting or running:
            while waiting and len(running) < ctx.nj:
                number, task = waiting.pop(0)
                running[task.name] = (task, _start(ctx, task, number, len(tasks), command))
            time.sleep(0.1)
            for name, (task, process) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[name]
                if process.returncode:
                    raise _failure(ctx, task, process.returncode)
                done += 1
                print(f"[{done}/{len(tasks)}] {last_line(log_path(task)) or name}", flush=True)
            if running and time.monotonic() - said > _INTERVAL_S:
                said = time.monotonic()
                for name, (task, _) in running.items():
                    print(f"  {said - start:4.0f} s  {last_line(log_path(task)) or name + ' is starting'}", flush=True)
    finally:
        _stop([p for _, p in running.values()])


def _start(ctx: Context, task: Task, number: int, num_tasks: int, command: list[str]) -> subprocess.Popen:
    environ = os.environ | {"PSE_JOB": str(os.getpid())}
    arguments = [*command, "--only", task.name]
    if ctx.ngpu > 1:
        seen = environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(ctx.ngpu)))
        devices = dealt(seen.split(","), number, min(ctx.nj, num_tasks))
        environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        if len(devices) > 1:
            from pse.training.engine import several

            arguments = several(arguments[1:], len(devices))
    log = log_path(task)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as out:
        return subprocess.Popen(
            arguments, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environ,
            # Ctrl-C reaches the stage alone, which then ends its jobs politely, once.
            start_new_session=True,
        )  # fmt: skip


def dealt(devices: list[str], number: int, beside: int) -> list[str]:
    """The devices of job `number` when `beside` jobs run at a time: an equal share, one at least.

    The models are small: one job a device keeps all of them busier than one job on all.
    """
    share = max(1, len(devices) // beside)
    return [devices[(number * share + k) % len(devices)] for k in range(share)]


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _stop(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


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


def _failure(ctx: Context, task: Task, code: int) -> PseError:
    log = log_path(task)
    try:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
    except OSError:
        tail = []
    print(f"--- last lines of {log}", *tail, "---", sep="\n", file=sys.stderr, flush=True)
    cause = "killed" if code < 0 else f"exit code {code}"
    repeat = ctx.repeat(task.stage, task.name)
    error = PseError(f"failed ({cause})", f"{task.stage} {task.name}", f"repeat it with: {repeat}")
    error.exit_code = code if 0 < code <= 4 else 1
    return error


def end_with_stage() -> None:
    """A job whose stage was killed must not go on beside the command that continues it."""
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
