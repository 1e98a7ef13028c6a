"""A personal model out of a person's own noisy recordings: verdict, training, check against the base, package."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Verb(ModuleType):
    """`pse.personalize` is a function of the API and, once a module of it was imported, this package."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        from pse.personalize.pipeline import personalize

        return personalize(*args, **options)


sys.modules[__name__].__class__ = _Verb
