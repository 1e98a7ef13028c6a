"""What an exported file costs on one core: ONNX Runtime against torch in the same run, whole signals and blocks.

Seconds of processor time for a second of audio. A stream of torch is `pse.Stream` with blocks of the same length.
Run: python benchmarks/export.py [conf/models/x.yaml ...]
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pse.config import read_yaml
from pse.errors import EnvironmentFault
from pse.inference.export import export, graph_of, require_packages
from pse.inference.streaming import Stream
from pse.models.base import Model, build

CONF = Path(__file__).resolve().parents[1] / "egs" / "librispeech_pse" / "conf" / "models"
NAMES = ("gru_64", "bgru_64", "gru_64_causal", "conv_tasnet_tiny", "conv_tasnet_tiny_causal")
BLOCKS_MS, SECONDS, ROUNDS = (10, 16, 32), 4, 7


def seconds_of(work: Callable[[], object]) -> float:
    """Processor time of a call for each second of audio."""
    start = time.thread_time()
    work()
    return (time.thread_time() - start) / SECONDS


def session_of(content: bytes) -> Any:
    """A session of one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def report(
    name: str, what: str, difference: float, by_torch: Callable[[], object], by_onnx: Callable[[], object]
) -> None:
    """Print a row: medians of rounds in which both take turns."""
    rounds = [(seconds_of(by_torch), seconds_of(by_onnx)) for _ in range(ROUNDS + 1)][1:]
    torch_s, onnx_s = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratio = statistics.median(a / b for a, b in rounds)
    print(f"{name:<24} {what:<9} {difference:10.1e} {torch_s:8.4f} {onnx_s:8.4f} {ratio:8.2f}", flush=True)


def whole(name: str, model: Model, mix: np.ndarray) -> None:
    """The row of whole signals."""
    made = export(model, "onnx")
    session, given = session_of(made.content), torch.from_numpy(mix)

    def by_torch() -> None:
        with torch.inference_mode():
            model(given)

    report(name, "whole", made.difference, by_torch, lambda: session.run(None, {"mix": mix}))


def blocks(name: str, model: Model, mix: np.ndarray) -> None:
    """The rows of blocks, of the lengths that the graph takes."""
    made, graph = export(model, "onnx", streaming=True), graph_of(model, streaming=True)
    session, zeros = session_of(made.content), {n: state.numpy() for n, state in graph.states().items()}
    for ms in BLOCKS_MS:
        size = model.sample_rate * ms // 1000
        if size % graph.block_samples or (size != graph.block_samples and not graph.multiple):
            continue
        pieces = [mix[:, start : start + size] for start in range(0, mix.shape[1] - size + 1, size)]

        def by_torch(pieces: list[np.ndarray] = pieces) -> None:
            stream = Stream(model, model.sample_rate)
            for piece in pieces:
                stream.push(piece[0])

        def by_onnx(pieces: list[np.ndarray] = pieces) -> None:
            states = list(zeros.values())
            for piece in pieces:
                _, *states = session.run(None, {"block": piece, **dict(zip(zeros, states, strict=True))})

        report(name, f"{ms} ms", made.difference, by_torch, by_onnx)


def main() -> None:
    """Measure the configs named on the command line, or five that ship."""
    try:
        require_packages()
    except EnvironmentFault as fault:
        print(fault)
        return
    import onnxruntime

    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, ", end="")
    print(f"onnxruntime {onnxruntime.__version__}, one thread; {SECONDS} s of noise, medians of {ROUNDS} rounds")
    print(f"{'model':<24} {'input':<9} difference    torch     onnx    ratio")
    for path in [Path(name) for name in sys.argv[1:]] or [CONF / f"{name}.yaml" for name in NAMES]:
        torch.manual_seed(0)
        model = build(read_yaml(path), path).eval().requires_grad_(False)
        mix = (0.1 * np.random.default_rng(0).standard_normal((1, SECONDS * model.sample_rate))).astype(np.float32)
        whole(path.stem, model, mix)
        if model.causal:
            blocks(path.stem, model, mix)


if __name__ == "__main__":
    main()
