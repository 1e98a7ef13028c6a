"""Losses: functions of (estimate, target, weights) that give one value per example, [B].

`pse.losses.purification.loss` finds one by the names a config uses. A module that names a function
in `PLUGIN` adds a loss of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, TypeVar

import torch
from torch import Tensor

Preset = Literal["paper", "robust"]
Function = TypeVar("Function", bound=Callable[..., Tensor])

# The constant of the published formulas, added to energies and to their ratio.
EPS = 1e-8


def in_float32(function: Function) -> Function:
    """Run a loss in float32 whatever the autocast: energies and logarithms do not survive bf16."""

    @functools.wraps(function)
    def wrapped(estimate: Tensor, target: Tensor, weights: Tensor | None = None, **options: object) -> Tensor:
        with torch.autocast(estimate.device.type, enabled=False):
            weights = None if weights is None else weights.detach().float()
            return function(estimate.float(), target.float(), weights, **options)

    return wrapped  # type: ignore[return-value]
