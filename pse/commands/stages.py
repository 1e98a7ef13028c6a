"""The stage verbs of the command line: each runs one stage of the recipe that `--recipe` names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

from pse.errors import PseError
from pse.recipe.options import Context
from pse.recipe.runner import main
from pse.recipe.stage import Task
from pse.registry import find


def _tasks_of(stage: str) -> Callable[[Context], list[Task]]:
    def make(ctx: Context) -> list[Task]:
        return importlib.import_module(ctx.recipe.stages[stage]).tasks(ctx)

    return make


def _check_recipe(verb: Sequence[str], stage: str, argv: Sequence[str]) -> None:
    """Who comes without --recipe has met the verb in a list: `run.sh` is what runs it."""
    if not any(a in ("-h", "--help", "--recipe") or a.startswith("--recipe=") for a in argv):
        command = f"./run.sh --stage {stage} --stop_stage {stage}"
        raise PseError("a stage needs its recipe", f"pse {' '.join(verb)}", f"in a directory of egs/, run {command}")


def _verb(stage: str, verb: Sequence[str], argv: Sequence[str]) -> int:
    _check_recipe(verb, stage, argv)
    return main(stage, _tasks_of(stage), argv, [sys.executable, "-m", "pse.cli", *verb])


def corpus(argv: Sequence[str]) -> int:
    """Stage corpus."""
    return _verb("corpus", ["corpus"], argv)


def features(argv: Sequence[str]) -> int:
    """Stage features."""
    return _verb("features", ["features"], argv)


def train(argv: Sequence[str]) -> int:
    """A training stage: `pse train <stage> ...`."""
    _check_recipe(["train"], argv[0] if argv else "pretrain", argv)
    recipe = find("recipe", argv[argv.index("--recipe") + 1]) if "--recipe" in argv[:-1] else None
    known = recipe.training_stages if recipe else ()
    if not argv or argv[0] not in known:
        raise PseError("name the training stage", "pse train", f"one of {', '.join(known) or 'snr_predictor pretrain'}")
    return _verb(argv[0], ["train", argv[0]], argv[1:])


def infer(argv: Sequence[str]) -> int:
    """Stage enhance."""
    return _verb("enhance", ["infer"], argv)


def score(argv: Sequence[str]) -> int:
    """Stage score."""
    return _verb("score", ["score"], argv)


def report(argv: Sequence[str]) -> int:
    """Stage report."""
    return _verb("report", ["report"], argv)


def pack(argv: Sequence[str]) -> int:
    """Stage pack."""
    return _verb("pack", ["pack"], argv)
