"""Laws of an exported file: it does what the model does, on whole signals and block by block, or is not written."""

from __future__ import annotations

import copy
import io
import json
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

import pse
from pse import cli
from pse.errors import PseError
from pse.inference import export as exporting
from pse.inference.export import compare, export, graph_of
from pse.inference.package import save_package
from pse.models.base import Model, build

ROOT = Path(__file__).parents[2]
# torch says so of every file that it reads.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.load:DeprecationWarning")

TASNET = {
    "name": "conv_tasnet", "bottleneck_channels": 4, "hidden_channels": 6, "num_filters": 20, "skip_channels": 5,
    "num_blocks": 3, "num_repeats": 2,
}  # fmt: skip
TASNET_CAUSAL = {**TASNET, "causal": True, "normalize": "none"}
GRU = {"name": "gru_mask", "hidden_size": 8, "n_fft": 64, "hop": 16}
GRU_CAUSAL = {**GRU, "normalize": "running"}
EMBEDDING = {"name": "blstm_embedding", "hidden_size": 8, "num_layers": 1, "embedding_size": 4}
CAUSAL = {
    "tasnet causal": TASNET_CAUSAL, "two sources causal": {**TASNET_CAUSAL, "num_sources": 2},
    "long filter": {**TASNET_CAUSAL, "filter_length": 20, "stride": 5},
    "no overlap": {**TASNET_CAUSAL, "filter_length": 8}, "no look back": {**TASNET_CAUSAL, "kernel_size": 1},
    "gru causal": GRU_CAUSAL, "gru none": {**GRU, "normalize": "none"}, "odd hop": {**GRU_CAUSAL, "hop": 13},
}  # fmt: skip
MODELS = CAUSAL | {
    "tasnet": TASNET, "two sources": {**TASNET, "num_sources": 2}, "gru": GRU,
    "bgru": {**GRU, "bidirectional": True, "hop": 13, "normalize": "peak"}, "masks": {**EMBEDDING, "num_masks": 2},
    "tcn masks": {
        "name": "tcn_embedding", "channels": 8, "num_layers": 2, "embedding_size": 0, "num_masks": 3, "causal": True,
        "normalize": "none",
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def short_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison with hops of a millisecond would take many calls."""
    monkeypatch.setattr(exporting, "LONGEST_S", 0.5)


def make(mapping: dict[str, Any]) -> Model:
    torch.manual_seed(0)
    return build(mapping, "test").eval().requires_grad_(False)


def noise(num_samples: int) -> Tensor:
    return 0.3 * torch.randn(1, num_samples, generator=torch.Generator().manual_seed(num_samples))


def package(directory: Path, mapping: dict[str, Any]) -> str:
    save_package(directory, make(mapping), mapping, "# a card\n")
    return str(directory)


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_is_the_model_for_signals_of_any_length(name: str) -> None:
    model = make(MODELS[name])
    # The trace of one length is what a file holds.
    traced = torch.jit.load(io.BytesIO(export(model, "torchscript").content))
    for num_samples in (1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 34, 100, 1000, 4097):
        mix = noise(num_samples)
        expected, got = model(mix).wavs, traced(mix)
        assert got.shape == (mix.shape if expected.shape[1] == 1 else expected.shape)
        assert (got.view_as(expected) - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("name", CAUSAL)
def test_blocks_are_the_whole_signal_later_by_the_delay(name: str) -> None:
    model = make(CAUSAL[name])
    graph, latency = graph_of(model, streaming=True), model.algorithmic_latency_samples()
    size = graph.block_samples
    mix = noise(40 * size)
    mix[:, : 2 * size] = 0
    traced = torch.jit.load(io.BytesIO(export(model, "torchscript", streaming=True).content))
    states, outs = list(graph.states().values()), []
    for block in mix.split([size, *[3 * size] * 13] if graph.multiple else size, 1):
        out, *states = traced(block, *states)
        assert [state.shape for state in states] == [zeros.shape for zeros in graph.states().values()]
        outs.append(out)
    got = torch.cat(outs, -1).reshape(1, -1, mix.shape[1])
    assert got[..., : graph.delay_samples].abs().sum() == 0
    known = mix.shape[1] - latency
    assert (got[..., graph.delay_samples :][..., :known] - model(mix).wavs[..., :known]).abs().max() <= 1e-6
    # A sample waits for no more than the latency, which is what a model promises.
    assert graph.delay_samples + size >= latency > graph.delay_samples


def test_silence_is_silence_and_a_level_is_forgotten_as_the_model_forgets_it() -> None:
    model = make(GRU_CAUSAL)
    graph, mix = graph_of(model, streaming=False), noise(6 * 16000)
    mix[:, 16000:] *= 1e-5
    expected = model(mix).wavs[:, 0]
    for part in (slice(0, 16000), slice(17000, None)):
        got = graph(mix)[:, part]
        assert (got - expected[:, part]).abs().max() <= 1e-6 * expected[:, part].abs().max()
    for name in ("tasnet", "gru", "gru causal"):
        assert graph_of(make(MODELS[name]), streaming=False)(torch.zeros(1, 500)).abs().max() == 0


@pytest.mark.parametrize("name", ["tasnet causal", "two sources", "odd hop", "gru", "masks"])
def test_an_onnx_file_does_what_the_model_does(name: str) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    model = make(MODELS[name])
    made = export(model, "onnx")
    session = runtime.InferenceSession(made.content, providers=["CPUExecutionProvider"])
    assert [found.name for found in session.get_inputs()] == ["mix"] and list(made.outputs) == ["enhanced"]
    for num_samples in (1, 33, 3001):
        mix = noise(num_samples)
        expected = model(mix).wavs.numpy()
        got = session.run(None, {"mix": mix.numpy()})[0]
        assert got.shape == (mix.shape if expected.shape[1] == 1 else expected.shape)
        assert np.abs(got.reshape(expected.shape) - expected).max() <= 1e-5
    assert session.get_modelmeta().custom_metadata_map == {"sample_rate_hz": str(model.sample_rate)}


@pytest.mark.parametrize("name", CAUSAL)
def test_an_onnx_file_streams(name: str) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    made = export(make(CAUSAL[name]), "onnx", streaming=True)
    assert made.difference <= 1e-5 and len(set(made.lengths_samples)) == 10
    assert list(made.outputs)[1:] == [f"new_{state}" for state in list(made.inputs)[1:]]


def spoilt(graph: nn.Module, by: float) -> nn.Module:
    """A copy of a graph whose weights are not those of its model."""
    graph = copy.deepcopy(graph)
    for weight in graph.model.parameters():
        weight.data[..., -1] += by
    return graph


@pytest.mark.parametrize("number", range(10))
def test_one_sample_that_is_not_a_number_or_wrong_in_one_of_the_signals_is_found(number: int) -> None:
    model, calls = make(GRU), []
    graph = graph_of(model, streaming=False)

    def run(arrays: Sequence[np.ndarray], wrong: float) -> list[np.ndarray]:
        out = graph(torch.from_numpy(arrays[0])).numpy()
        calls.append(out)
        if len(calls) % 10 == number:
            out[0, -1] = wrong * np.abs(out).max()
        return [out]

    for wrong in (float("nan"), 1.1):
        _, difference = compare(model, graph, lambda arrays, wrong=wrong: run(arrays, wrong), False, seed=0)
        assert not difference <= exporting.TOLERANCE
    assert compare(model, graph, lambda arrays: [graph(torch.from_numpy(arrays[0])).numpy()], False, 0)[1] < 1e-6


@pytest.mark.parametrize("form", ["--torchscript", "--onnx"])
@pytest.mark.parametrize("by", [0.03, float("nan")])
@pytest.mark.parametrize("options", [[], ["--streaming"]])
def test_a_graph_that_differs_is_refused_and_what_stood_there_stays(
    form: str, by: float, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if form == "--onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    directory, out = package(tmp_path / "model", GRU_CAUSAL), tmp_path / "out" / "model.bin"
    monkeypatch.setattr(exporting, "graph_of", lambda *given: spoilt(graph_of(*given), by))
    arguments = ["export", directory, "-o", str(out), form, "--overwrite", *options]
    assert cli.main(arguments) == 1
    told = capsys.readouterr().err
    assert "differs from the model by" in told and len(told.splitlines()) == 1
    assert not out.exists()
    out.parent.mkdir(exist_ok=True)
    out.write_text("an older file")
    assert cli.main(arguments) == 1
    assert [path.name for path in out.parent.iterdir()] == ["model.bin"] and out.read_text() == "an older file"


def test_the_verb_writes_a_file_and_says_what_is_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory, out = package(tmp_path / "model", GRU_CAUSAL), tmp_path / "a place" / "model.pt"
    assert cli.main(["export", directory, "-o", str(out), "--torchscript", "--streaming"]) == 0
    told = capsys.readouterr().out
    assert f"{out}  0.0" in told and "sample_rate_hz 16000, block_samples 16, delay_samples 48" in told
    assert "10 signals of" in told and "block [1, 16], past [1, 48]" in told and "new_overlap [2, 48]" in told
    extra = {"pse.json": ""}
    torch.jit.load(out, _extra_files=extra)
    assert json.loads(extra["pse.json"])["delay_samples"] == "48"


def test_a_file_that_is_there_is_replaced_only_where_it_may_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, out = package(tmp_path / "model", GRU), tmp_path / "model.pt"
    out.write_text("an older file")
    command = ["export", directory, "-o", str(out), "--torchscript"]
    assert cli.main(command) == 1
    assert "model.pt: is there already; add --overwrite" in capsys.readouterr().err
    with pytest.raises(PseError, match="is there already"):
        pse.export(directory, out, form="torchscript")
    assert out.read_text() == "an older file"
    assert cli.main([*command, "--overwrite"]) == 0
    assert torch.jit.load(out)(noise(500)).shape == (1, 500)


@pytest.mark.parametrize(("name", "form"), [("a.onnx", "torchscript"), ("a.ONNX", "torchscript"), ("a.pt", "onnx"),
                                            ("a.pth", "onnx")])  # fmt: skip
def test_an_ending_of_the_other_form_is_refused(name: str, form: str, tmp_path: Path) -> None:
    with pytest.raises(PseError, match=f"is the name of a file of .*, and {form} would be in it; choose another"):
        pse.export(package(tmp_path / "model", GRU), tmp_path / name, form=form)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("mapping", "options", "told"),
    [
        (EMBEDDING, [], "use pse separate"),
        ({**EMBEDDING, "num_masks": 2}, ["--streaming"], "leave out --streaming"),
        ({"name": "snr_predictor", "hidden_size": 4, "num_layers": 1}, [], "SNRPredictor cannot be exported"),
        (GRU, ["--streaming"], "whole signal (normalize: rms)"),
        (TASNET, ["--streaming"], "causal: false"),
    ],
)
def test_a_model_without_such_a_graph_is_refused_in_one_line(
    mapping: dict[str, Any], options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, out = package(tmp_path / "model", mapping), tmp_path / "model.pt"
    assert cli.main(["export", directory, "-o", str(out), "--torchscript", *options]) == 1
    error = capsys.readouterr().err
    assert told in error and len(error.splitlines()) == 1 and not out.exists()


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_the_remedy(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = package(tmp_path / "model", GRU)
    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None if name == missing else torch)
    assert cli.main(["export", directory, "-o", str(tmp_path / "model.onnx"), "--onnx"]) == 3
    told = capsys.readouterr().err
    assert f"the package {missing}; pip install onnx onnxruntime" in told and len(told.splitlines()) == 1


def test_one_form_is_asked_for_and_a_directory_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = package(tmp_path / "model", GRU)
    assert cli.main(["export", directory, "-o", str(tmp_path / "x")]) == 1
    assert cli.main(["export", directory, "-o", str(tmp_path / "x"), "--onnx", "--torchscript"]) == 1
    assert cli.main(["export", directory, "-o", str(tmp_path), "--torchscript"]) == 1
    assert "is a directory, a file is needed" in capsys.readouterr().err


@pytest.mark.parametrize(("program", "options"), [("whole.py", []), ("blocks.py", ["--streaming"])])
def test_the_programs_of_the_page_enhance_a_file(
    program: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    text = (ROOT / "docs" / "export.md").read_text("utf-8")
    (tmp_path / program).write_text(text.split(f"```python\n# {program}\n")[1].split("```")[0], encoding="utf-8")
    mix = noise(9000)[0].clamp(-0.99, 0.99)
    soundfile.write(tmp_path / "in.wav", mix.numpy(), 16000, "FLOAT")
    monkeypatch.chdir(tmp_path)
    for mapping in (GRU_CAUSAL, TASNET_CAUSAL):
        command = ["export", package(tmp_path / "model", mapping), "-o", "m.onnx", "--onnx", "--overwrite"]
        assert cli.main([*command, *options]) == 0
        monkeypatch.setattr(sys, "argv", [program, "m.onnx", "in.wav", "out.wav"])
        runpy.run_path(program)
        out, rate = soundfile.read("out.wav", dtype="float32")
        model = make(mapping)
        known = len(mix) - (model.algorithmic_latency_samples() if options else 0)
        assert rate == 16000 and len(out) == len(mix)
        assert np.abs(out[:known] - model(mix[None]).wavs[0, 0, :known].numpy()).max() <= 1e-5
