"""JSON and JSON lines: read with one clear line on a fault, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pse.errors import PseError
from pse.io.atomic import writing


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        fix = "remove the file and run the stage that makes it"
        raise PseError(f"is not valid JSON ({error})", where, fix) from error


def read_json(path: str | Path) -> Any:
    """The content of a JSON file. Raises PseError when it is missing or broken."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PseError(f"cannot be read ({error})", path) from error
    return _parse(text, str(path))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with writing(path) as file:
        file.write(text + "\n")


def read_jsonl(path: str | Path) -> Iterator[Any]:
    """The values of a JSON-lines file, one at a time."""
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _parse(line, f"{path}:{number}")
    except (OSError, UnicodeDecodeError) as error:
        raise PseError(f"cannot be read ({error})", path) from error


def write_jsonl(path: str | Path, values: Iterable[Any]) -> None:
    """Write one JSON value a line."""
    with writing(path) as file:
        for value in values:
            file.write(json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")
