"""Stage pretrain: embedding nets, mask nets and their variants, on short segments."""

from __future__ import annotations

from pse.recipe.options import Context
from pse.recipe.separation.training import tasks_of
from pse.recipe.stage import Task


def tasks(ctx: Context) -> list[Task]:
    """One training a method and seed."""
    return tasks_of(ctx, "pretrain")
