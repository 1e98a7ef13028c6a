"""Find a model, loss, objective, corpus, recipe or launcher by name.

A thing is plugged in by adding one module to the package of its kind; the module names what it
provides in `PLUGIN`. Nothing has to be edited elsewhere, and no name from a file can reach code
outside these packages.
"""

from __future__ import annotations

import importlib
import pkgutil
from difflib import get_close_matches
from typing import Any

from pse.errors import PseError

PACKAGES = {
    "model": "pse.models",
    "objective": "pse.training.objectives",
    "loss": "pse.losses",
    "corpus": "pse.corpora",
    "baseline": "pse.baselines",
    "recipe": "pse.recipe",
    "launcher": "pse.recipe.launchers",
}


def names(kind: str) -> list[str]:
    """Names of all plug-ins of a kind, sorted; modules without a `PLUGIN` do not count."""
    package = importlib.import_module(PACKAGES[kind])
    found = [m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")]
    return sorted(n for n in found if hasattr(importlib.import_module(f"{PACKAGES[kind]}.{n}"), "PLUGIN"))


def find(kind: str, name: str, where: str | None = None) -> Any:
    """The plug-in `name` of `kind`. Raises PseError naming the nearest match."""
    modules = [m.name for m in pkgutil.iter_modules(importlib.import_module(PACKAGES[kind]).__path__)]
    if name in modules and not name.startswith("_"):
        plugin = getattr(importlib.import_module(f"{PACKAGES[kind]}.{name}"), "PLUGIN", None)
        if plugin is not None:
            return plugin
    near = get_close_matches(str(name), names(kind), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names(kind))}"
    raise PseError(f"no {kind} is named {name!r}", where, hint)
