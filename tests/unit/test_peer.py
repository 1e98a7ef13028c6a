"""Suppressors of other projects keep the contract of a model: same length, level and time."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pse.config import read_yaml
from pse.corpora import voices
from pse.errors import EnvironmentFault, PseError
from pse.inference.package import load_network, save_package
from pse.models import peer
from pse.models.base import Model, build

CONF = Path(__file__).parents[2] / "egs" / "librispeech_pse" / "conf" / "peers"
MODULES = {"rnnoise": "pyrnnoise", "speexdsp": "speexdsp_ns", "noisereduce": "noisereduce"}
RATE = 16000


def late_and_half(delay: int):
    return lambda x: np.concatenate([np.zeros(delay), 0.5 * x])[: len(x)]


@pytest.fixture(params=[(RATE, 0), (RATE, 320), (48000, 960), (8000, 7)], ids=str)
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A package that halves what it gets and is late."""
    rate, delay = request.param
    stand_in = peer.Suppressor("package==1", rate, delay, lambda: late_and_half(delay))
    monkeypatch.setitem(peer.PEERS, "rnnoise", stand_in)
    return build({"name": "peer", "package": "rnnoise"}, "test").eval()


def tone(num_samples: int, batch: int = 1) -> Tensor:
    """Below 3 kHz, and quiet at both ends: what changes of rate leave alone."""
    time = torch.arange(num_samples) / RATE
    waves = torch.stack([torch.sin(2 * torch.pi * f * time) for f in (440.0, 1700.0, 2600.0)[:batch]])
    return 0.3 * waves * torch.hann_window(num_samples, periodic=False)


def test_delay_and_rate_of_the_package_are_undone(fake: Model) -> None:
    mix = tone(8000, batch=3)
    assert (fake(mix).wavs[:, 0] - 0.5 * mix).abs().max() < 2e-4


@pytest.mark.parametrize("num_samples", [1, 2, 159, 160, 161, 4001])
def test_output_is_as_long_as_the_input(fake: Model, num_samples: int) -> None:
    out = fake(torch.randn(2, num_samples, generator=torch.Generator().manual_seed(0)))
    assert out.wavs.shape == (2, 1, num_samples) and out.wavs.isfinite().all() and out.wavs.dtype == torch.float32


@pytest.mark.parametrize("scale", [1e-5, 0.2, 30.0])
def test_the_package_hears_one_level_and_the_output_has_that_of_the_input(fake: Model, scale: float) -> None:
    heard = []
    inner = fake.suppress
    fake.suppress = lambda x: (heard.append(np.abs(x).max()), inner(x))[1]
    assert (fake(scale * tone(8000)).wavs - 0.5 * scale * tone(8000)).abs().max() < 2e-4 * scale
    assert heard == pytest.approx([peer.PEAK], rel=1e-2)


def test_silence_stays_silence_beside_speech(fake: Model) -> None:
    mix = torch.cat([tone(4000), torch.zeros(1, 4000)])
    out = fake(mix).wavs[:, 0]
    assert (out[1] == 0).all() and torch.equal(out[:1], fake(mix[:1]).wavs[:, 0])


def test_there_is_nothing_to_train_and_training_is_refused_in_one_line(fake: Model) -> None:
    assert list(fake.parameters()) == [] and not fake.training
    with pytest.raises(PseError, match="peer rnnoise: has no weights to train") as caught:
        fake.train()
    assert "\n" not in str(caught.value)
    assert not fake(tone(400).requires_grad_()).wavs.requires_grad


def test_it_waits_for_the_whole_signal_and_is_packed_like_any_model(fake: Model, tmp_path: Path) -> None:
    assert not fake.causal and fake.algorithmic_latency_samples() is None and fake.receptive_field_samples() is None
    save_package(tmp_path / "package", fake, {"name": "peer", "package": "rnnoise"}, "card")
    assert torch.equal(load_network(tmp_path / "package")(tone(800)).wavs, fake(tone(800)).wavs)


@pytest.mark.parametrize("package", MODULES)
def test_a_missing_package_is_one_line_with_the_command(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULES[package], None)
    with pytest.raises(EnvironmentFault, match=f"pip install {peer.PEERS[package].requirement}") as caught:
        build({"name": "peer", "package": package}, "test")
    assert caught.value.exit_code == 3 and str(caught.value).startswith(f"peer {package}: ")


def test_an_unknown_package_is_refused_with_the_nearest() -> None:
    with pytest.raises(PseError, match="'rnnoise'"):
        build({"name": "peer", "package": "rnoise"}, "test")


def test_every_package_has_a_config_that_names_it() -> None:
    assert {read_yaml(path)["package"] for path in CONF.glob("*.yaml")} == set(peer.PEERS) == set(MODULES)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    text = "The old gardener planted seven rows of beans before the rain came down."
    return voices.say(voices.speaker("F", 1, seed=0), text, seed=0, sample_rate=RATE)


def lag(reference: np.ndarray, late: np.ndarray) -> int:
    """By how many samples `late` follows `reference`: where their correlation is largest."""
    size = 2 * len(reference)
    products = np.fft.irfft(np.conj(np.fft.rfft(reference, size)) * np.fft.rfft(late, size), size)
    at = int(products.argmax())
    return at if at < len(reference) else at - size


def real(package: str) -> Model:
    pytest.importorskip(MODULES[package])
    return build(read_yaml(CONF / f"{package}.yaml"), package).eval()


@pytest.mark.parametrize("package", MODULES)
def test_clean_speech_comes_back_at_its_own_time(package: str, speech: np.ndarray) -> None:
    model = real(package)
    assert lag(speech, model(torch.from_numpy(speech)[None]).wavs[0, 0].numpy()) == 0


@pytest.mark.parametrize("package", MODULES)
def test_the_measured_delay_is_that_of_the_package(package: str, speech: np.ndarray) -> None:
    model = real(package)
    delay = model.suppressor.delay_samples * RATE / model.suppressor.rate_hz
    model.suppressor = replace(model.suppressor, delay_samples=0)
    assert lag(speech, model(torch.from_numpy(speech)[None]).wavs[0, 0].numpy()) == delay


@pytest.mark.parametrize("package", MODULES)
def test_hiss_between_words_goes_down(package: str, speech: np.ndarray) -> None:
    pauses = np.zeros(RATE, np.float32)
    hiss = 0.01 * np.random.default_rng(0).normal(size=len(speech) + 2 * RATE).astype(np.float32)
    mix = np.concatenate([pauses, speech, pauses]) + hiss
    out = real(package)(torch.from_numpy(mix)[None]).wavs[0, 0].numpy()
    tail = slice(-RATE // 2, -RATE // 10)
    assert np.square(out[tail]).mean() < 0.5 * np.square(mix[tail]).mean()


@pytest.mark.parametrize("num_samples", [1, 100, 4001])
@pytest.mark.parametrize("package", MODULES)
def test_any_length_goes_through_a_real_package(package: str, num_samples: int) -> None:
    mix = 0.1 * torch.randn(2, num_samples, generator=torch.Generator().manual_seed(0))
    model = real(package)
    first = model(mix).wavs
    assert first.shape == (2, 1, num_samples) and first.isfinite().all()
    assert torch.equal(model(mix).wavs, first), "it remembers the last signal"
