"""Run the tasks of a stage that are not up to date: one here, several side by side as processes."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import yaml

from pse.config import plain
from pse.errors import PseError, StageMissingError, first_three
from pse.io.atomic import sole_writer, write_text
from pse.io.jsonl import write_json
from pse.recipe import environment
from pse.recipe.options import Context, add_arguments, context
from pse.recipe.stage import Task

TaskMaker = Callable[[Context], list[Task]]


def main(stage: str, make_tasks: TaskMaker, argv: Sequence[str], program: Sequence[str]) -> int:
    """The body of every stage command: parse the options, then report or run.

    `program` is the argument list that started this command; jobs side by side start it again.
    """
    parser = argparse.ArgumentParser(prog=Path(program[-1]).name, description=f"stage {stage}")
    add_arguments(parser)
    args = parser.parse_args(argv)
    # Jobs side by side share the cores; small networks gain little from a second one and lose much
    # when it is busy. Read by torch and numpy when they are first imported, which is later.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // max(1, args.nj))))
    ctx = context(args, _user_options(argv))
    if args.status:
        print("\t".join(status(ctx, make_tasks)), flush=True)
        return 0
    tasks = _chosen(make_tasks(ctx), args.only)
    if args.only and os.environ.get("PSE_JOB"):
        _end_with_parent()
        tasks[0].execute(ctx.config, args.force)
        return 0
    if args.dry_run:
        pending = _pending(ctx, tasks, args.force)
        if pending:
            _check(ctx)
        return _tell(stage, tasks, pending)
    # Without a lock first: two experiments may share data that is up to date.
    if not _pending(ctx, tasks, args.force):
        print(f"up to date: {len(tasks)} of {len(tasks)} tasks, nothing to do", flush=True)
        return 0
    _check(ctx)
    with ExitStack() as locks:
        for work in sorted({t.work for t in tasks}):
            locks.enter_context(sole_writer(work))
        if any(t.work == ctx.exp for t in tasks):
            write_text(ctx.exp / "config.yaml", yaml.safe_dump(plain(ctx.config), sort_keys=False))
            write_json(ctx.exp / "env.json", environment.facts())
        for wave in sorted({t.wave for t in tasks}):
            _run_wave(ctx, [t for t in tasks if t.wave == wave], args.force, [*program, *argv])
    return 0


def _check(ctx: Context) -> None:
    """Refuse what the schema cannot see (names of objectives and models) before anything runs."""
    if ctx.recipe.check:
        module, _, function = ctx.recipe.check.partition(":")
        getattr(importlib.import_module(module), function)(ctx.config)


def _end_with_parent() -> None:
    """A job whose stage was killed must not go on beside the command that continues it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _pending(ctx: Context, tasks: list[Task], force: bool) -> list[tuple[Task, str]]:
    reasons = ((t, "--force" if force else t.why_not_done(ctx.config)) for t in tasks)
    return [(t, why) for t, why in reasons if why]


def _tell(stage: str, tasks: list[Task], pending: list[tuple[Task, str]]) -> int:
    for task, why in pending:
        print(f"would run {stage} {task.name}: {why}")
    print(f"{len(pending)} of {len(tasks)} tasks of stage {stage} would run")
    return 0


def _run_wave(ctx: Context, tasks: list[Task], force: bool, command: list[str]) -> None:
    pending = _pending(ctx, tasks, force)
    _announce(tasks, pending)
    beside = [t for t, _ in pending if t.own_process]
    if len(beside) < 2 or ctx.nj == 1:
        beside = []
    for task, _ in pending:
        if task not in beside:
            task.execute(ctx.config, force)
    if beside:
        _side_by_side(ctx, beside, command)


def status(ctx: Context, make_tasks: TaskMaker) -> tuple[str, str]:
    """(done | stale | missing, detail) of a stage, without running anything."""
    try:
        tasks = make_tasks(ctx)
    except StageMissingError as error:
        return "missing", error.fix or str(error)
    reasons = {t.name: why for t in tasks if (why := t.why_not_done(ctx.config))}
    if not reasons:
        return "done", f"{len(tasks)} tasks"
    stale = {n: w for n, w in reasons.items() if not w.startswith("missing")}
    if stale:
        name, why = next(iter(stale.items()))
        return "stale", f"{len(reasons)} of {len(tasks)} tasks, {name}: {why}"
    return "missing", f"{len(reasons)} of {len(tasks)} tasks"


def _user_options(argv: Sequence[str]) -> list[str]:
    """The options worth repeating to a user: all but the recipe's own and those that select."""
    out, skip = [], {"--recipe", "--recipe_dir", "--only"}
    words = (w.split("=", 1) if w.startswith("--") and "=" in w else [w] for w in argv)
    items = iter([part for word in words for part in word])
    for item in items:
        if item in skip:
            next(items, None)
        elif item not in ("--status", "--dry_run", "--force"):
            out.append(item)
    return out


def _chosen(tasks: list[Task], only: str | None) -> list[Task]:
    if only is None:
        return tasks
    chosen = [t for t in tasks if t.name == only]
    if not chosen:
        raise PseError(f"no task is named {only!r}", "--only", f"tasks: {first_three(t.name for t in tasks)}")
    return chosen


def _announce(tasks: list[Task], pending: list[tuple[Task, str]]) -> None:
    reasons: dict[str, list[str]] = {}
    for task, why in pending:
        reasons.setdefault("missing" if why.startswith("missing") else why, []).append(task.name)
    for why, names in reasons.items():
        print(f"{len(names)} of {len(tasks)} tasks to run ({why}): {first_three(names)}", flush=True)


def _side_by_side(ctx: Context, tasks: list[Task], command: list[str]) -> None:
    """Start each task as a process of its own, `nj` at a time; stop at the first that fails."""
    waiting, running, done = list(enumerate(tasks)), {}, 0
    # A polite end of the stage ends its jobs too, which then write their checkpoints.
    signal.signal(signal.SIGTERM, _interrupt)
    start, said = time.monotonic(), 0.0
    try:
        while waiting or running:
            while waiting and len(running) < ctx.nj:
                number, task = waiting.pop(0)
                running[task.name] = (task, _start(ctx, task, number, command))
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


def _start(ctx: Context, task: Task, number: int, command: list[str]) -> subprocess.Popen:
    environ = os.environ | {"PSE_JOB": "1"}
    arguments = [*command, "--only", task.name]
    if ctx.ngpu > 1:
        # The models are small: one job a GPU keeps all of them busier than one job on all.
        seen = environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(ctx.ngpu)))
        environ["CUDA_VISIBLE_DEVICES"] = seen.split(",")[number % len(seen.split(","))]
    log = log_path(task)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as out:
        return subprocess.Popen(
            arguments, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environ,
            # Ctrl-C reaches the stage alone, which then ends its jobs politely, once.
            start_new_session=True,
        )  # fmt: skip


_INTERVAL_S = 10.0


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
