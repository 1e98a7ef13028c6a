"""Optimizers by name, and the noise that weights are given for a gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from pse.training.config import TrainingConfig


def make_optimizer(parameters: Sequence[Tensor], config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer that a config names."""
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.lr)
    return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum)


@contextmanager
def noisy(parameters: Sequence[Tensor], deviation: float) -> Iterator[None]:
    """Weights with Gaussian noise inside, and exactly as they were outside."""
    if not deviation:
        yield
        return
    with torch.no_grad():
        before = [p.clone() for p in parameters]
        for p in parameters:
            p.add_(torch.randn_like(p), alpha=deviation)
    try:
        yield
    finally:
        with torch.no_grad():
            for p, value in zip(parameters, before, strict=True):
                p.copy_(value)
