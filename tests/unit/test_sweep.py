"""Sweeps: every combination is one method, and nothing is swept that a method does not have."""

from __future__ import annotations

from typing import Any

import pytest

from pse.config import bind, read_yaml
from pse.corpora.librispeech import TEST_SPEAKERS
from pse.errors import PseError
from pse.recipe.options import _resolve_models
from pse.recipe.personal.config import PersonalConfig
from pse.recipe.personal.sweep import expand
from tests.recipe_place import RECIPE

METHODS = {
    "generalist": {"speech": "all", "objective": {"name": "supervised"}},
    "pseudo_se": {"objective": {"name": "pseudo_se"}},
    "cm": {"objective": {"name": "contrastive_mixtures"}},
    "peer": {"objective": None, "model": {"name": "peer"}},
}
SIZES = [f"conf/models/conv_tasnet_{size}.yaml" for size in ("tiny", "small", "medium", "large")]


def config(sweep: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return expand({"pretrain": {"model": SIZES[0], "methods": METHODS}, "sweep": sweep, **sections})


def test_the_published_space_has_320_specialists_and_four_generalists() -> None:
    raw = expand(_resolve_models(read_yaml(RECIPE / "conf" / "sweep.yaml"), RECIPE))
    bound = bind(PersonalConfig, _resolve_models(raw, RECIPE), "x")
    whose = [method.speech for method in bound.pretrain.methods.values()]
    assert whose.count("target") * sum(map(len, TEST_SPEAKERS.values())) == 320 and whose.count("all") == 4
    assert bound.sweep == {}


def test_speakers_may_be_swept() -> None:
    assert config({"speaker": ["19", "26"]})["data"] == {"speakers": ["19", "26"]}


def test_names_tell_the_values_apart_and_the_values_are_put_in() -> None:
    sweep = {"model": SIZES[:2], "objective.loss": ["mse", "neg_snr"], "minutes": [0.5, 22]}
    methods = config(sweep)["pretrain"]["methods"]
    assert methods["pseudo_se-conv_tasnet_small-mse-minutes_0_5"] == {
        "objective": {"name": "pseudo_se", "loss": "mse"}, "model": SIZES[1], "minutes": 0.5,
    }  # fmt: skip
    assert len([n for n in methods if n.startswith("pseudo_se-")]) == 8
    # A generalist has no recordings of one person; a peer is what it is.
    assert len([n for n in methods if n.startswith("generalist-")]) == 4
    assert methods["peer"] == METHODS["peer"]
    assert METHODS["pseudo_se"] == {"objective": {"name": "pseudo_se"}}


def test_options_go_to_the_objectives_that_have_them() -> None:
    sweep = {"objective.purification": ["none", "oracle"], "objective.lambda_negative": [0.1, 1.0]}
    names = config(sweep)["pretrain"]["methods"]
    assert [len([n for n in names if n.startswith(s)]) for s in ("generalist", "pseudo_se", "cm")] == [1, 2, 4]


def test_fine_tuning_starts_from_all_that_come_of_a_method() -> None:
    out = config({"model": SIZES[:2], "clean_s": [3, 10]}, finetune={"start": ["random", "cm"]})
    assert out["finetune"] == {"start": ["random", "cm-conv_tasnet_tiny", "cm-conv_tasnet_small"], "clean_s": [3, 10]}


def test_a_config_without_a_sweep_and_an_expanded_one_stay_as_they_are() -> None:
    raw = read_yaml(RECIPE / "conf" / "mini.yaml")
    assert expand(raw) == raw
    once = config({"model": SIZES[:2]})
    assert expand(once) == once


@pytest.mark.parametrize("values", ["mse", [], 3])
def test_values_that_are_no_list_are_refused(values: Any) -> None:
    with pytest.raises(PseError, match=r"sweep\.objective\.loss: must be a list"):
        config({"objective.loss": values})


def test_two_values_of_one_name_are_refused() -> None:
    with pytest.raises(PseError, match="both called"):
        config({"model": [SIZES[0], "other/conv_tasnet_tiny.yaml"]})
