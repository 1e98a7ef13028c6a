"""YAML in, typed and validated objects out.

A schema is a dataclass (or any annotated callable): unknown keys are refused with the nearest
name, values are checked against the annotations, and nothing in a file is ever executed.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from pse.errors import PseError

MAX_BYTES = 1_000_000


class _Loader(yaml.SafeLoader):
    """Safe loader that also refuses aliases (expansion bombs) and duplicate keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} is not a name", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: str | Path) -> Any:
    """Parse YAML text safely. Raises PseError with file and line."""
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise PseError(f"is not valid YAML: {error.problem or error}", f"{where}{line}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise PseError(f"is not valid YAML: {error}", where) from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file (an empty file is an empty mapping)."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PseError(f"is larger than {MAX_BYTES} bytes", path)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PseError("no such config file" if not path.exists() else f"cannot be read ({error})", path) from error
    value = parse_yaml(text, path)
    if value is not None and not isinstance(value, dict):
        raise PseError("does not hold a mapping of keys to values", path)
    return value or {}


def apply_overrides(config: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """A copy of `config` with every `a.b=value` of `--set` put in; the value is read as YAML."""
    out = _copy(config)
    for item in overrides:
        key, sign, text = item.partition("=")
        if not sign or not key.strip():
            raise PseError(f"{item!r} is not key=value", "--set", "write e.g. --set pretrain.training.lr=1e-4")
        *parents, leaf = key.strip().split(".")
        place = out
        for name in parents:
            if not isinstance(place.get(name), dict):
                place[name] = {}
            place = place[name]
        place[leaf] = parse_yaml(text, f"--set {key}")
    return out


def _copy(value: Any) -> Any:
    return {k: _copy(v) for k, v in value.items()} if isinstance(value, dict) else value


def bind(target: Callable[..., Any], mapping: Mapping[str, Any], where: str | Path) -> Any:
    """Call a dataclass, class or function with the values of `mapping`, checked by its annotations.

    Raises PseError for unknown keys (naming the nearest), missing keys and wrong types.
    """
    # A dataclass resolves the names of its fields where each was written, which may be another module's base class.
    written = target.__init__ if inspect.isclass(target) and not dataclasses.is_dataclass(target) else target
    hints = typing.get_type_hints(written)
    parameters = {n: p for n, p in inspect.signature(target).parameters.items() if n != "self"}
    if not isinstance(mapping, Mapping):
        raise PseError(f"must be a mapping of keys to values, got {mapping!r}", where)
    for key in mapping:
        if key not in parameters:
            near = get_close_matches(str(key), parameters, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(parameters)}"
            raise PseError(f"unknown key {key!r}", where, hint)
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in mapping]
    if missing:
        raise PseError(f"key {missing[0]!r} is missing", where)
    values = {k: convert(v, hints.get(k, Any), f"{where}: {k}") for k, v in mapping.items()}
    try:
        return target(**values)
    except ValueError as error:
        raise PseError(str(error), where) from error


def convert(value: Any, annotation: Any, where: str) -> Any:
    """Check `value` against a type annotation; ints become floats where floats are asked for."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, args, where)
    if origin is typing.Literal:
        if value in args:
            return value
        near = get_close_matches(str(value), [str(a) for a in args], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(map(str, args))}"
        raise PseError(f"{value!r} is not a choice", where, hint)
    if origin in (list, tuple) or annotation in (list, tuple):
        return _convert_sequence(value, origin or annotation, args, where)
    if origin is dict or annotation is dict:
        if not isinstance(value, dict):
            raise PseError(f"must be a mapping, got {value!r}", where)
        return {k: convert(v, args[1] if args else Any, f"{where}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(annotation):
        return value if isinstance(value, annotation) else bind(annotation, value if value is not None else {}, where)
    return _convert_scalar(value, annotation, where)


def _convert_union(value: Any, args: tuple, where: str) -> Any:
    if value is None and type(None) in args:
        return None
    failure: PseError | None = None
    for arg in (a for a in args if a is not type(None)):
        try:
            return convert(value, arg, where)
        except PseError as error:
            failure = failure or error
    raise failure or PseError(f"cannot be {value!r}", where)


def _convert_sequence(value: Any, kind: Any, args: tuple, where: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise PseError(f"must be a list, got {value!r}", where)
    if kind is tuple and args and args[-1] is not Ellipsis:
        if len(value) != len(args):
            raise PseError(f"must hold {len(args)} values, got {len(value)}", where)
        return tuple(convert(v, a, f"{where}[{i}]") for i, (v, a) in enumerate(zip(value, args, strict=True)))
    return kind(convert(v, args[0] if args else Any, f"{where}[{i}]") for i, v in enumerate(value))


def _convert_scalar(value: Any, annotation: Any, where: str) -> Any:
    if annotation is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        # YAML 1.1 reads 1e-3 (without a dot) as a string.
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    elif annotation is Path and isinstance(value, str):
        return Path(value)
    elif annotation is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    elif isinstance(value, annotation) and (annotation is bool or not isinstance(value, bool)):
        return value
    raise PseError(f"must be {getattr(annotation, '__name__', annotation)}, got {value!r}", where)


def plain(config: Any) -> Any:
    """A config object as plain dicts, lists and scalars, ready for YAML or JSON."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {str(k): plain(v) for k, v in config.items()}
    if isinstance(config, (list, tuple)):
        return [plain(v) for v in config]
    return str(config) if isinstance(config, Path) else config


def flatten(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a config as (dotted key, value), in order; lists are leaves."""
    for key, value in plain(config).items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
