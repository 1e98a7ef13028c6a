"""A setting that cannot work is refused in one line, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pse.config import apply_overrides, bind, parse_yaml
from pse.errors import EnvironmentFault, PseError
from pse.losses import segmental
from pse.recipe import options
from pse.recipe.options import Context, Parser, add_arguments, context
from pse.recipe.personal.config import PersonalConfig
from pse.recipe.personal.training import FRAME, HOP, check
from tests.recipe_place import RECIPE, TINY

CONFIGS = sorted((RECIPE / "conf").glob("*.yaml"))


def tiny(*overrides: str) -> Any:
    """The smallest config that runs, with single keys changed."""
    return bind(PersonalConfig, apply_overrides(parse_yaml(TINY, "tiny"), list(overrides)), "tiny")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("pretrain.methods.a/b={objective: {name: supervised}}", "'a/b' cannot name a method"),
        ("pretrain.methods.mixture={objective: {name: supervised}}", "a meaning of its own"),
        ("finetune.clean_s=[5, 5.0]", "clean_s holds 5 twice"),
        ("finetune.clean_s=[0]", "clean_s must hold seconds above 0"),
        ("finetune.start=[generalist, generalist]", "start holds generalist twice"),
        ("score.metrics=[]", "metrics needs si_sdr"),
        ("score.metrics=[si_sdr, si_sdr]", "metrics holds si_sdr twice"),
        ("seed=-1", "seed must be from 0 to "),
        ("sample_rate=0", "sample_rate must be from 4000 to 96000, got 0"),
        ("mixture.duration_s=0", "duration_s must be at least 0.1, got 0"),
        ("mixture.snr_db=[5, -5]", "snr_db must be .lowest, highest."),
        ("mixture.premixture_snr_db=[0, 1000]", "premixture_snr_db must be .*within -100 dB and 100 dB"),
        ("pretrain.methods.generalist.speeds=[0.1]", "speeds must be numbers from 0.5 to 2, each once"),
        ("pretrain.methods.pseudo_se.speeds=[0.9, 1.0]", "a target speaker has one voice"),
        ("mixture.num_test=0", "num_test must be at least 1, got 0"),
        ("data.test_s=-1", "test_s must be above 0, got -1"),
        ("data.num_valid_noises=0", "num_valid_noises must be at least 1"),
        ("data.speakers=['19', '19']", "speakers holds 19 twice"),
        ("data.speakers=[]", "speakers is empty"),
        ("snr_predictor.snr_db=[1, 0]", "snr_db must be .lowest, highest."),
        ("snr_predictor.clamp_db=0", "clamp_db must be above 0"),
        ("snr_predictor.trained_in=../up", "trained_in must be the tag of an experiment"),
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


def test_the_frames_of_the_check_are_those_of_the_losses() -> None:
    assert (FRAME, HOP) == (segmental.FRAME, segmental.HOP)


def test_a_config_that_runs_passes_and_draws_no_random_number() -> None:
    torch.manual_seed(7)
    first = torch.rand(3)
    torch.manual_seed(7)
    check(tiny())
    assert torch.equal(torch.rand(3), first)
    check(tiny("snr_predictor.model={}", "pretrain.methods={a: {objective: {name: pseudo_se}}}", "finetune.start=[]"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["pretrain.methods={}"], "pretrain.methods: no method is given; name one"),
        (["finetune.start=[nobody]"], "finetune.start: 'nobody' is no pretraining method; one of random, generalist, "),
        (["sample_rate=8000"], "pretrain.model: is a model for 16000 Hz, the recipe runs at 8000 Hz; set pretrain"),
        (["sample_rate=8000", "pretrain.model.sample_rate=8000"], "snr_predictor.model: is a model for 16000 Hz"),
        (["pretrain.model={name: snr_predictor, hidden_size: 4}"], "snr_predictor is not an enhancement model"),
        (["snr_predictor.model={name: gru_mask, hidden_size: 4}"], "gru_mask is not an SNR predictor"),
        (["pretrain.model.name=gru_maks"], "did you mean 'gru_mask'"),
        (["snr_predictor.model.hop=128"], "snr_predictor.model: has another hop .* set n_fft: 1024 and hop: 256"),
        (["snr_predictor.model.n_fft=2048"], "its frames .n_fft 2048, hop 256. .* set n_fft: 1024"),
        (["snr_predictor.model={}"], "pretrain.methods.pseudo_se_dp: purification: predictor needs an SNR predictor"),
        (["pretrain.methods.pseudo_se.objective.loss=neg_snrr"], "pseudo_se: no loss is named .* mean 'neg_snr'"),
        (["pretrain.methods.pseudo_se.objective.domain=hole"], "did you mean 'whole'"),
        (["finetune.objective={name: supervised, preset: papper}"], "did you mean 'paper'"),
        (["finetune.objective={name: snr_regression}"], "'snr_regression' trains no enhancement"),
        (["finetune.objective={name: pseudo_se, purification: predictor}"], "fine-tuning has clean speech"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_runs(changes: list[str], told: str) -> None:
    with pytest.raises(PseError, match=told) as caught:
        check(tiny(*changes))
    assert len(str(caught.value).splitlines()) == 1


def given(*words: str) -> Context:
    """What the recipe makes of these options."""
    parser = Parser(prog="pse")
    add_arguments(parser)
    argv = ["--recipe", "personal", "--recipe_dir", str(RECIPE), *words]
    return context(parser.parse_args(argv), argv)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_that_ships_passes(path: Path) -> None:
    check(given("--config", str(path)).config)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--nj", "0"], "^--nj: 0 jobs cannot run; give at least 1"),
        (["--nj", "many"], "^pse: argument --nj: invalid int value: 'many'"),
        (["--cmd", "slrum"], "^--cmd: no launcher is named 'slrum'; did you mean 'slurm'"),
        (["--nonsense"], "^pse: unrecognized arguments: --nonsense"),
        (["--seed", "5k"], "^--seed: '5k' is not a whole number; write e.g. --seed 0"),
        (["--seed=-1"], "^--seed: '-1' is not a whole number"),
        (["--seed", "9999999999"], "^conf/mini.yaml with --seed: seed must be from 0 to"),
        (["--fs", "fast"], "^--fs: 'fast' is not a whole number; write e.g. --fs 16000 or --fs 16k"),
        (["--fs", "16"], "^conf/mini.yaml with --fs: sample_rate must be from 4000 to 96000, got 16"),
        (["--corpus", "minni"], "^--corpus: 'minni' is not a choice; did you mean 'mini'"),
        (["--noise_dir", "a\nb"], r"^--noise_dir: 'a\\nb' holds a newline; rename the directory"),
        (["--expdir", "a\nb"], r"^--expdir: 'a\\nb' holds a newline"),
        (["--set", "sedd=1"], "^conf/mini.yaml with --set: unknown key 'sedd'; did you mean 'seed'"),
        (["--ngpu=-1"], "^--ngpu: -1 GPUs cannot be used"),
    ],
)
def test_a_wrong_option_is_named_in_one_line(words: list[str], told: str) -> None:
    with pytest.raises(PseError, match=told) as caught:
        given("--config", "conf/mini.yaml", *words)
    assert len(str(caught.value).splitlines()) == 1 and caught.value.exit_code == 1


def test_a_rate_may_be_written_in_three_ways() -> None:
    rates = {given("--config", "conf/mini.yaml", "--fs", text).config.sample_rate for text in ("16000", "16k", "16kHz")}
    assert rates == {16000} and given("--config", "conf/mini.yaml", "--seed", "007").config.seed == 7


def test_gpus_that_are_not_there_are_an_environment_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "DEVICES", tmp_path)
    mini = ("--config", "conf/mini.yaml")
    assert given(*mini).ngpu == 0
    with pytest.raises(EnvironmentFault, match="^--ngpu 1: 1 GPUs are asked for, none can be seen; give --ngpu 0"):
        given(*mini, "--ngpu", "1")
    for name in ("nvidia0", "nvidia1", "nvidiactl"):
        (tmp_path / name).touch()
    assert (given(*mini).ngpu, given(*mini, "--ngpu", "2").ngpu, given(*mini, "--ngpu", "0").ngpu) == (1, 2, 0)
    with pytest.raises(EnvironmentFault, match="^--ngpu 3: .* give --ngpu 2 or less"):
        given(*mini, "--ngpu", "3")
