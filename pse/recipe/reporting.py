"""What the reports of all recipes say of a run: the command that made it, sizes, commits, files that may be there."""

from __future__ import annotations

import functools
import json
import shlex
from pathlib import Path
from typing import Any

from pse.recipe.options import Context

# Options that say where files lie on this machine and nothing about the result.
PLACES = ("--datadir", "--dumpdir", "--expdir")
# Options without a value that say nothing about the result either.
SWITCHES = ("--keep_going",)


def command(ctx: Context) -> str:
    """The command that made everything; directories of this machine are replaced by what they hold."""
    words, options = [], iter(ctx.options)
    for option in options:
        if option in SWITCHES:
            continue
        value = next(options, "")
        key, sign, content = value.partition("=") if option == "--set" else (option[2:], "=", value)
        name = key.rpartition(".")[2]
        if option in PLACES or name == "downloads_dir":
            continue
        if (name.endswith(("_dir", "_manifest")) or name == "split") and sign and Path(content).is_absolute():
            stand_in = f"/path/to/{name.removesuffix('_dir')}"
            value = f"{key}={stand_in}" if option == "--set" else stand_in
        words += [option, value]
    return f"cd egs/{ctx.recipe_dir.resolve().name} && " + shlex.join(["./run.sh", *words])


def read_if_there(path: Path) -> bytes | None:
    """Content of a file that an experiment may or may not have."""
    return path.read_bytes() if path.is_file() else None


@functools.cache
def _described(model: str) -> dict[str, Any]:
    from pse.models.base import build
    from pse.models.info import describe

    return describe(build(json.loads(model), "model"))


def size(mapping: dict[str, Any]) -> tuple[int | None, int | None]:
    """(weights, multiply-accumulates a second) of a model's mapping; None where its weights cannot be counted."""
    about = _described(json.dumps(mapping))
    # A peer's weights are inside its package: what cannot be counted is not told as 0.
    if not about["parameters"]:
        return None, None
    return about["parameters"], about["network_macs_per_s"] + about["stft_macs_per_s"]


def learning_curves(ctx: Context) -> Any:
    """The section of a page with the curve of every training."""
    from pse.scoring.report import Figures, Picture

    found = [p for depth in ("*", "*/*") for p in sorted(ctx.exp.glob(f"{depth}/images/learning_curve.png"))]
    curves = {p.parent.parent.name: p for p in found if ".earlier" not in p.parts}
    return Figures("Learning curves", [Picture(p.read_bytes(), f"Learning curve of {n}", n) for n, p in curves.items()])
