"""`pse config --recipe NAME`: every key of a recipe's config with its type and default."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import typing
from collections.abc import Iterator, Sequence

from pse.config import plain
from pse.registry import find


def main(argv: Sequence[str]) -> int:
    """Print one line a key, grouped by section, with the section's own description."""
    parser = argparse.ArgumentParser(prog="pse config", description=__doc__)
    parser.add_argument("--recipe", default="personal", help="name of the recipe family")
    args = parser.parse_args(argv)
    for line in explain(find("recipe", args.recipe, "--recipe").config):
        print(line)
    return 0


def explain(schema: type, prefix: str = "") -> Iterator[str]:
    """Lines that describe a config dataclass and the dataclasses inside it."""
    for text in inspect.cleandoc(schema.__doc__ or "").splitlines():
        yield f"# {text}" if text else "#"
    hints, sections = typing.get_type_hints(schema), []
    for field in dataclasses.fields(schema):
        nested = _schema_in(hints[field.name])
        if nested is not None:
            sections.append((f"{prefix}{field.name}", hints[field.name], nested))
            continue
        kind = getattr(hints[field.name], "__name__", str(hints[field.name])).replace("typing.", "")
        yield f"{prefix}{field.name}: {_default(field)}    # {kind}"
    for name, hint, nested in sections:
        yield ""
        # A mapping of named things: NAME stands for what the user calls them.
        yield from explain(nested, f"{name}.NAME." if typing.get_origin(hint) is dict else f"{name}.")


def _schema_in(hint: object) -> type | None:
    for part in (hint, *typing.get_args(hint)):
        if dataclasses.is_dataclass(part) and isinstance(part, type):
            return part
    return None


def _default(field: dataclasses.Field) -> str:
    if field.default is not dataclasses.MISSING:
        return json.dumps(plain(field.default))
    if field.default_factory is not dataclasses.MISSING:
        return json.dumps(plain(field.default_factory()))
    return "(required)"
