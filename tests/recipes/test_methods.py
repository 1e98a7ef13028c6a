"""Every way of pretraining in one small experiment: seeds, sizes, budgets, teachers and first weights."""

from __future__ import annotations

import json

import pytest
import yaml

from pse.scoring.results_md import parse
from tests.recipe_place import TINY, Place

pytestmark = pytest.mark.slow

METHODS = """
large: {speech: all, objective: {name: supervised}, model: {name: gru_mask, hidden_size: 12}, speeds: [0.9, 1.0]}
kd: {objective: {name: distillation, teacher: large}, premixture_snr_db: [0, 5]}
cm: {objective: {name: contrastive_mixtures, purification: predictor}, training: {lr: 5e-4}, minutes: 0.5}
"""
CONDITIONS = {"large", "kd", "cm", "random.2s", "large.2s", "cm.2s"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    here, config = Place(tmp_path_factory.mktemp("methods")), yaml.safe_load(TINY)
    config["data"]["speakers"] = ["19"]
    config["pretrain"]["methods"] = yaml.safe_load(METHODS)
    config["finetune"] |= {"clean_s": [2], "start": ["random", "large", "cm"]}
    here.config.write_text(yaml.safe_dump(config | {"num_seeds": 2}))
    here.first = here.run()
    return here


def test_every_method_is_trained_with_every_seed_and_scored(place: Place) -> None:
    rows = {r.tag: r for r in parse((place.exp / "RESULTS.md").read_text())}
    assert rows.keys() == CONDITIONS | {"noisy input"}
    assert all(rows[c].seeds == (0, 1) and rows[c].n == 4 for c in CONDITIONS)
    assert rows["large"].params == rows["large.2s"].params > rows["kd"].params == rows["random.2s"].params
    assert (place.exp / "pretrain" / "19.cm.seed1" / "best.json").is_file()
    assert (place.exp / "package" / "19.cm.2s.seed1" / "SHA256SUMS").is_file()
    usable = json.loads((place.exp / "snr_predictor" / "usable.json").read_text())
    assert set(usable) == {"19"} and 0 <= usable["19"]["usable_share"] <= 1
    assert "19: " in place.first and "usable" in place.first


def test_two_seeds_give_two_models_and_a_row_of_their_mean(place: Place) -> None:
    gains = [
        json.loads((place.exp / "scores_test" / run / "summary.json").read_text())["columns"]["si_sdr_i"]["mean"]
        for run in ("cm", "cm.seed1")
    ]
    row = next(r for r in parse((place.exp / "RESULTS.md").read_text()) if r.tag == "cm")
    assert gains[0] != gains[1]
    assert row.values["si_sdr_i"].mean == pytest.approx(sum(gains) / 2, abs=6e-3)


def test_a_second_run_does_nothing_and_a_changed_key_concerns_its_method_alone(place: Place) -> None:
    assert place.run().count("nothing to do") == 10
    told = place.run("--stage", "pretrain", "--dry_run", "--set", "pretrain.methods.large.training={lr: 2e-3}")
    for name in ("large", "large.seed1"):
        assert f"would run pretrain {name}: changed: pretrain.methods.large.training" in told
    assert ".cm" not in told


def test_another_experiment_takes_the_predictor_as_it_is(place: Place) -> None:
    borrow = ("--set", f"snr_predictor.trained_in={place.exp.name}", "--stage", "snr_predictor")
    told = place.run(*borrow, "--stop_stage", "pretrain", "--tag", "borrower", "--set", "num_seeds=1")
    other = place.exp.parent / "borrower"
    assert not (other / "snr_predictor" / "best.json").exists()
    accuracy = [json.loads((exp / "snr_predictor" / "accuracy.json").read_text()) for exp in (place.exp, other)]
    assert accuracy[0] == accuracy[1] and (other / "snr_predictor" / "usable.json").is_file()
    # One predictor, one seed: the same training.
    best = [json.loads((exp / "pretrain" / "19.cm" / "best.json").read_text())["value"] for exp in (place.exp, other)]
    assert best[0] == best[1] and "2 of 2 tasks to run (missing): evaluate, usable" in told
    missing = place.run("--stage", "snr_predictor", "--set", "snr_predictor.trained_in=nobody", expect=2)
    assert "run stage snr_predictor of experiment nobody first" in missing


def test_models_that_are_taken_as_they_are_have_a_table_and_no_package(place: Place) -> None:
    config = yaml.safe_load(place.config.read_text())
    taken = {"objective": None, "model": {"name": "gru_mask", "hidden_size": 8}}
    config["pretrain"]["methods"], config["finetune"], config["snr_predictor"] = {"taken": taken}, {}, {}
    (place.root / "taken.yaml").write_text(yaml.safe_dump(config | {"num_seeds": 1}))
    told = place.run("--config", str(place.root / "taken.yaml"), "--tag", "taken", "--stage", "pretrain")
    assert "table:" in told and "next:" not in told
    rows = {r.tag: r for r in parse((place.exp.parent / "taken" / "RESULTS.md").read_text())}
    assert rows.keys() == {"taken", "noisy input"} and rows["taken"].n == 4
