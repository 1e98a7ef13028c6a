"""Unit vectors: the norm, and the gradient by hand against autograd's and against differences."""

from __future__ import annotations

import pytest
import torch

from pse.models.unit_vectors import unit_vectors

ACTIVATIONS = {"tanh": torch.tanh, "logistic": torch.sigmoid, "linear": lambda x: x}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_value_and_gradient_are_those_of_activation_and_norm(name: str) -> None:
    values = torch.randn(3, 4, 10, dtype=torch.float64, requires_grad=True)
    plain = torch.nn.functional.normalize(ACTIVATIONS[name](values).unflatten(2, (2, 5)), dim=3)
    ours = unit_vectors(values, 5, name)
    assert torch.allclose(ours, plain, atol=1e-12)
    by = torch.randn(3, 4, 2, 5, dtype=torch.float64)
    expected, got = (torch.autograd.grad((x * by).sum(), values)[0] for x in (plain, ours))
    assert torch.allclose(got, expected, atol=1e-12)
    assert torch.autograd.gradcheck(lambda v: unit_vectors(v, 5, name), (values,))


def test_half_precision_comes_out_in_full_and_its_gradient_in_half() -> None:
    values = torch.randn(2, 3, 8, dtype=torch.bfloat16, requires_grad=True)
    out = unit_vectors(values, 4, "tanh")
    assert out.dtype == torch.float32
    assert torch.allclose(out.norm(dim=-1), torch.ones(2, 3, 2))
    out.sum().backward()
    assert values.grad.dtype == torch.bfloat16


def test_vectors_of_zeros_stay_so_with_a_finite_gradient() -> None:
    values = torch.zeros(1, 2, 6, requires_grad=True)
    out = unit_vectors(values, 3, "tanh")
    out.sum().backward()
    assert torch.equal(out, torch.zeros(1, 2, 2, 3)) and values.grad.isfinite().all()
