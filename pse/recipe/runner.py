"""Run the tasks of a stage that are not up to date: one here, several side by side as processes."""

from __future__ import annotations

import os
import re
import shlex
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import yaml

from pse.config import plain
from pse.errors import PseError, StageMissingError, first_three
from pse.io.atomic import reader, sole_writer, write_text
from pse.io.jsonl import write_json
from pse.recipe import environment
from pse.recipe.jobs import end_with_stage, side_by_side
from pse.recipe.options import Context, Parser, add_arguments, context
from pse.recipe.stage import Task
from pse.training.progress import clock

TaskMaker = Callable[[Context], list[Task]]


def main(stage: str, make_tasks: TaskMaker, argv: Sequence[str], program: Sequence[str]) -> int:
    """The body of every stage command: parse the options, then report or run.

    `program` is the argument list that started this command; jobs side by side start it again.
    """
    parser = Parser(prog=Path(program[-1]).name, description=f"stage {stage}")
    add_arguments(parser)
    args = parser.parse_args(argv)
    # Jobs side by side share the cores; small networks gain little from a second one and lose much
    # when it is busy. Read by torch and numpy when they are first imported, which is later.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, environment.num_cores() // max(1, args.nj))))
    ctx = context(args, _user_options(argv))
    if args.status:
        print("\t".join(status(ctx, make_tasks)), flush=True)
        return 0
    try:
        return _run(stage, ctx, make_tasks, args, [*program, *argv])
    except PseError as error:
        error.fix = _for_this_user(error, ctx, stage)
        raise


def _run(stage: str, ctx: Context, make_tasks: TaskMaker, args: Namespace, command: list[str]) -> int:
    """Run what is not up to date, or say with `--dry_run` what that is."""
    tasks = _chosen(make_tasks(ctx), args.only)
    if args.only and os.environ.get("PSE_JOB"):
        end_with_stage()
        # Of several processes that share one training, the first keeps the books.
        execute = tasks[0].execute if os.environ.get("RANK", "0") == "0" else tasks[0].assist
        execute(ctx.config, args.force)
        return 0
    if args.dry_run:
        pending = _pending(ctx, tasks, args.force)
        if pending:
            _check(ctx)
        return _tell(ctx, stage, tasks, pending)
    # Without a lock first: two experiments may share data that is up to date.
    if not _pending(ctx, tasks, args.force):
        print(f"up to date: {len(tasks)} of {len(tasks)} tasks, nothing to do", flush=True)
        return 0
    _check(ctx)
    # The stages before the experiment's own may be about to make other data.
    if any(t.work == ctx.exp for t in tasks):
        ctx.recipe.called(ctx.recipe.check_data)(ctx)
    ctx.launcher.check()
    with ExitStack() as locks:
        written = {t.work for t in tasks}
        for work in sorted(written):
            locks.enter_context(sole_writer(work, beside=_elsewhere(ctx, work)))
        # What an experiment hears must not change under it.
        for read in sorted({ctx.data, ctx.dump} - written):
            locks.enter_context(reader(read))
        if any(t.work == ctx.exp for t in tasks):
            write_text(ctx.exp / "config.yaml", yaml.safe_dump(plain(ctx.config), sort_keys=False))
            write_json(ctx.exp / "env.json", environment.facts())
        for wave in sorted({t.wave for t in tasks}):
            _run_wave(ctx, [t for t in tasks if t.wave == wave], args.force, command)
    return 0


def _for_this_user(error: PseError, ctx: Context, stage: str) -> str | None:
    """The remedy with the options of this command: without them ./run.sh would work somewhere else."""
    made_by = re.search(r"\./run\.sh --stage (\w+)", error.fix or "")
    if isinstance(error, StageMissingError) and made_by:
        command = ["./run.sh", "--stage", made_by[1], "--stop_stage", stage, *ctx.options]
        return f"run {shlex.join(command)} first"
    options = shlex.join(ctx.options)
    if made_by and options not in error.fix:
        return error.fix.replace("./run.sh --stage", f"./run.sh {options} --stage")
    return error.fix


def _elsewhere(ctx: Context, work: Path) -> str:
    """How a second command can work beside the one that writes into this directory."""
    option = {ctx.data: "--datadir", ctx.dump: "--dumpdir"}.get(work, "--tag")
    return f"choose another {option}"


def _check(ctx: Context) -> None:
    """Refuse what the schema cannot see (names of objectives and models) before anything runs."""
    ctx.recipe.called(ctx.recipe.check)(ctx.config)


def _pending(ctx: Context, tasks: list[Task], force: bool) -> list[tuple[Task, str]]:
    reasons = ((t, "--force" if force else t.why_not_done(ctx.config)) for t in tasks)
    return [(t, why) for t, why in reasons if why]


def _tell(ctx: Context, stage: str, tasks: list[Task], pending: list[tuple[Task, str]]) -> int:
    for task, why in pending:
        print(f"would run {stage} {task.name}: {why}")
    print(f"{len(pending)} of {len(tasks)} tasks of stage {stage} would run", flush=True)
    costs = [task.cost_s() for task, _ in pending if task.cost_s is not None]
    if costs:
        beside = min(ctx.nj, len(costs))
        print(
            f"{len(costs)} trainings of stage {stage}: at the most {clock(sum(costs))} h:min:s of computing, "
            f"{clock(max(sum(costs) / beside, *costs))} with {beside} side by side, by a step measured here"
        )
    return 0


def _run_wave(ctx: Context, tasks: list[Task], force: bool, command: list[str]) -> None:
    pending = _pending(ctx, tasks, force)
    _announce(tasks, pending)
    beside = [t for t, _ in pending if t.own_process]
    if not ctx.launcher.elsewhere and ctx.ngpu < 2 and (len(beside) < 2 or ctx.nj == 1 and not ctx.keep_going):
        beside = []
    for task, _ in pending:
        if task not in beside:
            task.execute(ctx.config, force)
    if beside:
        side_by_side(ctx, beside, command)


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
