"""The training keys that a method sets itself: which of its stage's decide it then, in both families of recipes."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import pytest

from pse.recipe.options import add_arguments, context
from tests.recipe_place import ROOT

OWN = "pretrain.methods.{}.training.max_examples=640"


def keys(tmp_path: Path, family: str, recipe: str, method: str, *changes: str) -> dict[str, Any]:
    """What decides the training of a method that sets max_examples itself, in the recipe's mini.yaml so changed."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    path = ROOT / "egs" / recipe
    roots = [x for d in ("data", "dump", "exp") for x in (f"--{d}dir", str(tmp_path / d))]
    argv = ["--recipe", family, "--recipe_dir", str(path), "--config", str(path / "conf" / "mini.yaml"), "--tag", "t"]
    sets = [x for change in (OWN.format(method), *changes) for x in ("--set", change)]
    ctx = context(parser.parse_args([*argv, *roots, *sets]), argv)
    stage = importlib.import_module(f"pse.recipe.{family}.pretrain")
    (task,) = (t for t in stage.tasks(ctx) if t.name == method)
    return task.fingerprint(ctx.config)["keys"]


@pytest.mark.parametrize(
    ("family", "recipe", "method"),
    [("personal", "librispeech_pse", "generalist"), ("separation", "wsj0_mix_cl_modularity", "bins")],
)
def test_a_key_that_a_method_sets_itself_is_not_read_from_its_stage(
    tmp_path: Path, family: str, recipe: str, method: str
) -> None:
    """The stage's own value of that key trains nothing anew; its other keys do, and so does the method's value."""

    def of(*changes: str) -> dict[str, Any]:
        return keys(tmp_path, family, recipe, method, *changes)

    # The personal recipe has one training a target speaker.
    targets = tmp_path / "data" / "mini" / "target_test"
    targets.mkdir(parents=True)
    (targets / "spk2utt").write_text("19 19-1\n")
    base = of()
    assert of("pretrain.training.max_examples=99999") == base
    assert base[f"pretrain.methods.{method}.training.max_examples"] == 640
    assert of("pretrain.training.lr=0.5") != base
    assert of(f"pretrain.methods.{method}.training.max_examples=641") != base
