"""Configs are data: typed, checked, and unable to execute anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from pse.config import apply_overrides, bind, flatten, parse_yaml, plain, read_yaml
from pse.errors import PseError


@dataclass(frozen=True)
class Inner:
    lr: float = 1e-3
    kind: Literal["adam", "sgd"] = "adam"


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    snr_db: tuple[float, float] = (0.0, 1.0)
    names: list[str] = field(default_factory=list)
    clamp_db: float | None = None
    free: dict[str, Any] = field(default_factory=dict)


def parse(text: str) -> Outer:
    return bind(Outer, parse_yaml(text, "a.yaml") or {}, "a.yaml")


def test_defaults_are_kept_and_given_values_are_typed() -> None:
    config = parse("inner: {lr: 1e-4}\nsnr_db: [-5, 5]\nnames: ['19', 26]\nclamp_db: 30")
    assert config == Outer(Inner(1e-4), (-5.0, 5.0), ["19", "26"], 30.0)
    assert all(isinstance(x, float) for x in (*config.snr_db, config.clamp_db))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("iner: {}", "did you mean 'inner'"),
        ("inner: {lt: 1}", "unknown key 'lt'"),
        ("inner: {kind: adm}", "did you mean 'adam'"),
        ("inner: {lr: fast}", "must be float"),
        ("inner: {lr: true}", "must be float"),
        ("inner: {lr: .nan}", "must be float"),
        ("inner: {lr: .inf}", "must be float"),
        ("snr_db: [1]", "must hold 2 values"),
        ("snr_db: 3", "must be a list"),
        ("names: a", "must be a list"),
        ("free: [1]", "must be a mapping"),
        ("a: 1\na: 2", "stands twice"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("a: [", "not valid YAML"),
        ("1: 2", "is not a name"),
    ],
)
def test_a_fault_is_one_line_that_names_the_place(text: str, told: str) -> None:
    with pytest.raises(PseError) as caught:
        parse(text)
    assert told in str(caught.value)
    assert "a.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nested_aliases_cannot_explode() -> None:
    bomb = "a: &a [x, x]\n" + "\n".join(f"b{i}: &b{i} [*a, *a]" for i in range(50))
    with pytest.raises(PseError, match="aliases"):
        parse_yaml(bomb, "bomb.yaml")


def test_yaml_does_not_run_code(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    with pytest.raises(PseError):
        parse_yaml(f"!!python/object/apply:pathlib.Path.touch [{mark}]", "x")
    assert not mark.exists()


def test_overrides_are_data_and_reach_nested_keys() -> None:
    raw = apply_overrides({"inner": {"kind": "sgd"}}, ["inner.lr=5e-4", "names=[a, b]", "free.x.y='$(touch z)'"])
    assert bind(Outer, raw, "x") == Outer(Inner(5e-4, "sgd"), names=["a", "b"], free={"x": {"y": "$(touch z)"}})
    with pytest.raises(PseError, match="key=value"):
        apply_overrides({}, ["inner.lr"])


def test_overrides_leave_the_original_alone() -> None:
    raw = {"inner": {"lr": 1.0}}
    apply_overrides(raw, ["inner.lr=2"])
    assert raw == {"inner": {"lr": 1.0}}


def test_flatten_gives_every_leaf_once() -> None:
    leaves = dict(flatten(parse("free: {a: {b: 1}}")))
    assert leaves["inner.lr"] == 1e-3 and leaves["free.a.b"] == 1 and leaves["snr_db"] == [0.0, 1.0]
    assert len(leaves) == 6


def test_plain_binds_back_to_the_same_config() -> None:
    config = parse("inner: {lr: 2}\nclamp_db: 3\nfree: {a: [1, {b: 2}]}")
    assert bind(Outer, plain(config), "x") == config


def test_a_file_that_is_too_large_or_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    with pytest.raises(PseError, match="no such config file"):
        read_yaml(path)
    path.write_text("#" * 1_000_001)
    with pytest.raises(PseError, match="larger"):
        read_yaml(path)
    path.write_text("- 1")
    with pytest.raises(PseError, match="mapping"):
        read_yaml(path)
    path.write_bytes(b"a: \xff")
    with pytest.raises(PseError, match="cannot be read"):
        read_yaml(path)
