"""What a recipe family is: a config schema and one module of tasks a stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """config: dataclass of all keys. stages: stage name -> module with `tasks(ctx) -> list[Task]`.

    check: `module:function` that refuses a config with names that the schema cannot know.
    """

    config: type
    stages: Mapping[str, str]
    training_stages: tuple[str, ...] = ()
    check: str = ""
