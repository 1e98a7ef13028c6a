"""A small real training for the tests: a recurrent denoiser with dropout, in milliseconds a step.

`python -m tests.training_toy <directory> [json]` runs it as a process of its own; the JSON holds keys of
TrainingConfig, of `Toy` and of `run`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pse.data.collate import Batch
from pse.io.jsonl import read_jsonl
from pse.losses.snr import neg_snr
from pse.training import checkpoint, loop, progress
from pse.training.config import TrainingConfig
from pse.training.loop import TrainResult, train
from pse.training.objectives.base import LossOut, Objective

SAMPLES = 64
CONFIG = TrainingConfig(
    lr=3e-3,
    batch_size=4,
    max_examples=120,
    min_examples=40,
    patience_examples=1000,
    valid_every_examples=12,
    checkpoint_every_s=3600.0,
)


class Denoiser(nn.Module):
    """GRU with dropout: its training depends on torch's random generator."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 8, batch_first=True)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(8, 1)

    def forward(self, mix: Tensor) -> Tensor:
        """mix: [B, T] -> [B, T]."""
        hidden, _ = self.gru(mix.unsqueeze(-1))
        return self.out(self.drop(hidden)).squeeze(-1)


class Toy(Objective):
    """Tones in noise. `poison`: numbers of examples that hold a NaN; `step_s`: time a batch takes."""

    headline = "snr_db"
    larger_is_better = True

    def __init__(self, poison: Iterable[int] = (), step_s: float = 0.0) -> None:
        self.poison, self.step_s, self.seen = set(poison), step_s, []

    def batch(self, step_index_range: Sequence[int]) -> Batch:
        self.seen.extend(step_index_range)
        time.sleep(self.step_s)
        return self._make(step_index_range)

    def valid_batches(self) -> Iterable[Batch]:
        return [self._make(range(10**6 + 4 * i, 10**6 + 4 * i + 4)) for i in range(3)]

    def _make(self, numbers: Sequence[int]) -> Batch:
        targets, mixes = [], []
        for number in numbers:
            generator = torch.Generator().manual_seed(number)
            frequency, phase = torch.rand(2, generator=generator)
            target = 0.3 * torch.sin(0.5 * frequency * torch.arange(SAMPLES) + 6 * phase)
            mix = target + 0.2 * torch.randn(SAMPLES, generator=generator)
            targets.append(target)
            mixes.append(mix * (float("nan") if number in self.poison else 1.0))
        ids = [f"tone-{n}" for n in numbers]
        return Batch({"mix": torch.stack(mixes), "target": torch.stack(targets)}, ids)

    def loss(self, model: nn.Module, batch: Batch) -> LossOut:
        error = neg_snr(model(batch["mix"]), batch["target"]).mean()
        penalty = 1e-4 * sum(p.square().sum() for p in model.parameters())
        return LossOut(error + penalty, {"penalty": penalty})

    def validate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        value = neg_snr(model(batch["mix"]), batch["target"])
        return {"loss": value, "snr_db": -value}


def run(
    directory: Path, objective: Objective | None = None, seed: int = 3, dropout: float = 0.2, **keys: Any
) -> tuple[TrainResult, nn.Module]:
    """Train the toy from a fixed start; `keys` change CONFIG."""
    torch.manual_seed(0)
    model = Denoiser(dropout)
    config = dataclasses.replace(CONFIG, **keys)
    return train(model, objective or Toy(), config, directory, seed, about={"model": "toy"}), model


def lines(directory: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without the clock."""
    return [{k: v for k, v in r.items() if k != "seconds"} for r in read_jsonl(directory / "metrics.jsonl")]


def last(directory: Path) -> dict[str, Tensor]:
    """Weights and Adam's moments of the last checkpoint."""
    found = checkpoint.load_checkpoint(directory, "last")
    return {**found.tensors, **checkpoint.load_file(found.path / "optimizer.safetensors")}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two sets of tensors are the same, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, no figures, no TensorBoard: quick."""
    torch.set_num_threads(1)
    monkeypatch.setattr(loop, "draw_curve", lambda *arguments: None)
    monkeypatch.setattr(progress, "_tensorboard", lambda *arguments: None)


if __name__ == "__main__":
    torch.set_num_threads(1)
    options = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    toy = {k: options.pop(k) for k in ("poison", "step_s") if k in options}
    result, _ = run(Path(sys.argv[1]), Toy(**toy), **options)
    print(json.dumps(dataclasses.asdict(result)))
