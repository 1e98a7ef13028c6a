"""The whole recipe, end to end: what it makes, what it does the second time, what it does after a change."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pse.inference.loaded import load_model
from pse.io.jsonl import read_jsonl
from pse.recipe.jobs import dealt
from pse.training.engine import several
from tests.browser import NO_BROWSER, PROGRAM, Browser
from tests.recipe_place import RECIPE, Place

pytestmark = pytest.mark.slow

STAGES = "corpus data features snr_predictor pretrain finetune enhance score report pack".split()
CONDITIONS = {"generalist", "pseudo_se", "pseudo_se_dp", "generalist.3s", "pseudo_se.3s"}


def test_all_stages_run_and_leave_results_page_and_models(finished: Place) -> None:
    told = finished.first
    for number, stage in enumerate(STAGES):
        assert f"== stage {number} {stage} ==" in told
    for line in ("table:", "listen:", "next:"):
        assert line in told
    table = (finished.exp / "RESULTS.md").read_text()
    assert all(c in table for c in CONDITIONS) and "noisy input" in table and "Practice helps" in table
    page = (finished.exp / "report" / "index.html").read_text()
    assert "data:audio/wav;base64," in page and "http://" not in page.replace("http://www.w3.org", "")
    for condition in CONDITIONS:
        summary = json.loads((finished.exp / "scores_test" / condition / "summary.json").read_text())
        assert summary["n"] == 4 and summary["columns"]["si_sdr_i"]["n_failed"] == 0


@pytest.mark.skipif(PROGRAM is None, reason=NO_BROWSER)
def test_the_page_opens_in_a_browser_without_a_complaint(finished: Place) -> None:
    with Browser() as browser:
        browser.open(finished.exp / "report" / "index.html", width=400)
        players = "[...document.querySelectorAll('audio')]"
        browser.until(f"{players}.length && {players}.every(a => a.readyState >= 1 && a.duration > 1)")
        assert browser.run("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        browser.click("document.querySelectorAll('.switch button')[1]")
        browser.until(f"!{players}[1].paused")
        assert browser.run("document.documentElement.scrollWidth") == 400 and browser.errors == []



def test_test_mixtures_meet_their_ratio_and_scores_belong_to_them(finished: Place) -> None:
    from pse.data.fixed import FixedMixtures
    from pse.dsp.snr import snr_db
    from pse.scoring.metrics import si_sdr
    from pse.scoring.tables import read_scores

    scores = {r.id: r for r in read_scores(finished.exp / "scores_test" / "pseudo_se" / "scores.tsv")}
    mixtures = FixedMixtures(finished.root / "dump" / "mini", "test")
    assert len(scores) == len(mixtures.specs) == 4
    for spec, mixture in mixtures.render():
        assert abs(snr_db(mixture.speech, mixture.noise) - spec.snr_db) < 0.01
        before = si_sdr(mixture.speech.astype(float), mixture.mix.astype(float))
        assert scores[spec.id].before["si_sdr"] == pytest.approx(before, abs=1e-4)


def test_a_second_run_does_nothing_and_says_so(finished: Place) -> None:
    before = finished.files()
    told = finished.run()
    assert told.count("nothing to do") == len(STAGES)
    assert finished.files() == before
    listed = finished.run("--list")
    assert all(line.split()[2] == "done" for line in listed.splitlines()[1:]), listed


@pytest.mark.parametrize(
    ("change", "stale", "key"),
    [
        ("score.metrics=[si_sdr]", {"score"}, "score.metrics"),
        ("finetune.training.lr=1e-4", {"finetune"}, "finetune.training.lr"),
        ("report.num_examples=3", {"report"}, "report.num_examples"),
        ("pretrain.methods.pseudo_se.objective.domain=segmental", {"pretrain"}, "objective.domain"),
        ("snr_predictor.clamp_db=20", {"snr_predictor"}, "snr_predictor.clamp_db"),
        ("data.min_duration_s=4.5", {"data"}, "data.min_duration_s"),
        ("mixture.num_test=5", {"features"}, "mixture.num_test"),
        ("seed=1", {"snr_predictor", "pretrain", "finetune", "report", "pack"}, "seed"),
        ("pretrain.model.hidden_size=9", {"pretrain", "finetune", "enhance", "report", "pack"}, "hidden_size"),
    ],
)
def test_a_changed_key_makes_stale_what_reads_it_and_is_named(
    finished: Place, change: str, stale: set[str], key: str
) -> None:
    listed = finished.run("--list", "--set", change)
    state = {line.split()[1]: line for line in listed.splitlines()[1:]}
    assert {name for name, line in state.items() if line.split()[2] != "done"} == stale, listed
    assert all(key in state[name] for name in stale), listed


def test_a_dry_run_tells_what_a_changed_key_makes_stale(finished: Place) -> None:
    told = finished.run("--dry_run", "true", "--set", "score.metrics=[si_sdr]")
    assert "would run score" in told and "0 of 1 tasks of stage report would run" in told


def test_a_packed_model_cleans_any_file_and_keeps_its_shape(finished: Place, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, rate, shape in (("a", 44100, (30001, 2)), ("b", 8000, (8000,))):
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * rng.standard_normal(shape), rate)
    model = next((finished.exp / "package").glob("*.pseudo_se"))
    command = [sys.executable, "-m", "pse.cli", "enhance", "--model", str(model), "-o", str(tmp_path / "out")]
    subprocess.run([*command, str(tmp_path / "a.wav"), str(tmp_path / "b.wav")], check=True, capture_output=True)
    for name in "ab":
        before, after = (soundfile.info(str(p / f"{name}.wav")) for p in (tmp_path, tmp_path / "out"))
        assert (before.samplerate, before.frames, before.channels) == (
            after.samplerate, after.frames, after.channels,
        )  # fmt: skip


def test_packed_models_make_a_personal_one(finished: Place, tmp_path: Path) -> None:
    package, noisy = finished.exp / "package", tmp_path / "noisy"
    assert "mean absolute error" in (package / "snr_predictor" / "card.md").read_text()
    assert load_model(package / "snr_predictor").task == "snr_predictor"
    recordings = sorted((finished.root / "dump" / "mini" / "target_pretrain").rglob("*.flac"))
    recordings = recordings or sorted((finished.root / "downloads" / "mini" / "LibriSpeech").rglob("19-*.flac"))
    noisy.mkdir()
    for path in recordings[:12]:
        shutil.copy(path, noisy)
    # The built-in predictor: one that was trained for a moment finds no speech that stands out.
    given = ["-o", str(tmp_path / "mine"), "--base", str(package / "generalist"), "--voice", "none"]
    command = [sys.executable, "-m", "pse.cli", "personalize", str(noisy), *given]
    done = subprocess.run([*command, "--minutes", "0.05"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "on recordings that it has not heard" in done.stdout and (tmp_path / "mine" / "card.md").is_file()


def test_a_model_that_was_tampered_with_is_refused_in_one_line(finished: Place, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(next((finished.exp / "package").glob("*.pseudo_se")), model)
    (model / "config.json").write_text((model / "config.json").read_text().replace("8", "9", 1))
    command = [sys.executable, "-m", "pse.cli", "enhance", "x.wav", "--model", str(model), "-o", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "SHA256SUMS" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_stage_out_of_order_names_the_stage_to_run_first(tmp_path: Path) -> None:
    other = Place(tmp_path)
    told = other.run("--stage", "pretrain", expect=2)
    assert "run ./run.sh --stage" in told and "Traceback" not in told


def test_a_wrong_key_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    other = Place(tmp_path)
    told = other.run("--set", "pretrain.modle.hidden_size=4", expect=1)
    assert "did you mean 'model'" in told
    assert not (other.root / "data").exists()


def test_two_processes_share_one_training_and_one_keeps_the_books(tmp_path: Path, finished: Place) -> None:
    """As the stage starts it for `--ngpu 2`, here with gloo on the processor."""
    place = Place(tmp_path)
    place.run("--stop_stage", "features")
    options = place.arguments()[1:]
    command = ["-m", "pse.cli", "train", "pretrain", "--recipe", "personal", "--recipe_dir", str(RECIPE), *options]
    environment = place.environment() | {"PSE_JOB": str(os.getpid()), "OMP_NUM_THREADS": "1"}
    subprocess.run(several([*command, "--only", "generalist"], 2), env=environment, check=True)
    told = place.run("--stage", "pretrain", "--stop_stage", "pretrain", "--dry_run")
    assert "would run pretrain generalist" not in told and "would run pretrain" in told

    def losses(where: Place) -> list[float]:
        return [line["valid_loss"] for line in read_jsonl(where.exp / "pretrain" / "generalist" / "metrics.jsonl")]

    assert losses(place) == pytest.approx(losses(finished), abs=1e-3)
    assert not list((place.exp / "pretrain").glob(".earlier/*"))


def test_devices_are_dealt_out_evenly() -> None:
    four = ["0", "1", "2", "3"]
    assert dealt(four, 0, 1) == four
    assert [dealt(four, n, 2) for n in range(3)] == [["0", "1"], ["2", "3"], ["0", "1"]]
    assert [dealt(four, n, 16) for n in range(5)] == [["0"], ["1"], ["2"], ["3"], ["0"]]
