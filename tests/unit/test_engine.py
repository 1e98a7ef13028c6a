"""Enhancement keeps rate, length and level; chunks are stitched without a seam; packages are checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pse import cli
from pse.errors import PseError
from pse.inference import engine
from pse.inference.package import load_network, save_package
from pse.io import audio
from pse.models.base import Output, build

MODEL = {"name": "gru_mask", "hidden_size": 4}


class Identity(nn.Module):
    sample_rate = 16000

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.lengths: list[int] = []

    def forward(self, mix: Tensor) -> Output:
        self.lengths.append(mix.shape[1])
        return Output(wavs=mix[:, None] * self.weight)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, shape).astype(np.float32)


@pytest.mark.parametrize("num_samples", [1, 15999, 30 * 16000, 31 * 16000, 31 * 16000 + 1, 95 * 16000 + 7])
def test_stitched_chunks_of_the_identity_are_the_input(num_samples: int) -> None:
    model, samples = Identity(), noise(num_samples)
    np.testing.assert_allclose(engine.enhance(model, samples, 16000), samples, atol=1e-6)
    assert max(model.lengths) <= 31 * 16000


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("num_samples", [1, 777, 30001])
def test_rate_and_length_are_kept(rate: int, num_samples: int) -> None:
    out = engine.enhance(Identity(), noise(num_samples), rate)
    assert out.shape == (num_samples,) and np.isfinite(out).all()


def test_channels_tensors_and_empty_input_keep_their_kind() -> None:
    both = noise(2, 4000)
    np.testing.assert_allclose(engine.enhance(Identity(), both, 16000), both, atol=1e-6)
    out = engine.enhance(Identity(), torch.from_numpy(both), 16000)
    assert isinstance(out, Tensor) and out.shape == (2, 4000)
    assert engine.enhance(Identity(), np.zeros(0, np.float32), 16000).shape == (0,)


@pytest.mark.parametrize("bad", [np.full(10, np.nan), np.array([np.inf]), np.zeros((1, 1, 4))])
def test_bad_audio_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(PseError):
        engine.enhance(Identity(), bad, 16000)


def test_a_trained_network_keeps_the_level_law() -> None:
    torch.manual_seed(0)
    model, samples = build(MODEL, "x").eval(), noise(20000)
    loud, quiet = (engine.enhance(model, g * samples, 16000) / g for g in (1.0, 1e-3))
    np.testing.assert_allclose(loud, quiet, atol=1e-5)


@pytest.fixture()
def package(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_package(tmp_path / "model", build(MODEL, "x"), MODEL, "# a card\n")
    return tmp_path / "model"


def test_a_package_gives_back_the_model(package: Path) -> None:
    torch.manual_seed(0)
    original, loaded, mix = build(MODEL, "x").eval(), load_network(package), torch.from_numpy(noise(1, 5000))
    assert torch.equal(original(mix).wavs, loaded(mix).wavs)
    assert not any(p.requires_grad for p in loaded.parameters())


def test_one_bad_file_does_not_stop_the_others(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [tmp_path / "in" / n for n in ("a.wav", "b.wav", "c d'e.wav")]
    for place in places:
        audio.write(place, noise(3000), 16000)
    places[0].write_bytes(b"")
    model = ["--model", str(package)]
    assert cli.main(["enhance", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *model]) == 1
    told = capsys.readouterr()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["b.wav", "c d'e.wav"]
    assert "0 bytes" in told.err and "1 of 3 files failed" in told.err
    assert cli.main(["enhance", str(places[1]), "-o", str(places[2]), *model]) == 1
    assert "is a file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "card.md"])
def test_a_changed_or_missing_file_is_refused(package: Path, name: str) -> None:
    content = (package / name).read_bytes()
    (package / name).write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    with pytest.raises(PseError, match="SHA256SUMS"):
        load_network(package)
    (package / name).unlink()
    with pytest.raises(PseError, match="missing"):
        load_network(package)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"format": 99, "model": MODEL}, "format"),
        ({"format": 1, "model": {"name": "os"}}, "no model is named"),
        ({"format": 1, "model": {"name": "gru_mask", "hidden_size": 5}}, "do not fit"),
        ({"format": 1, "model": {"name": "gru_mask", "hidden_size": 4, "evil": 1}}, "unknown key"),
        ({"format": 1}, "names no model"),
        ([], "names no model"),
    ],
)
def test_a_package_with_right_sums_but_a_foreign_config_is_refused(package: Path, config: object, told: str) -> None:
    import hashlib

    (package / "config.json").write_text(json.dumps(config))
    names = ("config.json", "model.safetensors", "card.md")
    sums = [f"{hashlib.sha256((package / n).read_bytes()).hexdigest()}  {n}" for n in names]
    (package / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    with pytest.raises(PseError, match=told):
        load_network(package)
