"""`pse report DIR ..`: which files belong together, what is said of them, and one line for every fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pse import cli
from pse.commands import report_page
from pse.commands.matching import RESIDUAL, WHOLE, match, references
from pse.errors import PseError
from pse.inference.package import save_package
from pse.io import audio
from pse.models.base import build
from pse.scoring import comparison
from pse.scoring.comparison import Judge, measure
from pse.scoring.metrics import Failure
from tests.unit.test_report import Page

RATE = 16_000
PREDICTOR = {"name": "snr_predictor", "hidden_size": 4, "num_layers": 1}


def sound(seconds: float = 1.0, seed: int = 0, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * rate)).astype(np.float32)


def put(directory: Path, *names: str, seconds: float = 1.0, rate: int = RATE, noise: float = 0.0) -> Path:
    """Recordings in a directory: the same for the same name, with as much noise as is asked for."""
    for number, name in enumerate(names):
        clean = sound(seconds, sum(map(ord, Path(name).stem[:1])), rate)
        audio.write(directory / name, clean + noise * sound(seconds, 100 + number, rate), rate)
    return directory


@pytest.fixture(autouse=True)
def nothing_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracks are there where a predictor is given."""
    monkeypatch.setattr("pse.inference.builtin.names", lambda: [])


@pytest.fixture
def predictor(tmp_path: Path) -> Path:
    """A predictor that takes every frame for one of 10 dB."""
    torch.manual_seed(0)
    model = build(PREDICTOR, "test")
    torch.nn.init.zeros_(model.snr.weight)
    torch.nn.init.constant_(model.snr.bias, 10.0)
    save_package(tmp_path / "predictor", model, PREDICTOR, "# predictor\n")
    return tmp_path / "predictor"


def told(output: Path) -> Page:
    return Page(output.read_text("utf-8"))


def test_files_of_one_relative_name_belong_together_whatever_their_ending(tmp_path: Path) -> None:
    noisy = put(tmp_path / "noisy", "a.flac", "day 1/b.wav", "c.wav")
    enhanced = put(tmp_path / "enhanced", "a.wav", "day 1/b.wav", "b.wav")
    found = match([noisy, enhanced])
    assert found.recordings == ["a", "c", "day 1/b"]
    assert found.files["enhanced"] == {
        "a": {WHOLE: enhanced / "a.wav"}, "day 1/b": {WHOLE: enhanced / "day 1" / "b.wav"}
    }  # fmt: skip
    assert found.notes == ["in enhanced, but not in noisy, and left out: b", "missing in enhanced: c"]


def test_speakers_of_a_recording_stand_under_it_in_their_order(tmp_path: Path) -> None:
    mixed = put(tmp_path / "mixed", "talk.wav", "talk_1.wav")
    names = [f"talk_{n}.wav" for n in range(2, 12)]
    rest = ["talk_residual.wav", "talk_1_1.wav", "talk_1_2.wav", "talk_1_residual.wav"]
    separated = put(tmp_path / "separated", *names, *rest)
    matched = match([mixed, separated])
    found = matched.files["separated"]
    assert [p.name for p in found["talk"].values()] == [*names, "talk_residual.wav"] and not matched.notes
    assert list(found["talk"]) == [*range(2, 12), RESIDUAL]
    assert [p.name for p in found["talk_1"].values()] == ["talk_1_1.wav", "talk_1_2.wav", "talk_1_residual.wav"]


def test_speakers_have_players_and_no_scores(tmp_path: Path) -> None:
    mixed = put(tmp_path / "mixed", "a.wav", "b.wav")
    separated = put(tmp_path / "separated", "a_1.wav", "a_2.wav", "a_3.wav", "b_1.wav", "b_2.wav")
    whole = put(tmp_path / "whole", "b.wav")
    options = ["--reference", str(mixed), "-o", str(tmp_path / "x.html")]
    assert cli.main(["report", *map(str, (mixed, separated, whole)), *options]) == 0
    first, second = told(tmp_path / "x.html").text.split("Listen")[-1].split("b1 mixed")
    assert [f"separated, speaker {n}" in first for n in (1, 2, 3, 4)] == [True, True, True, False]
    assert [f"separated, speaker {n}" in second for n in (1, 2, 3)] == [True, True, False]
    summary = rows(tmp_path / "x.html", "Summary")
    assert [row[1] for row in summary[1:]] == ["2", "5", "1"] and set(summary[2][3:]) == {"-"}


def test_what_is_left_over_has_a_player_and_is_in_no_mean(
    tmp_path: Path, predictor: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = put(tmp_path / "mixed", "a.wav", "b.wav")
    separated = put(tmp_path / "separated", "a_1.wav", "a_2.wav", "a_residual.wav", "b_1.wav", "b_residual.wav")
    page = tmp_path / "x.html"
    options = ["-o", str(page), "--predictor", str(predictor), "--reference", str(mixed)]
    assert cli.main(["report", str(mixed), str(separated), *options]) == 0
    assert "left out" not in capsys.readouterr().err
    assert len(told(page).all("audio")) == 7
    players = [row[0] for row in rows(page, "Listen") if row and row[0].startswith("separated")]
    assert players == [f"separated, {part}" for part in ("speaker 1", "speaker 2", "residual")]
    assert [row[1] for row in rows(page, "Summary")[1:]] == ["2", "3"]


def test_files_of_one_name_in_a_directory_keep_their_endings_and_are_told_where_nothing_fits(tmp_path: Path) -> None:
    noisy = put(tmp_path / "noisy", "a.wav", "a.flac", "b.wav")
    enhanced = put(tmp_path / "enhanced", "a.wav.wav", "a.flac.wav", "b.wav")
    found = match([noisy, enhanced])
    assert found.recordings == ["a.flac", "a.wav", "b"] and not found.notes
    assert found.files["enhanced"]["a.flac"] == {WHOLE: enhanced / "a.flac.wav"}
    page = tmp_path / "x.html"
    assert cli.main(["report", str(noisy), str(enhanced), "-o", str(page)]) == 0
    assert [row[:2] for row in rows(page, "Summary")[1:]] == [["noisy", "3"], ["enhanced", "3"]]
    # Of which one this was made cannot be known.
    other = put(tmp_path / "other", "a.wav", "b.wav")
    notes = match([noisy, other]).notes
    assert notes == ["in other, but not in noisy, and left out: a", "missing in other: a.flac, a.wav"]


def test_results_inside_the_directory_of_the_recordings_are_a_condition_of_their_own(tmp_path: Path) -> None:
    noisy = put(tmp_path / "noisy", "a.wav")
    inner = put(noisy / "cleaned", "a.wav")
    assert match([noisy, inner]).recordings == ["a"]
    assert match([noisy]).recordings == ["a", "cleaned/a"]


def test_directories_of_one_name_are_told_apart_by_what_they_are_in(tmp_path: Path) -> None:
    places = [put(tmp_path / name / "wav", "a.wav") for name in ("one", "two")]
    assert list(match(places).files) == ["one/wav", "two/wav"]


def test_what_cannot_be_matched_is_one_line_with_the_first_three_names(tmp_path: Path) -> None:
    noisy = put(tmp_path / "noisy", *(f"n{i}.wav" for i in range(5)), seconds=0.01)
    other = put(tmp_path / "other", *(f"o{i}.wav" for i in range(4)), seconds=0.01)
    for found in (lambda: match([noisy, other]), lambda: references(other, ["n0", "n1"], noisy)):
        with pytest.raises(PseError, match="here are o0, o1, o2 and 1 more, there n0, n1") as error:
            found()
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["nowhere"], "no such directory"),
        (["empty"], "no audio files"),
        (["noisy/a.wav"], "is a file"),
        (["noisy", "./noisy"], "given twice"),
        (["noisy", "--reference", "nowhere"], "no such directory"),
        (["noisy", "--max_files", "0"], "--max_files"),
        (["noisy", "-o", "empty"], "is a directory"),
        (["noisy", "--predictor", "net"], "tells no frame SNR"),
        (["noisy", "broken"], "no file of broken can be read"),
    ],
)
def test_every_fault_is_one_line_and_leaves_no_page(
    words: list[str], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    put(Path("noisy"), "a.wav", seconds=0.1)
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/a.wav").write_bytes(b"RIFF")
    net = {"name": "gru_mask", "hidden_size": 4}
    save_package(Path("net"), build(net, "x"), net, "#\n")
    assert cli.main(["report", *words]) == 1
    error = capsys.readouterr().err
    assert what in error and len(error.splitlines()) == 1
    assert not list(Path().rglob("*.html"))


def test_a_page_is_never_replaced_unless_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noisy, enhanced = (put(tmp_path / name, "a.wav", seconds=0.1) for name in ("noisy", "enhanced"))
    page = enhanced / "report.html"
    page.write_text("mine")
    assert cli.main(["report", str(noisy), str(enhanced)]) == 1
    assert "is there already" in capsys.readouterr().err and page.read_text() == "mine"
    assert cli.main(["report", str(noisy), str(enhanced), "--overwrite"]) == 0
    assert "MB, 1 of 1 recordings" in capsys.readouterr().out and len(told(page).all("audio")) == 2


def test_with_a_recipe_the_verb_is_still_its_stage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["report", "--recipe", "nobody", "--recipe_dir", str(tmp_path)]) == 1
    assert "no recipe is named 'nobody'" in capsys.readouterr().err
    assert cli.main(["report", "--help"]) == 0
    assert "--reference" in capsys.readouterr().out


def rows(page: Path, heading: str) -> list[list[str]]:
    """The table after a heading, cell by cell."""
    text = page.read_text("utf-8").split(f">{heading}</h2>")[1].split("</table>")[0]
    cells = [[c.split("</t")[0].split(">", 1)[1] for c in row.split("<t")[1:]] for row in text.split("<tr>")[1:]]
    return [[c for c in row if c] for row in cells]


def test_the_summary_has_means_with_intervals_and_their_number(tmp_path: Path, predictor: Path) -> None:
    clean = put(tmp_path / "clean", "a.wav", "b.wav", "c.wav")
    noisy = put(tmp_path / "noisy", "a.wav", "b.wav", "c.wav", noise=1.0)
    better = put(tmp_path / "better", "a.wav", "b.wav", noise=0.1)
    options = ["--reference", str(clean), "--predictor", str(predictor), "-o", str(tmp_path / "x.html")]
    assert cli.main(["report", str(noisy), str(better), *options]) == 0
    head, first, second = rows(tmp_path / "x.html", "Summary")
    assert head[:6] == ["condition", "files", "minutes", "frame SNR (dB)", "SI-SDR (dB)", "SI-SDRi (dB)"]
    assert first[:4] == ["noisy", "3", "0.1", "10.0 ± 0.0 (n = 3)"] and first[5] == "-"
    assert second[1] == "2" and second[4].endswith("(n = 2)")
    # Ten times less noise, 20 dB: the noises are the same, and hardly correlated with the speech.
    assert float(second[5].split(" ± ")[0]) == pytest.approx(20.0, abs=0.2)
    page = told(tmp_path / "x.html")
    assert "missing in better: c" in page.text and len(page.all("audio")) == 5
    # For each of three recordings two curves: a level, and a line for each file.
    assert len(page.all("svg")) == 6 and len(page.all("polyline")) == 6 + 2 * 5


def test_what_came_by_telephone_has_no_frame_snr(tmp_path: Path, predictor: Path) -> None:
    """The predictor knows wide bands only: it takes the missing half for noise."""
    wide = put(tmp_path / "wide", "a.wav", "b.wav", seconds=2.0)
    for name in ("a.wav", "b.wav"):
        samples, rate = audio.read(wide / name)
        narrow = audio.resample(samples, rate, 8000)
        audio.write(tmp_path / "narrow" / name, narrow if name == "a.wav" else audio.resample(narrow, 8000, rate),
                    8000 if name == "a.wav" else rate)  # fmt: skip
    options = ["--predictor", str(predictor), "-o", str(tmp_path / "x.html")]
    assert cli.main(["report", str(wide), str(tmp_path / "narrow"), *options]) == 0
    _, first, second = rows(tmp_path / "x.html", "Summary")
    assert first[3] == "10.0 ± 0.0 (n = 2)" and second[3] == "-"
    page = told(tmp_path / "x.html")
    assert "narrow: no frame SNR (dB) of 2 of 2 files: it has hardly anything above 4 kHz" in page.text
    # Two curves of each recording, with a line for the wide one.
    assert len(page.all("svg")) == 4 and len(page.all("polyline")) == 4 + 2 * 2


def test_without_a_predictor_a_line_says_how_to_get_tracks(tmp_path: Path) -> None:
    noisy = put(tmp_path / "noisy", "a.wav")
    assert cli.main(["report", str(noisy), "-o", str(tmp_path / "x.html")]) == 0
    page = told(tmp_path / "x.html")
    assert "give --predictor" in page.text and not page.all("svg") and len(page.all("audio")) == 1


@pytest.mark.parametrize(("rate", "shorter_s", "scored"), [(8000, 0.0, True), (RATE, 0.01, True), (RATE, 0.5, False)])
def test_references_of_another_rate_are_converted_and_of_another_length_refused(
    rate: int, shorter_s: float, scored: bool, tmp_path: Path
) -> None:
    tone = 0.3 * np.sin(np.arange(RATE) * 0.1).astype(np.float32)
    audio.write(tmp_path / "a.wav", tone, RATE)
    clean = audio.resample(tone, RATE, rate)
    audio.write(tmp_path / "clean.wav", clean[: len(clean) - round(shorter_s * rate)], rate)
    (found,) = measure({"x": tmp_path / "a.wav"}, Judge(None, ("si_sdr",)), tmp_path / "clean.wav", ["x"]).values()
    value = found.scores["si_sdr"]
    assert (not isinstance(value, Failure) and value > 40) if scored else "8000" in value.reason


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noisy, enhanced = (put(tmp_path / name, "a.wav", "b.wav") for name in ("noisy", "enhanced"))
    (enhanced / "b.wav").write_bytes(b"")
    assert cli.main(["report", str(noisy), str(enhanced), "-o", str(tmp_path / "x.html")]) == 1
    error = capsys.readouterr().err
    assert "cannot be used" in error and "can be listened to" not in error
    page = told(tmp_path / "x.html")
    assert len(page.all("audio")) == 3 and [("disabled" in a) for a in page.all("button")] == [False] * 3 + [True]


def test_a_recording_of_which_nothing_can_be_read_makes_no_page_too_large(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noisy = put(tmp_path / "noisy", "a.wav", "b.wav")
    (noisy / "b.wav").write_bytes(b"")
    assert cli.main(["report", str(noisy), "-o", str(tmp_path / "x.html")]) == 1
    error = capsys.readouterr().err
    assert "1 of 2 recordings can be listened to: the others cannot be read" in error and "MB" not in error


def test_of_long_recordings_a_part_is_played_and_of_many_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "PLAYED_S", 0.5)
    monkeypatch.setattr(report_page, "PLAYED_S", 0.5)
    noisy = put(tmp_path / "noisy", *(f"{i}.wav" for i in range(4)))
    found = report_page.gather(match([noisy]), {}, Judge(), 3)
    assert found.shown == ["0", "1", "2"] and len(found.measured["0"]["noisy"].samples) == RATE // 2
    assert found.measured["3"]["noisy"].duration_s == 1.0 and not len(found.measured["3"]["noisy"].samples)
    assert any("only the first 0.5 s are played: 0, 1, 2" in note for note in found.notes)
    monkeypatch.setattr(report_page, "LARGEST_PAGE_BYTES", 1e6)
    found = report_page.gather(match([noisy]), {}, Judge(), 3)
    assert found.shown == ["0", "1"]
    assert any("2 of 4 recordings can be listened to: a page of more than 1 MB" in note for note in found.notes)


def test_lengths_that_differ_are_told(tmp_path: Path) -> None:
    noisy = put(tmp_path / "noisy", "a.wav")
    put(tmp_path / "short", "a.wav", seconds=0.75, rate=8000)
    assert cli.main(["report", str(noisy), str(tmp_path / "short"), "-o", str(tmp_path / "x.html")]) == 0
    text = told(tmp_path / "x.html").text
    assert "short is 0.25 s shorter than noisy" in text and "of different lengths in the conditions: a" in text
    assert "8,000" in text and "16,000" in text
