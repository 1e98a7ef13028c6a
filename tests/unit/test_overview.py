"""Where trainings stand is told by their files alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from pse import cli
from pse.io.atomic import sole_writer, write_text
from pse.io.jsonl import write_json, write_jsonl
from pse.recipe.overview import lines, overview


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    for stage, name in (("pretrain", "19.cm"), ("pretrain", "26.cm"), ("finetune", "19.cm.5s")):
        place = tmp_path / stage / name
        (place / "checkpoint").mkdir(parents=True)
        write_json(place / "best.json", {"examples": 64, "headline": "si_sdr_i_db", "value": 3.25})
        write_jsonl(place / "metrics.jsonl", [{"examples": 0}, {"examples": 96}])
    write_json(tmp_path / ".done" / "pretrain" / "19.cm.json", {})
    (tmp_path / "snr_predictor" / "checkpoint").mkdir(parents=True)
    (tmp_path / "pretrain" / ".earlier" / "19.cm" / "checkpoint").mkdir(parents=True)
    return tmp_path


def test_every_training_is_listed_once_with_its_state_and_best(experiment: Path) -> None:
    write_text(experiment / "log" / "pretrain" / "26.cm.log", "26.cm: going on\nerror: x: the disk is full\n")
    with sole_writer(experiment / "finetune" / "19.cm.5s" / "checkpoint"):
        found = {(t.stage, t.name): (t.state, t.examples, t.best) for t in overview(experiment)}
    assert found == {
        ("pretrain", "19.cm"): ("done", 96, 3.25),
        ("pretrain", "26.cm"): ("failed", 96, 3.25),
        ("finetune", "19.cm.5s"): ("running", 96, 3.25),
        ("snr_predictor", "train"): ("stopped", 0, None),
    }


def test_a_training_that_nobody_writes_and_that_did_not_end_is_stopped(experiment: Path) -> None:
    states = [t.state for t in overview(experiment)]
    assert states.count("stopped") == 3 and states.count("done") == 1
    assert lines(overview(experiment))[-1] == "1 done, 3 stopped"


def test_an_unfinished_experiment_is_shown_by_its_trainings(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["results", str(experiment)]) == 0
    told = capsys.readouterr().out
    assert "19.cm.5s" in told and "si_sdr_i_db 3.25" in told


def test_a_directory_that_is_no_experiment_names_what_makes_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["results", str(tmp_path)]) == 2
    assert "--stage report" in capsys.readouterr().err
