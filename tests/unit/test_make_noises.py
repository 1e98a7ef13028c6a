"""Noises out of little: the same every time, and nothing of one part in another."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from pse.errors import PseError
from pse.io import audio
from tests.recipe_place import ROOT
from tests.speech_toy import burst

spec = importlib.util.spec_from_file_location("make_noises", ROOT / "tools" / "make_noises.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    """A tree of LibriSpeech with one reader to train on and two to validate on, and ten noises."""
    random = np.random.default_rng(0)
    for reader in ("1", "298", "1235"):
        for number in range(2):
            path = tmp_path / "LibriSpeech" / "train-clean-100" / reader / "7" / f"{reader}-7-{number:04d}.flac"
            audio.write(path, burst(random, 5 * tool.RATE, 500.0), tool.RATE)
    for number in range(10):
        audio.write(tmp_path / "noise" / f"{number}.wav", 0.1 * random.standard_normal(44100).astype(np.float32), 22050)
    return ["--librispeech_dir", str(tmp_path / "LibriSpeech"), "--noise_dir", str(tmp_path / "noise")]


def test_the_same_command_writes_the_same_noises(tmp_path: Path, given: list[str]) -> None:
    for name in ("a", "b"):
        assert tool.main([str(tmp_path / name), *given, "--minutes", "2"]) == 0
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.flac"))
    assert {p.parts[1] for p in files} == {*tool.SYNTHESISED, "recorded"} | {"babble"}
    assert {p.parts[0] for p in files} == {"train", "valid", "test"}
    assert all((tmp_path / "a" / p).read_bytes() == (tmp_path / "b" / p).read_bytes() for p in files)
    for path in files:
        samples, rate = audio.read(tmp_path / "a" / path)
        assert len(samples) == tool.CLIP_S * rate and not audio.faults(samples)
        assert -40 < audio.level_dbfs(samples) < -15


def test_parts_are_made_of_different_people_and_recordings(
    tmp_path: Path, given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}
    monkeypatch.setattr(tool, "write_part", lambda place, count, *of: seen.update({place.name: of[:2]}))
    tool.main([str(tmp_path / "a"), *given])
    sounds = [r.id for _, part in seen.values() for r in part]
    assert len(sounds) == len(set(sounds)) == 10
    people = {part: {p.parent.parent.name for p in talk} for part, (talk, _) in seen.items()}
    assert people["train"] == {"1"} and {*people["valid"], *people["test"]} == {"298", "1235"}
    assert not people["valid"] & people["test"]


def test_what_is_there_is_not_replaced(tmp_path: Path, given: list[str]) -> None:
    with pytest.raises(PseError, match="is there already"):
        tool.main([str(tmp_path), *given])
