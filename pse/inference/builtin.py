"""The models that come with pse: packages in `pse/weights/`, found by their names; which one a task takes."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from pse.errors import PseError

PLACE = Path(__file__).parent.parent / "weights"
# The model of a task where none is named.
DEFAULTS = {
    "enhance": "gru_256_causal",
    "separate": "cl_blstm",
    "snr_predictor": "snr_predictor_small",
    "voice": "voice",
}
# What personalising begins with, by the hidden units of a layer.
SIZES = {64: "gru_64_causal", 256: "gru_256_causal"}
CHOICES = "a built-in model (pse models), a package directory, or hf:owner/repo@commit"


def names() -> list[str]:
    """The built-in models, in order."""
    return sorted(p.parent.name for p in PLACE.glob("*/SHA256SUMS"))


def package(model: str | Path) -> Path:
    """The directory of a model: a Path is one, a str is a built-in name, a directory or an address on the hub.

    A name is that of the built-in model, whatever lies in the working directory. Raises PseError for what is neither,
    and what `pse.inference.hub.fetched` raises.
    """
    if isinstance(model, Path):
        return model
    if not isinstance(model, str):
        raise PseError(f"a value of type {type(model).__name__} is no model", "model", f"name {CHOICES}")
    if model.startswith("hf:"):
        from pse.inference.hub import fetched

        return fetched(model)
    if model in (known := names()):
        return PLACE / model
    place = Path(model)
    # Path.is_dir raises OSError for a name that no file can have.
    if os.path.isdir(place) or len(place.parts) > 1:
        return place
    near = get_close_matches(model, known, n=1)
    fix = f"did you mean {near[0]!r}?" if near else f"built in are {', '.join(known) or 'none'}; or name a directory"
    raise PseError("no such model directory, and no built-in model", model, fix)
