"""The command line: one line for a fault and the right exit code, and nothing heavy before it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pse import cli
from pse.errors import EnvironmentFault, PseError, StageMissingError, first_three, from_os_error, printable

MODELS = Path(__file__).resolve().parents[2] / "egs" / "librispeech_pse" / "conf" / "models"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PseError("x"), 1),
        (StageMissingError("x"), 2),
        (EnvironmentFault("x"), 3),
        (OSError(28, "No space left on device", "f"), 1),
        (ModuleNotFoundError("no", name="pesq"), 3),
        (KeyboardInterrupt(), 130),
        (SystemExit(2), 1),
        (SystemExit(0), 0),
    ],
)
def test_every_kind_of_fault_has_its_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def body() -> int:
        raise error

    assert cli.guarded(body) == code
    assert len(capsys.readouterr().err.splitlines()) == (0 if isinstance(error, SystemExit) else 1)


def test_a_bug_leaves_its_traceback_in_a_file_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.guarded(lambda: 1 // 0) == 4
    told = capsys.readouterr().err
    assert "ZeroDivisionError" in told and str(tmp_path) in told and len(told.splitlines()) == 1
    assert "Traceback" in (tmp_path / "pse_bug.log").read_text()


def test_an_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["enhanse"]) == 1
    assert "did you mean 'enhance'" in capsys.readouterr().err
    assert cli.main([]) == 0 and cli.main(["--version"]) == 0
    told = capsys.readouterr().out
    assert all(verb in told for verb in cli.VERBS)


def test_a_stage_without_its_recipe_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Who finds `pack` and `train` in the list of verbs is told how they are run."""
    for argv, stage in ((["pack", "mine"], "pack"), (["train", "pretrain"], "pretrain"), (["train"], "pretrain")):
        assert cli.main(argv) == 1
        told = capsys.readouterr().err
        assert "a stage needs its recipe" in told and f"./run.sh --stage {stage} --stop_stage {stage}" in told


def test_help_and_status_import_no_torch() -> None:
    program = (
        "import sys, pse, pse.cli, pse.recipe.runner, pse.recipe.personal.pretrain, pse.commands.stages\n"
        "from pse.registry import find\nfind('recipe', 'personal')\n"
        "print([m for m in ('torch', 'numpy', 'scipy', 'matplotlib', 'accelerate') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_info_prints_the_published_counts(capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(MODELS / f"conv_tasnet_{size}.yaml") for size in ("tiny", "small", "medium", "large")]
    assert cli.main(["info", *files, "--json"]) == 0
    found = [json.loads(line)["parameters"] for line in capsys.readouterr().out.splitlines()]
    assert found == [158_037, 245_133, 462_333, 1_068_765]
    assert cli.main(["info", str(MODELS / "snr_predictor_large.yaml")]) == 0
    assert "17,324,033" in capsys.readouterr().out
    assert cli.main(["info", "nowhere.yaml"]) == 1


def test_config_explains_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--recipe", "personal"]) == 0
    told = capsys.readouterr().out
    for key in ("seed: 0", "mixture.snr_db: [-5.0, 5.0]", "pretrain.training.lr: 0.001", "methods.NAME.speech:"):
        assert key in told
    assert cli.main(["config", "--recipe", "personnal"]) == 1


def test_doctor_tells_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "torch" in told and "everything needed is here" in told


def test_enhance_refuses_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    model = str(tmp_path / "no model")
    clash = (["a/x.wav", "b/x.wav"], "would be the result of")
    cases = ((["empty"], "no audio files"), clash, (["x.wav"], "is no model directory"))
    for inputs, told in cases:
        given = [*(str(tmp_path / i) for i in inputs), "-o", str(tmp_path / "out"), "--model", model]
        assert cli.main(["enhance", *given]) == 1
        assert told in capsys.readouterr().err


def test_lists_of_many_are_cut_and_control_characters_are_shown() -> None:
    assert first_three(range(5)) == "0, 1, 2 and 2 more"
    assert first_three(["a"]) == "a"
    assert printable("a\x1b[31mb\n") == "a\\x1b[31mb\\n"
    assert "change the permissions" in str(from_os_error(PermissionError(13, os.strerror(13), "f")))
