"""A setting that cannot work is refused in one line, before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from pse.config import apply_overrides, bind, parse_yaml
from pse.errors import PseError
from pse.recipe.personal.config import PersonalConfig
from tests.recipe_place import TINY


def tiny(*overrides: str) -> Any:
    """The smallest config that runs, with single keys changed."""
    return bind(PersonalConfig, apply_overrides(parse_yaml(TINY, "tiny"), list(overrides)), "tiny")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("pretrain.methods={}", "methods is empty"),
        ("pretrain.methods.a/b={objective: {name: supervised}}", "'a/b' cannot name a method"),
        ("pretrain.methods.mixture={objective: {name: supervised}}", "name of the unprocessed input"),
        ("finetune.clean_s=[5, 5.0]", "clean_s holds 5 twice"),
        ("finetune.clean_s=[0]", "clean_s must hold seconds above 0"),
        ("finetune.start=[nobody]", "'nobody' is no method .*; known methods: generalist, "),
        ("finetune.start=[generalist, generalist]", "start holds generalist twice"),
        ("score.metrics=[]", "metrics needs si_sdr"),
        ("score.metrics=[si_sdr, si_sdr]", "metrics holds si_sdr twice"),
        ("seed=-1", "seed must be from 0 to "),
        ("sample_rate=0", "sample_rate must be from 4000 to 96000, got 0"),
        ("mixture.duration_s=0", "duration_s must be at least 0.1, got 0"),
        ("mixture.snr_db=[5, -5]", "snr_db must be .lowest, highest."),
        ("mixture.premixture_snr_db=[0, 1000]", "premixture_snr_db must be .*within -100 dB and 100 dB"),
        ("mixture.num_test=0", "num_test must be at least 1, got 0"),
        ("data.test_s=-1", "test_s must be above 0, got -1"),
        ("data.num_valid_noises=0", "num_valid_noises must be at least 1"),
        ("data.speakers=['19', '19']", "speakers holds 19 twice"),
        ("data.speakers=[]", "speakers is empty"),
        ("snr_predictor.snr_db=[1, 0]", "snr_db must be .lowest, highest."),
        ("snr_predictor.clamp_db=0", "clamp_db must be above 0"),
        ("snr_predictor.num_valid=0", "num_valid must be at least 1"),
        ("corpus.mini.num_speakers=0", "num_speakers must be at least 1"),
        ("corpus.mini.speaker_s=0", "speaker_s must be above 0"),
        ('corpus.noise_dir="a\\nb"', "noise_dir holds a newline"),
        ("report.num_examples=-1", "num_examples must be at least 0"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_key(change: str, told: str) -> None:
    with pytest.raises(PseError, match=told) as caught:
        tiny(change)
    assert len(str(caught.value).splitlines()) == 1


def test_values_at_the_bounds_are_taken() -> None:
    changes = ("mixture.duration_s=0.1", "mixture.snr_db=[0, 0]", "report.num_examples=0", "finetune.start=[]")
    config = tiny(*changes)
    assert config.mixture.snr_db == (0.0, 0.0) and tiny("pretrain.methods.A-1_b={objective: {name: supervised}}")


def test_the_example_of_an_override_is_a_key_there_is() -> None:
    with pytest.raises(PseError) as caught:
        apply_overrides({}, ["x"])
    example = str(caught.value).rpartition("--set ")[2]
    assert tiny(example).pretrain.training.lr == 1e-4
