"""Assignments of estimates to sources."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from pse.losses.pit import pit, reordered


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_pit_recovers_every_permutation(size: int) -> None:
    sources = torch.randn(1, size, 50, generator=torch.Generator().manual_seed(size))
    for order in itertools.permutations(range(size)):
        estimates = sources[:, list(order)]
        cost = (estimates[:, :, None] - sources[:, None]).square().mean(-1)
        least, found = pit(cost)
        assert least.item() == pytest.approx(0, abs=1e-12)
        assert torch.equal(reordered(estimates, found), sources)


def test_the_least_cost_is_that_of_the_hungarian_method() -> None:
    cost = torch.randn(20, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    least, _ = pit(cost)
    for row, value in zip(cost.numpy(), least, strict=True):
        i, j = linear_sum_assignment(row)
        assert value.item() == pytest.approx(row[i, j].mean())


def test_the_gradient_reaches_the_assigned_pairs_only() -> None:
    cost = torch.tensor([[[0.0, 9.0], [9.0, 1.0]]], requires_grad=True)
    pit(cost)[0].sum().backward()
    assert torch.equal(cost.grad, torch.tensor([[[0.5, 0.0], [0.0, 0.5]]]))
