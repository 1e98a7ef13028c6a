"""Stage finetune: trained nets go on, on longer segments or other mixtures."""

from __future__ import annotations

from pse.recipe.options import Context
from pse.recipe.separation.training import tasks_of
from pse.recipe.stage import Task


def tasks(ctx: Context) -> list[Task]:
    """One training a method and seed."""
    return tasks_of(ctx, "finetune")
