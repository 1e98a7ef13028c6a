"""Every config that ships binds to its schema, and every model of conf/models trains a step and reloads."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from pse.config import bind, plain, read_yaml
from pse.inference.package import save_package
from pse.models.base import Output, build
from pse.recipe.options import Context, add_arguments, context
from pse.recipe.personal.config import PersonalConfig
from pse.recipe.separation import report
from pse.recipe.separation.layout import rows
from pse.recipe.separation.training import check
from pse.registry import find

RECIPE = Path(__file__).resolve().parents[2] / "egs" / "librispeech_pse"
SEPARATION = RECIPE.with_name("wsj0_2mix_dc")
MODULARITY = RECIPE.with_name("wsj0_mix_cl_modularity")
CONFIGS = sorted([*(RECIPE / "conf").glob("*.yaml"), *(RECIPE / "conf" / "study").glob("*.yaml")])
OF_SEPARATION = sorted(
    (p, d) for d in (SEPARATION, MODULARITY) for part in ("conf", "conf/study") for p in (d / part).glob("*.yaml")
)
MODELS = sorted([*(RECIPE / "conf" / "models").glob("*.yaml"), *(SEPARATION / "conf" / "models").glob("*.yaml")])


def _context(recipe: str, directory: Path, path: Path, *more: str) -> Context:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    argv = ["--recipe", recipe, "--recipe_dir", str(directory), "--config", str(path), *more]
    return context(parser.parse_args(argv), argv)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_binds_and_names_real_objectives(path: Path) -> None:
    ctx = _context("personal", RECIPE, path)
    assert ctx.tag == path.stem
    config = ctx.config
    assert bind(PersonalConfig, plain(config), "again") == config
    for name, method in config.pretrain.methods.items():
        options = dict(method.objective or {"name": "supervised"})
        bind(find("objective", options.pop("name"), name).Options, options, name)
    starts = set(config.finetune.start)
    assert starts <= config.pretrain.methods.keys() | {"random"}
    tuned = {f"{start}.{seconds:g}s" for start in starts for seconds in config.finetune.clean_s}
    compared = {c for claim in config.report.claims for t in (claim.higher, claim.lower) for c in t.split(" minus ")}
    assert compared <= config.pretrain.methods.keys() | tuned


@pytest.mark.parametrize(("path", "recipe"), OF_SEPARATION, ids=lambda p: p.stem)
def test_every_config_of_separation_can_run_and_has_a_condition_for_each_number_of_the_paper(
    path: Path, recipe: Path, tmp_path: Path
) -> None:
    ctx = _context("separation", recipe, path, *_packages(path, tmp_path))
    check(ctx.config)
    for cell in ctx.config.report.paper:
        assert cell.condition in rows(ctx, cell.test), cell
    # An encoder of voices has nobody to separate, and no report of it.
    assert any(t.stage == "report" for t in report.tasks(ctx)) is (path.stem != "voice")


def _packages(path: Path, place: Path) -> list[str]:
    """Options that find packages from here; a model of the config's kind stands for those of another recipe's run."""
    raw, made = read_yaml(path)["pretrain"], []
    recipe = next(p for p in path.parents if p.name == "conf").parent
    for name, method in ((n, m) for n, m in raw["methods"].items() if "package" in m):
        if not (there := (recipe / method["package"]).resolve()).is_dir():
            there = place / name
            save_package(there, build(raw["model"], path), raw["model"], "card")
        made += ["--set", f"pretrain.methods.{name}.package={there}"]
    return made


@pytest.mark.parametrize("recipe", [RECIPE, SEPARATION, MODULARITY], ids=lambda p: p.name)
def test_every_config_that_a_recipe_names_is_there(recipe: Path) -> None:
    told = "".join((recipe / name).read_text("utf-8") for name in ("run.sh", "README.md"))
    named = set(re.findall(r"--config[ =](\S+\.yaml)", told)) | set(re.findall(r"^config=(\S+)", told, re.M))
    assert len(named) > 1 and sorted(n for n in named if not (recipe / n).is_file()) == []


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_every_model_file_trains_a_step_and_reloads(path: Path) -> None:
    if path.stem.startswith("espnet_"):
        pytest.importorskip("espnet2")
    torch.manual_seed(0)
    model, mix = build(read_yaml(path), path), torch.randn(2, 2048)
    out = model(mix)
    made = _made(out)
    made.square().mean().backward()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-3)
    optimizer.step()
    again = build(read_yaml(path), path)
    again.load_state_dict(load(save(model.state_dict())))
    with torch.no_grad():
        assert torch.equal(_made(model(mix)), _made(again(mix)))
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def _made(out: Output) -> Tensor:
    """What a model gives, without the sign that a unit vector's sum of squares would lose."""
    found = next(x for x in (out.wavs, out.frame_snr_db, out.embeddings) if x is not None)
    return found + found.roll(1, -1)
