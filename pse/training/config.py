"""The keys of a training, with the published values as defaults (JSTSP 2022, public code)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from pse.config import plain

# Keys that say when to stop or what to keep: a resumed run may change them.
FREE_KEYS = ("max_examples", "min_examples", "patience_examples", "checkpoint_every_s", "keep_checkpoints")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train: a clipped gradient, stopping counted in examples.

    optimizer: adam, or sgd with momentum. weight_noise: standard deviation of Gaussian noise that is added
        to the weights for the gradient of a step and taken away before the update (Graves, NIPS 2011).
    lr: 1e-3 from scratch; 1e-4 is published for fine-tuning.
    lr_schedule: constant, or half_then_decay (constant until half of max_examples, then linearly to 0).
    batch_size: examples of a step over all processes.
    max_examples: the end at the latest.
    min_examples, patience_examples: at a constant rate, stop after patience_examples without a better
        validation, not before min_examples. A rate that falls ends where it is 0.
    valid_every_examples: how often the validation set is evaluated.
    clip_grad_norm: largest norm of the gradient (ours; 0 = unbounded).
    precision: no (float32), bf16, or fp16 (GPU only).
    checkpoint_every_s: what a kill can lose at the most.
    keep_checkpoints: how many of the newest stay on disk, besides the best.
    """

    optimizer: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.9
    weight_noise: float = 0.0
    lr: float = 1e-3
    lr_schedule: Literal["constant", "half_then_decay"] = "constant"
    batch_size: int = 64
    max_examples: int = 1_000_000
    min_examples: int = 100_000
    patience_examples: int = 100_000
    valid_every_examples: int = 1_000
    clip_grad_norm: float = 5.0
    precision: Literal["no", "bf16", "fp16"] = "no"
    checkpoint_every_s: float = 60.0
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_examples", "valid_every_examples", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("min_examples", "patience_examples", "clip_grad_norm", "checkpoint_every_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be from 0 to below 1, got {self.momentum}")
        if not (self.weight_noise >= 0 and math.isfinite(self.weight_noise)):
            raise ValueError(f"weight_noise must not be negative, got {self.weight_noise}")
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise ValueError(f"lr must be positive, got {self.lr}")

    def lr_at(self, examples: int) -> float:
        """The learning rate of the step that starts after `examples` examples."""
        if self.lr_schedule == "constant":
            return self.lr
        return self.lr * min(1.0, max(0.0, 2.0 * (1.0 - examples / self.max_examples)))

    def identity(self) -> dict[str, Any]:
        """The keys that decide what the weights become; only a run that agrees in them can resume."""
        free = set(FREE_KEYS)
        if self.lr_schedule != "constant":
            free.discard("max_examples")
        return {k: v for k, v in plain(self).items() if k not in free}
