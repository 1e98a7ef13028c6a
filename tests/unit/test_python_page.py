"""docs/python.md: its examples run, in order, as one program."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import runpy
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pse
from pse import cli
from pse.inference import builtin
from pse.inference.separate_speech import SeparateSpeech
from pse.io import audio
from pse.personalize import pipeline
from tests.packages import GRU, pack, pack_builtin
from tests.unit.test_hub import Hub

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "python.md").read_text("utf-8")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the recordings and models that the page names."""
    pack_builtin(tmp_path / "weights")
    monkeypatch.setattr(builtin, "PLACE", tmp_path / "weights")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    module = ModuleType("huggingface_hub")
    module.snapshot_download = Hub(pack(tmp_path / "exp" / "mini" / "package" / "generalist", GRU)).snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    rng = np.random.default_rng(0)
    audio.write(tmp_path / "noisy.wav", rng.uniform(-0.5, 0.5, (2, 16000)), 16000)
    for name in ("recordings", "mine_cleaned"):
        audio.write(tmp_path / name / "noisy.wav", rng.uniform(-0.5, 0.5, 16000), 16000)
    audio.write(tmp_path / "talk.wav", rng.uniform(-0.5, 0.5, 9000), 8000)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_of_the_page_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signature = inspect.signature(pipeline.personalize)

    def personalize(*given: Any, **options: Any) -> Any:
        """Trains nothing: what personalising does is tested elsewhere."""
        bound = signature.bind(*given, **options)
        shutil.copytree("exp/mini/package/generalist", bound.arguments["output"])
        return SimpleNamespace(verdict=SimpleNamespace(text=""), helped=True, model=Path(bound.arguments["output"]))

    monkeypatch.setattr(pipeline, "personalize", personalize)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    (place / "page.py").write_text("\n".join(blocks), encoding="utf-8")
    made = runpy.run_path("page.py")
    assert len(blocks) >= 6 and made["cleaned"].shape == (2, 16000)
    assert np.abs(made["residual"]).max() < 1e-5 and [w.shape for w in made["waves"]] == [(1, 9000)] * 2
    assert len(made["first"]) + sum(map(len, made["rest"])) == 16000
    assert audio.probe(place / "cleaned.wav").num_samples == audio.probe(place / "heard.wav").num_samples == 16000
    assert (place / "live.pt").is_file() and made["page"].read_text("utf-8").count("<audio") >= 2
    assert pse.load_model("trained").network.state_dict().keys() == made["network"].state_dict().keys()


def test_commands_and_functions_have_the_same_names_and_options() -> None:
    verbs = {verb: getattr(pse, verb) for verb in ("report", "export", "listen")}
    for verb, function in (verbs | {"personalize": pipeline.personalize}).items():
        parameters = set(inspect.signature(function).parameters)
        with contextlib.redirect_stdout(io.StringIO()) as told:
            cli.main([verb, "--help"])
        options = set(re.findall(r"--(\w+)", told.getvalue())) - {"help", "recipe", "list_devices"}
        known_otherwise = {"onnx", "torchscript"} if verb == "export" else set()
        assert options - known_otherwise <= parameters, verb


def test_arguments_that_the_page_says_are_not_taken_are_not() -> None:
    taken = {*inspect.signature(SeparateSpeech).parameters, *inspect.signature(SeparateSpeech.__call__).parameters}
    refused = [row.split("|")[1] for row in PAGE.splitlines() if row.startswith("| `") and "| not taken" in row]
    names = set(re.findall(r"`(\w+)`", " ".join(refused)))
    assert {"train_config", "inference_config", "segment_size", "hop_size", "ref_channel", "dtype"} <= names
    assert not names & taken and {"model_file", "device", "normalize_output_wav", "fs", "speech_mix"} <= taken
