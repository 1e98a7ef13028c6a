"""What a recipe family is: a config schema and one module of tasks a stage."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """config: dataclass of all keys. stages: stage name -> module with `tasks(ctx) -> list[Task]`.

    check: `module:function` that refuses a config with names that the schema cannot know.
    check_data: one that is given the context, and refuses a config that its corpus does not fit, once that is there.
    expand: `module:function` that spells out the shorthands of a config before it is bound.
    """

    config: type
    stages: Mapping[str, str]
    training_stages: tuple[str, ...] = ()
    check: str = ""
    check_data: str = ""
    expand: str = ""

    def called(self, place: str) -> Callable[[Any], Any]:
        """The function at `module:function`; one that returns what it is given where there is none."""
        module, _, function = place.partition(":")
        return getattr(importlib.import_module(module), function) if place else lambda value: value
