"""A model as one file that runs without pse: ONNX or TorchScript, checked against the model before it is written."""

from __future__ import annotations

import importlib
import io
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from pse.errors import EnvironmentFault, PseError
from pse.inference.spectral_graph import GRUBlock, SpectralGraph
from pse.inference.streaming import Stream
from pse.inference.tasnet_graph import TasNetBlock, TasNetGraph
from pse.models.base import Model
from pse.models.conv_tasnet import ConvTasNet
from pse.models.embedding import EmbeddingModel
from pse.models.gru_mask import GRUMask

Format = Literal["onnx", "torchscript"]
# Arrays of a call and what it returns, both in the graph's order.
Run = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
# By name; a word is a free axis.
Shapes = dict[str, list[int | str]]

# The oldest set of operators that has all that is needed.
OPSET = 17
TOLERANCE = 1e-4
NUM_LENGTHS, LONGEST_S, SHORTEST_LEVEL, LOUDEST_LEVEL = 10, 4.0, 1e-3, 0.5
# Blocks of several hops at once, where a graph takes them.
MOST_HOPS = 40


@dataclass(frozen=True)
class Exported:
    """A graph as the bytes of a file, and what is known of it.

    facts: what the file says of itself. difference: the largest one of an output sample to the model's, in units
    of the output's peak, over signals of lengths_samples.
    """

    content: bytes
    inputs: Shapes
    outputs: Shapes
    facts: dict[str, str]
    lengths_samples: list[int]
    difference: float


def export(model: Model, form: Format, streaming: bool = False, seed: int = 0) -> Exported:
    """The model as a file's content, with its difference from the model on ten signals of random lengths.

    `streaming` gives one block and the states instead of whole signals. Raises PseError for a model that has no
    such graph, and when a sample differs by more than 1e-4 of the peak; EnvironmentFault without the packages.
    """
    if form == "onnx":
        require_packages()
    graph = graph_of(model, streaming).eval().requires_grad_(False)
    example, inputs, outputs = _signature(graph, model, streaming)
    facts = {"sample_rate_hz": str(model.sample_rate)}
    if streaming:
        facts |= {"block_samples": str(graph.block_samples), "delay_samples": str(graph.delay_samples)}
    with warnings.catch_warnings(), torch.no_grad():
        # About both exporters' age, and about sizes that a trace takes for constants; the comparison finds those.
        warnings.simplefilter("ignore")
        if form == "onnx":
            content = _onnx(graph, example, inputs, outputs, facts)
        else:
            content = _torchscript(graph, example, facts)
        run = _onnx_runner(content) if form == "onnx" else _torchscript_runner(content)
    lengths, difference = compare(model, graph, run, streaming, seed)
    if not difference <= TOLERANCE:
        what = f"the {form} graph differs from the model by {difference:.1e} of the peak, {TOLERANCE:g} is allowed"
        raise PseError(what, type(model).__name__, "nothing was written; please report it")
    return Exported(content, inputs, outputs, facts, lengths, difference)


def require_packages() -> None:
    """Raise EnvironmentFault when ONNX files cannot be made and run here."""
    for name in ("onnx", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            what = f"ONNX files need the package {name}"
            raise EnvironmentFault(what, "export", "pip install onnx onnxruntime") from error


def graph_of(model: Model, streaming: bool) -> nn.Module:
    """The network that is exported for a model. Raises PseError when there is none."""
    masks = isinstance(model, EmbeddingModel) and model.num_masks
    if isinstance(model, EmbeddingModel) and not masks:
        what = "the model gives embeddings; clustering makes signals of them, which no graph holds"
        raise PseError(what, "export", "use pse separate, or train with num_masks")
    if not (masks or isinstance(model, GRUMask | ConvTasNet)):
        fix = "GRU masks, Conv-TasNet and embedding networks with masks can"
        raise PseError(f"{type(model).__name__} cannot be exported", "export", fix)
    if not streaming:
        return TasNetGraph(model) if isinstance(model, ConvTasNet) else SpectralGraph(model)
    if masks:
        raise PseError(f"{type(model).__name__} has no streaming graph", "export", "leave out --streaming")
    # Says what makes a model wait for the end.
    Stream(model, model.sample_rate)
    return TasNetBlock(model) if isinstance(model, ConvTasNet) else GRUBlock(model)


def compare(model: Model, graph: nn.Module, run: Run, streaming: bool, seed: int) -> tuple[list[int], float]:
    """Lengths in samples, and the largest difference from the model on noise of those lengths and of many levels."""
    random, worst = np.random.default_rng(seed), 0.0
    longest = LONGEST_S * model.sample_rate
    shortest = 2 * model.algorithmic_latency_samples() if streaming else 1
    lengths = np.exp(random.uniform(np.log(shortest), np.log(longest), NUM_LENGTHS)).astype(int).tolist()
    for num_samples in lengths:
        level = np.exp(random.uniform(np.log(SHORTEST_LEVEL), np.log(LOUDEST_LEVEL)))
        mix = (level * random.standard_normal((1, num_samples))).astype(np.float32)
        with torch.inference_mode():
            expected = model(torch.from_numpy(mix)).wavs[0].numpy()
        got = _streamed(graph, run, mix, random) if streaming else run([mix])[0]
        got = got.reshape(len(expected), -1)
        if streaming:
            # The model hears the end of a signal coming; the graph knows of none.
            num_samples -= model.algorithmic_latency_samples()
            got = got[:, graph.delay_samples :]
        difference = np.abs(got[:, :num_samples] - expected[:, :num_samples]).max()
        # This maximum keeps what is not a number.
        worst = np.maximum(worst, difference / max(np.abs(expected).max(), np.finfo(np.float32).tiny))
    return lengths, float(worst)


def _streamed(graph: nn.Module, run: Run, mix: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """What comes out block after block, of mix: [1, T] and zeros to the end of the last block."""
    states, outs = [state.numpy() for state in graph.states().values()], []
    for block in _blocks(graph, mix, random):
        out, *states = run([block, *states])
        outs.append(out)
    return np.concatenate(outs, -1)


def _blocks(graph: nn.Module, mix: np.ndarray, random: np.random.Generator) -> Iterator[np.ndarray]:
    size = graph.block_samples
    mix, start = np.pad(mix, ((0, 0), (0, -mix.shape[1] % size))), 0
    while start < mix.shape[1]:
        stop = start + size * (int(random.integers(1, MOST_HOPS + 1)) if graph.multiple else 1)
        yield mix[:, start:stop]
        start = stop


def _signature(graph: nn.Module, model: Model, streaming: bool) -> tuple[tuple[Tensor, ...], Shapes, Shapes]:
    """An example of the inputs, and the names and shapes of inputs and outputs."""
    states = graph.states() if streaming else {}
    if not streaming:
        name, size, example = "mix", "samples", torch.zeros(1, model.sample_rate)
    elif graph.multiple:
        # An example of one hop would pass for a size that never changes.
        name, size, example = "block", "samples", torch.zeros(1, 5 * graph.block_samples)
    else:
        name, size, example = "block", graph.block_samples, torch.zeros(1, graph.block_samples)
    shapes = {state: list(zeros.shape) for state, zeros in states.items()}
    num_sources = getattr(model, "num_sources", 0) or getattr(model, "num_masks", 1)
    enhanced = [1, size] if num_sources == 1 else [1, num_sources, size]
    outputs = {"enhanced": enhanced} | {f"new_{state}": shape for state, shape in shapes.items()}
    return (example, *states.values()), {name: [1, size]} | shapes, outputs


def _onnx(
    graph: nn.Module, example: tuple[Tensor, ...], inputs: Shapes, outputs: Shapes, facts: dict[str, str]
) -> bytes:
    """The ONNX file of a graph.

    By tracing, as the TorchScript file: the exporter that torch 2.13 prefers fails on a GRU of one signal
    and a free number of frames. Constants are folded by the runtime: folded here, the basis would be there twice.
    """
    import onnx

    free = {name: {len(shape) - 1: "samples"} for name, shape in (inputs | outputs).items() if "samples" in shape}
    buffer = io.BytesIO()
    torch.onnx.export(
        graph, example, buffer, input_names=list(inputs), output_names=list(outputs), dynamic_axes=free,
        opset_version=OPSET, do_constant_folding=False, dynamo=False,
    )  # fmt: skip
    made = onnx.load_model_from_string(buffer.getvalue())
    onnx.helper.set_model_props(made, facts)
    return made.SerializeToString()


def _torchscript(graph: nn.Module, example: tuple[Tensor, ...], facts: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    traced = torch.jit.freeze(torch.jit.trace(graph, example, check_trace=False))
    torch.jit.save(traced, buffer, _extra_files={"pse.json": json.dumps(facts)})
    return buffer.getvalue()


def _onnx_runner(content: bytes) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [found.name for found in session.get_inputs()]
    return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))


def _torchscript_runner(content: bytes) -> Run:
    graph = torch.jit.load(io.BytesIO(content))

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            out = graph(*map(torch.from_numpy, arrays))
        return [each.numpy() for each in (out if isinstance(out, tuple) else (out,))]

    return run
