"""Which estimate is which source: the assignment of least cost (permutation invariant training)."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def pit(cost: Tensor) -> tuple[Tensor, Tensor]:
    """Least mean cost over assignments [B], and the estimate of each source [B, S].

    cost: [B, S, S], of estimate i for source j at [:, i, j]. All S! assignments are tried (Yu, Kolbaek,
    Tan & Jensen, "Permutation invariant training", ICASSP 2017); S is 5 at most in this project.
    """
    size = cost.shape[-1]
    orders = torch.tensor(list(itertools.permutations(range(size))), device=cost.device)
    sources = torch.arange(size, device=cost.device).expand_as(orders)
    means = cost[:, orders, sources].mean(-1)
    least, which = means.min(-1)
    return least, orders[which]


def reordered(estimates: Tensor, order: Tensor) -> Tensor:
    """Estimates [B, S, ..] in the order [B, S] that `pit` found."""
    return estimates[torch.arange(len(estimates), device=estimates.device)[:, None], order]
