"""The Python API: what goes in comes out in its kind; one model serves many threads; names before directories."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pse
from pse import cli
from pse.errors import EnvironmentFault, PseError
from pse.inference import builtin, engine, separation
from pse.inference.package import load_network
from tests.packages import EMBEDDING, GRU, PREDICTOR, TASNET, VOICE, pack, pack_builtin


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


@pytest.fixture
def built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pack_builtin(tmp_path / "weights")
    monkeypatch.setattr(builtin, "PLACE", tmp_path / "weights")
    return tmp_path / "weights"


@pytest.mark.parametrize("shape", [(5000,), (2, 5000), (1, 1), (0,), (3, 0)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_what_goes_in_comes_out_in_its_kind_and_shape(shape: tuple[int, ...], dtype: Any, tmp_path: Path) -> None:
    model = pse.load_model(pack(tmp_path / "m", GRU))
    given = noise(*shape).astype(dtype)
    expected = engine.enhance(model.network, given.astype(np.float32), 44100)
    got = model.enhance(given, sample_rate=44100)
    assert type(got) is np.ndarray and got.dtype == np.float32 and np.array_equal(got, expected)
    if dtype != ">f4":
        as_tensor = torch.from_numpy(given).requires_grad_()
        got = model.enhance(as_tensor, sample_rate=44100)
        assert isinstance(got, torch.Tensor) and got.dtype == torch.float32 and not got.requires_grad
        assert torch.equal(got, torch.from_numpy(expected))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_speakers_come_out_in_the_kind_of_the_recording(kind: Callable, tmp_path: Path) -> None:
    model, given = pse.load_model(pack(tmp_path / "m", EMBEDDING)), noise(9000)
    got = model.separate(kind(given.astype(np.float64)), sample_rate=11025, num_speakers=3)
    assert type(got) is type(kind(given)) and got.dtype == kind(given).dtype
    assert np.array_equal(got, separation.separate(model.network, given, 11025, 3).wavs)


def test_a_view_of_read_only_samples_is_taken_and_left_alone(tmp_path: Path) -> None:
    given = noise(4000)
    given.flags.writeable = False
    model, before = pse.load_model(pack(tmp_path / "m", GRU)), given.copy()
    assert np.array_equal(
        model.enhance(given[::-2], sample_rate=16000), model.enhance(given[::-2].copy(), sample_rate=16000)
    )
    assert np.array_equal(given, before)


@pytest.mark.parametrize(
    ("given", "rate", "told"),
    [
        (np.zeros(9, np.int16), 16000, "divide 16-bit samples by 32768"),
        (torch.zeros(9, dtype=torch.int32), 16000, "divide 16-bit samples by 32768"),
        ([0.0, 0.1], 16000, "a list was given"), (np.full(9, np.nan), 16000, "NaN"), (np.full(9, 1e300), 16000, "NaN"),
        (np.zeros((1, 1, 9)), 16000, "shape"), (np.zeros(9), 0, "a sample rate of 0 Hz"),
        (np.zeros(9), float("nan"), "a sample rate of nan Hz"), (np.zeros(9), "16k", "a sample rate of '16k' Hz"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(given: Any, rate: Any, told: str, tmp_path: Path) -> None:
    for mapping, verb in ((GRU, "enhance"), (EMBEDDING, "separate")):
        model = pse.load_model(pack(tmp_path / verb, mapping))
        with pytest.raises(PseError, match=told) as caught:
            getattr(model, verb)(given, sample_rate=rate)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_more_channels_than_there_are_microphones_are_samples_that_were_not_transposed(
    kind: Callable, built_in: Path
) -> None:
    for given in (noise(2000, 2), noise(65, 9)):
        for enhance in (pse.enhance, pse.load_model(builtin.DEFAULTS["enhance"]).enhance):
            with pytest.raises(PseError, match=f"enhance: {len(given)} channels were given, 64 at most .*; transpose"):
                enhance(kind(given), sample_rate=16000)
    assert pse.enhance(kind(noise(64, 9)), sample_rate=16000).shape == (64, 9)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "a value of type NoneType is no model; name a built-in model"), (5, "type int is no model"),
        ("x" * 300, "no such model directory, and no built-in model"), (f"{'x' * 300}/y", "is no model directory"),
        (Path("x" * 300), "is no model directory; pse models lists"), ("a\0b", "no such model directory"),
        ("hf:" + "x" * 300 + f"/a@{'0' * 40}", "is no address of a model"),
        ("exp/none", "is no model directory; pse models lists"),
    ],
)  # fmt: skip
def test_what_names_no_model_is_one_line(given: Any, told: str) -> None:
    with pytest.raises(PseError, match=told) as caught:
        pse.load_model(given)
    assert "\n" not in str(caught.value)


def test_a_model_of_another_task_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = {m["name"]: pack(tmp_path / m["name"], m) for m in (GRU, EMBEDDING, PREDICTOR, VOICE)}
    models = {name: pse.load_model(place) for name, place in places.items()}
    assert {n: m.task for n, m in models.items()} == {
        "gru_mask": "enhance", "blstm_embedding": "separate", "snr_predictor": "snr_predictor", "frame_encoder": "voice"
    }  # fmt: skip
    wrong = [("gru_mask", "separate"), ("snr_predictor", "separate"), ("snr_predictor", "enhance"),
             ("blstm_embedding", "enhance"), ("frame_encoder", "separate")]  # fmt: skip
    for name, verb in wrong:
        with pytest.raises(PseError, match=name):
            getattr(models[name], verb)(np.zeros(99), sample_rate=16000)
        assert cli.main([verb, "x.wav", "-o", str(tmp_path / "out"), "--model", str(places[name])]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert ("it separates: pse separate" if name == "blstm_embedding" else "take a model that") in line


def test_a_loaded_model_tells_what_it_is_and_streams(tmp_path: Path) -> None:
    model = pse.load_model(str(pack(tmp_path / "mine", GRU)))
    assert (model.name, model.sample_rate, model.causal, model.latency_samples) == ("mine", 16000, True, 512)
    assert model.card.startswith("# a card") and isinstance(model.network, torch.nn.Module)
    samples, outs = noise(4000), []
    for stream in (model.stream(16000), pse.Stream(model, 16000), pse.Stream(load_network(tmp_path / "mine"), 16000)):
        outs.append(np.concatenate([stream.push(samples), stream.flush()]))
    assert np.array_equal(outs[0], outs[1]) and np.array_equal(outs[0], outs[2])
    causal = EMBEDDING | {"bidirectional": False, "normalize": "none"}
    online = pse.OnlineSeparator(pse.load_model(pack(tmp_path / "online", causal)), 2)
    assert pse.Stream(online, 8000).latency_samples > 0


def test_a_name_is_the_built_in_model_and_none_that_of_the_task(
    built_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = builtin.DEFAULTS["enhance"]
    # Whatever lies in the working directory.
    monkeypatch.chdir(tmp_path)
    pack(tmp_path / name, TASNET)
    assert builtin.package(name) == built_in / name and builtin.package(f"./{name}") == Path(name)
    model, samples = pse.load_model(name), noise(5000)
    assert model.name == name and builtin.names() == sorted(builtin.DEFAULTS.values())
    expected = model.enhance(samples, sample_rate=16000)
    for given in (None, name, model):
        assert np.array_equal(pse.enhance(samples, sample_rate=16000, model=given), expected)
    other = pse.enhance(samples, sample_rate=16000, model=Path(name))
    assert np.array_equal(other, pse.load_model(f"./{name}").enhance(samples, sample_rate=16000))
    assert not np.array_equal(other, expected)
    assert pse.separate(samples, sample_rate=8000, num_speakers=2).shape == (2, 5000)
    assert cli.main(["export", name, "-o", "denoise.pt", "--torchscript"]) == 0 and Path("denoise.pt").is_file()


@pytest.mark.parametrize("verb", ["enhance", "separate", "listen"])
def test_the_verbs_take_the_built_in_model(
    verb: str, built_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pse.io import audio

    audio.write(tmp_path / "talk.wav", noise(9000), 16000)
    out = tmp_path / ("out.wav" if verb == "listen" else "out")
    options = ["--num_speakers", "2"] if verb == "separate" else []
    threads = torch.get_num_threads()
    command = [verb, str(tmp_path / "talk.wav"), "-o", str(out), *options]
    assert cli.main(command) == 0
    torch.set_num_threads(threads)
    assert out.exists()
    capsys.readouterr()
    monkeypatch.setattr(builtin, "PLACE", tmp_path / "none")
    assert cli.main([*command, "--overwrite"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    name = builtin.DEFAULTS["separate" if verb == "separate" else "enhance"]
    assert line.startswith(f"error: {name}: no such model directory, and no built-in model; built in are none")


def test_a_device_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    pack(tmp_path / "m", GRU)
    for device in ("cuda:99", "no such device"):
        with pytest.raises(EnvironmentFault, match="the device cannot be used") as caught:
            pse.load_model(tmp_path / "m", device=device)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_samples_come_back_to_the_device_they_came_from(device: str, tmp_path: Path) -> None:
    model, given = pse.load_model(pack(tmp_path / "m", GRU), device), torch.from_numpy(noise(9000))
    expected = pse.load_model(tmp_path / "m").enhance(given, sample_rate=16000)
    for place in ("cpu", "cuda"):
        got = model.enhance(given.to(place), sample_rate=16000)
        assert got.device.type == place and torch.allclose(got.cpu(), expected, atol=1e-4)


def _enhanced(model: pse.LoadedModel, seed: int) -> np.ndarray:
    return model.enhance(noise(2, 30000, seed=seed), sample_rate=44100)


def _separated(model: pse.LoadedModel, seed: int) -> np.ndarray:
    return model.separate(noise(30000, seed=seed), sample_rate=11025, num_speakers=None if seed % 2 else 3)


@pytest.mark.parametrize(
    ("mapping", "work", "counting"),
    [
        (GRU, _enhanced, None),
        (TASNET, _enhanced, None),
        (EMBEDDING, _separated, None),
        (EMBEDDING, _separated, {"estimator": "communities", "options": {"method": "leiden", "num_nodes": 300}}),
        (EMBEDDING, _separated, {"estimator": "communities", "options": {"num_nodes": 200, "steps": 5}}),
    ],
    ids=["gru", "conv_tasnet", "k-means", "leiden", "modularity"],
)
def test_eight_threads_at_once_give_what_one_gives_after_the_other(
    mapping: dict[str, Any], work: Callable, counting: dict[str, Any] | None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if counting is not None and counting["options"].get("method") == "leiden":
        igraph = pytest.importorskip("igraph")
        inner = igraph.set_random_number_generator
        # The time in which another thread could set its own.
        monkeypatch.setattr(igraph, "set_random_number_generator", lambda own: (inner(own), time.sleep(0.02)))
    model = pse.load_model(pack(tmp_path / "m", mapping))
    model.network.counting = counting
    expected, before = [work(model, seed) for seed in range(8)], torch.get_rng_state()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(2):
            got = list(pool.map(lambda seed: work(model, seed), range(8)))
            assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "program",
    ["import pse; dir(pse)", *(
        f"import pse.cli; pse.cli.main({words!r})"
        for words in (["--help"], ["--version"], ["enhance", "--help"], ["separate", "--help"], ["listen", "--help"],
                      ["models", "--help"], ["export", "--help"], ["personalize", "--help"])
    )],
)  # fmt: skip
def test_what_only_tells_imports_nothing_heavy(program: str) -> None:
    told = "\nimport sys; print([m for m in ('torch', 'numpy', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program + told], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_personalize_stays_callable_once_its_package_is_imported() -> None:
    program = (
        "import pse, pse.errors\n"
        "for _ in range(2):\n"
        "    try:\n        pse.personalize('.', '.')\n"
        "    except pse.errors.PseError as error:\n        print(error)\n"
    )
    for first in ("", "import pse.personalize.check\n"):
        done = subprocess.run([sys.executable, "-c", first + program], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == [".: is there already; choose another name, or remove it"] * 2
