"""The models that come with pse: packages in `pse/weights/`, found by their names."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from pse.errors import PseError

PLACE = Path(__file__).parent.parent / "weights"


def names() -> list[str]:
    """The built-in models, in order."""
    return sorted(p.parent.name for p in PLACE.glob("*/SHA256SUMS"))


def package(model: str | Path) -> Path:
    """The directory of a model, which is a built-in name or a directory itself. Raises PseError for neither."""
    place = Path(model)
    if place.is_dir() or str(model) not in (known := names()) and len(place.parts) > 1:
        return place
    if str(model) in known:
        return PLACE / str(model)
    near = get_close_matches(str(model), known, n=1)
    fix = f"did you mean {near[0]!r}?" if near else f"built in are {', '.join(known) or 'none'}"
    raise PseError("no such model directory, and no built-in model", model, fix)
