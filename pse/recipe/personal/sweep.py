"""Sweeps: lists under `sweep` become methods, one for every combination of their values."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pse.errors import PseError
from pse.registry import find

# Lists that the config has a place for: every method is run with all of their values anyway.
PLACES = {"speaker": ("data", "speakers"), "clean_s": ("finetune", "clean_s")}
# Keys that say something about a person's noisy recordings.
OF_RECORDINGS = ("minutes", "premixture_snr_db")


def expand(raw: dict[str, Any]) -> dict[str, Any]:
    """A config, before it is bound, without its sweep and with the methods that come of it.

    A key of `sweep` is one of a method, e.g. model or objective.loss; it is left out for methods that
    have no such option. Methods are named after theirs and the values, e.g. pseudo_se-gru_64-mse, and
    finetune.start means all that come of a method. Raises PseError for values that are no list.
    """
    sweep = raw.get("sweep") or {}
    methods = raw.get("pretrain", {}).get("methods") if isinstance(raw.get("pretrain"), dict) else None
    if not isinstance(sweep, dict) or not sweep or not isinstance(methods, dict):
        return raw
    for key, values in sweep.items():
        if not isinstance(values, list) or not values:
            raise PseError(f"must be a list of values, got {values!r}", f"sweep.{key}", "write e.g. [3, 10]")
    out = raw | {"sweep": {}}
    for key, (section, leaf) in PLACES.items():
        if key in sweep:
            out[section] = (out.get(section) or {}) | {leaf: sweep[key]}
    grid = {key: values for key, values in sweep.items() if key not in PLACES}
    names, grown = {}, {}
    for name, method in methods.items():
        made = _combinations(str(name), method, grid)
        names[name], grown = list(made), grown | made
    out["pretrain"] = raw["pretrain"] | {"methods": grown}
    start = (out.get("finetune") or {}).get("start")
    if isinstance(start, list):
        out["finetune"] = out["finetune"] | {"start": [n for s in start for n in names.get(s, [s])]}
    return out


def _combinations(name: str, method: Any, grid: Mapping[str, list[Any]]) -> dict[str, Any]:
    keys = [key for key in grid if isinstance(method, dict) and _applies(method, key)]
    made = {}
    for values in itertools.product(*(grid[key] for key in keys)):
        changed, label = method, name
        for key, value in zip(keys, values, strict=True):
            changed, label = _with(changed, key.split("."), value), f"{label}-{_label(key, value)}"
        if label in made:
            raise PseError(f"two values are both called {label}", "sweep", "leave one out")
        made[label] = changed
    return made


def _applies(method: Mapping[str, Any], key: str) -> bool:
    """Whether a method has what a key of the sweep changes."""
    objective = method.get("objective")
    if not isinstance(objective, dict):
        return key == "model" and "model" not in method
    if key in OF_RECORDINGS:
        return method.get("speech", "target") == "target" and objective.get("name") != "supervised"
    section, _, option = key.partition(".")
    if section != "objective" or option == "name":
        return True
    plugin = find("objective", objective.get("name", ""), "pretrain.methods")
    return option in {f.name for f in dataclasses.fields(getattr(plugin, "Options", object))}


def _with(mapping: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    head, *rest = path
    return {**mapping, head: _with(mapping.get(head) or {}, rest, value) if rest else value}


def _label(key: str, value: Any) -> str:
    """What a value adds to a name: of a model its file, of a number also what it counts."""
    if key == "model":
        text = Path(value).stem if isinstance(value, str) else str(value.get("name", "model"))
    elif isinstance(value, str):
        text = value
    else:
        text = f"{key.rpartition('.')[2]}_{value}"
    return re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")
