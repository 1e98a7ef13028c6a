"""A training step of the GRU networks on one thread: with torch's GRU, and with the layers written for training.

Why `pse/models/recurrent.py` is there. Both sides compute the same loss and the same gradients.
Run: python benchmarks/gru_step.py [--rounds 9] [--models gru_64 bgru_64]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch

from pse.config import read_yaml
from pse.losses.snr import neg_snr
from pse.models import recurrent
from pse.models.base import Model, build

CONF = Path(__file__).parents[1] / "egs" / "librispeech_pse" / "conf" / "models"
BATCH, SAMPLES = 32, 4 * 16000


def step(model: Model, layer: str, mix: torch.Tensor, target: torch.Tensor) -> Callable[[], float]:
    """One forward and backward pass; its loss."""

    def run() -> float:
        with nullcontext() if layer == "written" else recurrent.plain():
            model.zero_grad()
            out = model(mix)
            loss = neg_snr(out.wavs[:, 0], target).mean() if out.wavs is not None else out.frame_snr_db.square().mean()
            loss.backward()
            return loss.item()

    return run


def gradient(model: Model) -> torch.Tensor:
    """All gradients in a row."""
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def compare(name: str, rounds: int) -> None:
    """Print milliseconds a step of both, and their ratio: medians of alternating rounds."""
    torch.manual_seed(0)
    model = build(read_yaml(CONF / f"{name}.yaml"), name)
    mix, target = 0.1 * torch.randn(BATCH, SAMPLES), 0.1 * torch.randn(BATCH, SAMPLES)
    sides = {layer: step(model, layer, mix, target) for layer in ("torch", "written")}
    losses, gradients = {}, {}
    for layer, run in sides.items():
        losses[layer], gradients[layer] = run(), gradient(model)
    size = gradients["torch"].norm()
    assert abs(losses["torch"] - losses["written"]) < 1e-4
    assert (gradients["torch"] - gradients["written"]).norm() < 1e-4 * size
    seconds: dict[str, list[float]] = {layer: [] for layer in sides}
    for _ in range(rounds):
        for layer, run in sides.items():
            start = time.perf_counter()
            run()
            seconds[layer].append(time.perf_counter() - start)
    ratio = statistics.median(t / w for t, w in zip(seconds["torch"], seconds["written"], strict=True))
    torch_ms, written_ms = (1e3 * statistics.median(s) for s in seconds.values())
    print(f"{name:<20} {torch_ms:8.0f} ms with torch's GRU {written_ms:8.0f} ms with ours   {ratio:5.2f} x")


def main() -> None:
    """Compare the networks asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = ["gru_32", "gru_64", "gru_256", "bgru_64", "snr_predictor_small"]
    parser.add_argument("--models", nargs="+", default=names)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, load {load:.1f}, one thread;")
    print(f"torch {torch.__version__}; batch {BATCH} x 4 s at 16 kHz, medians of {options.rounds} alternating rounds")
    for name in options.models:
        compare(name, options.rounds)


if __name__ == "__main__":
    main()
