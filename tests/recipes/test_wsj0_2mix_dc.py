"""The deep clustering recipe, end to end: what it makes, what it does the second time, what it refuses."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

from pse.errors import PseError
from pse.io import audio, sound
from pse.io.tables import read_table
from pse.recipe.options import add_arguments, context
from pse.recipe.separation.results import from_sexes
from pse.recipe.separation.training import check
from pse.scoring.results_md import parse
from tests.recipe_place import ROOT, Place

pytestmark = pytest.mark.slow

DIRECTORY = ROOT / "egs" / "wsj0_2mix_dc"
STAGES = "corpus data features pretrain finetune enhance score report pack".split()
TINY = """
corpus:
  mini: {num_speakers: 10, speaker_s: 25, target_speaker_s: 25, noise_share: 0.01}
mixture:
  max_duration_s: 2
  valid_duration_s: 1
  num_valid: 4
  num_train: 6
  tests:
    closed_2: {speech: closed, num_mixtures: 4}
    open_2: {speech: open, num_mixtures: 4}
    closed_3: {speech: closed, num_speakers: 3, num_mixtures: 2}
pretrain:
  model: {name: blstm_embedding, hidden_size: 8, num_layers: 1, embedding_size: 4}
  training: {batch_size: 8, max_examples: 32, valid_every_examples: 16}
  statistics: 16
  methods:
    ibm: {baseline: {name: oracle, mask: ibm}}
    dc: {objective: {name: deep_clustering}}
finetune:
  training: {batch_size: 4, max_examples: 8, valid_every_examples: 4}
  methods:
    dc_long: {start: dc, segment_s: 1.6, mixtures: fixed, objective: {name: deep_clustering}}
    end_to_end:
      start: dc
      objective: {name: mask_inference}
      model:
        name: unfolded_clustering
        net: {name: blstm_embedding, hidden_size: 8, num_layers: 1, embedding_size: 4}
        hidden_size: 8
      tests: [open_2]
separate:
  clustering: {global: {restarts: 2}, oracle: {mode: oracle, restarts: 2}}
report:
  num_examples: 2
  paper:
    - {table: T1, condition: dc.global, test: open_2, sexes: all, sdr_i_db: 5.81}
    - {table: T1, condition: nmf, test: closed_2, sexes: all, sdr_i_db: 5.06}
    - {table: T3, condition: dc.oracle, test: open_2, sexes: MM, sdr_i_db: 4.49}
    - {table: T3, condition: dc.oracle, test: open_2, sexes: FF, sdr_i_db: 3.21}
    - {table: T3, condition: dc.oracle, test: open_2, sexes: FM, sdr_i_db: 8.69}
    - {table: T3, condition: dc.oracle, test: open_2, sexes: all, sdr_i_db: 6.45}
"""
ROWS = {"ibm", "dc.global", "dc.oracle", "dc_long.global", "dc_long.oracle", "unprocessed mixture"}


@pytest.fixture(scope="module")
def separated(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("separation"), DIRECTORY, TINY)
    # In one process: starting one for each of so many small tasks would take longer than they do.
    place.first = place.run("--nj", "1")
    return place


def test_all_stages_run_and_every_condition_is_scored_on_every_set(separated: Place) -> None:
    for stage in STAGES:
        assert f" {stage} ==" in separated.first
    text = (separated.exp / "RESULTS.md").read_text()
    by_set: dict[str, set[str]] = {}
    for row in parse(text):
        by_set.setdefault(row.test_set.split(":")[0], set()).add(row.tag)
        assert row.n_failed == 0
    assert by_set == {"closed_2": ROWS, "open_2": ROWS | {"end_to_end", "end_to_end.oracle"}, "closed_3": ROWS}
    assert "5.81" in text and "(not run)" in text
    assert "data:audio/wav;base64," in (separated.exp / "report" / "index.html").read_text()


def test_the_rows_by_sex_weighted_by_their_numbers_are_the_column_all(separated: Place) -> None:
    lines = (separated.exp / "RESULTS.md").read_text().splitlines()
    ours = [line.split("|")[-2].split() for line in lines if line.startswith("| T3 | dc.oracle | open_2 | all")]
    assert len(ours) == 2 and ours[0][0] == ours[1][0]


def test_the_papers_rows_by_sex_give_its_column_all_with_the_published_lists() -> None:
    counts = {"MM": 1086, "FF": 394, "FM": 1520}
    assert round(from_sexes({"MM": 4.49, "FF": 3.21, "FM": 8.69}, counts), 2) == 6.45
    assert round(from_sexes({"MM": 3.51, "FF": 1.42, "FM": 8.57}, counts), 2) == 5.80
    assert from_sexes({"MM": 1.0}, {"MM": 3, "FF": 0}) == 1.0


def test_the_ideal_mask_separates_and_every_estimate_has_its_mixtures_length(separated: Place) -> None:
    gains = {(r.test_set.split(":")[0], r.tag): r.values["si_sdr_i"].mean for r in parse(
        (separated.exp / "RESULTS.md").read_text())}  # fmt: skip
    assert all(gains[test, "ibm"] > 8 for test in ("closed_2", "open_2", "closed_3"))
    from pse.data.fixed import FixedMixtures

    for test, count in (("open_2", 2), ("closed_3", 3)):
        mixtures = FixedMixtures(separated.root / "dump" / "mini", test)
        place = separated.exp / f"enhanced_{test}" / "dc.global"
        assert sorted(p.name for p in place.glob("*.scp")) == [f"spk{n + 1}.scp" for n in range(count)]
        for spec in mixtures.specs:
            wavs = [audio.read(read_table(place / f"spk{n + 1}.scp")[spec.id]) for n in range(count)]
            assert {len(w) for w, _ in wavs} == {spec.num_samples} and {r for _, r in wavs} == {8000}


def test_closed_and_open_speakers_are_who_they_should_be(separated: Place) -> None:
    data = separated.root / "data" / "mini"
    who = {s: set(read_table(data / s / "utt2spk").values()) for s in ("train", "closed", "open")}
    said = {s: set(read_table(data / s / "utt2spk")) for s in who}
    assert who["closed"] <= who["train"] and not who["open"] & who["train"]
    assert not said["closed"] & said["train"]


def test_a_second_run_does_nothing_and_an_option_of_clustering_separates_again_only(separated: Place) -> None:
    before = separated.files()
    assert separated.run("--nj", "1").count("nothing to do") == len(STAGES)
    assert separated.files() == before
    told = separated.run("--nj", "1", "--set", "separate.clustering.global.restarts=3", "--dry_run")
    more = "finetune.methods.end_to_end.tests=[open_2,closed_2]"
    told_of_tests = separated.run("--nj", "1", "--set", more, "--dry_run")
    assert "0 of 2 tasks of stage finetune" in told_of_tests and "2 of 19 tasks of stage enhance" in told_of_tests
    assert "0 of 2 tasks of stage finetune" in told and "6 of 17 tasks of stage enhance" in told


def test_without_wsj0_the_ways_to_go_on_are_told_in_one_line(tmp_path: Path) -> None:
    said = Place(tmp_path, DIRECTORY, TINY).run("--stop_stage", "corpus", "--corpus", "wsj0", expect=1)
    for way in ("no directory is given", "--corpus librispeech", "--voice_dir DIR", "--corpus mini"):
        assert way in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("pretrain.methods.dc.start=ibm", "a method of finetune has a start, one of pretrain has none"),
        ("finetune.methods.dc_long.start=ibm", "'ibm' is no trained method"),
        ("finetune.methods.dc_long.tests=[open_9]", "is to be tried on 'open_9'"),
        ("pretrain.methods.ibm.baseline.mask=ibn", "mask must be one of ibm, irm, wfm, psm"),
        ("pretrain.methods.ibm.baseline.name=imb", "no baseline is named 'imb'"),
        ("pretrain.methods.ibm.objective={name: deep_clustering}", "an objective, a baseline or a package"),
        ("pretrain.model.sample_rate=16000", "is a model for 16000 Hz, the recipe runs at 8000 Hz"),
        ("pretrain.methods.dc.objective={name: pseudo_se}", "trains no separation"),
        ("finetune.methods.dc_long.pairing=female", "fixed mixtures are of any speakers"),
        ("mixture.tests.train_2={speech: open}", "'train_2' cannot name a test set"),
        ("finetune.methods.end_to_end.start=end_to_end", "would start from itself"),
        ("pretrain.methods.dc.clustering=[best]", "is to be tried on 'best', which is not in separate.clustering"),
        ("mixture.tests.open_2.num_speakers=6", "num_speakers must be from 1 to 5"),
    ],
)
def test_a_config_that_cannot_run_is_refused_before_anything_runs(tmp_path: Path, setting: str, told: str) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    argv = ["--recipe", "separation", "--recipe_dir", str(DIRECTORY), "--config", str(path), "--set", setting]
    with pytest.raises(PseError, match=told):
        check(context(parser.parse_args(argv), argv).config)


def test_ones_own_speakers_are_separated(tmp_path: Path, separated: Place) -> None:
    voices, rng = tmp_path / "voices", np.random.default_rng(0)
    for s in range(8):
        for n in range(2):
            speech = separated.root / "downloads" / "mini_wsj0"
            wav = sorted(speech.rglob("*.wv1"))[int(rng.integers(4)) + 2 * s]
            audio.write(voices / f"p{s}" / f"p{s}_{n}.wav", sound.read(wav)[0], 16000)
    place = Place(tmp_path, DIRECTORY, TINY)
    options = ("--set", "data.valid_speakers=2", "--set", "data.open_speakers=2")
    told = place.run("--corpus", "own", "--voice_dir", str(voices), "--stop_stage", "features", *options)
    assert "valid: 2 speakers" in told and "open: 2 speakers" in told
