"""Activation and unit norm of many short vectors, with a gradient that passes over them as often as it must.

The embeddings of a batch are its largest tensors by far (32 x 100 frames x 129 bins x 20: 33 MB, and as
much for each step of autograd), so on a processor one example at a time is worked on, which stays in its
cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

EPS = 1e-8


def unit_vectors(values: Tensor, size: int, activation: str) -> Tensor:
    """Unit vectors [B, .., N / size, size] of activation(values), values: [B, .., N]; never in half precision.

    activation: tanh, logistic or linear. A vector of zeros stays one.
    """
    return _UnitVectors.apply(values, size, activation)


class _UnitVectors(torch.autograd.Function):
    """u = a(x) / |a(x)|; its gradient is a'(x) (g - u (u.g)) / |a(x)|, and a' follows from a(x) = u |a(x)|."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, size: int, activation: str) -> Tensor:
        dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
        shape = (*values.shape[:-1], values.shape[-1] // size, size)
        unit = torch.empty(shape, dtype=dtype, device=values.device)
        norm = torch.empty((*shape[:-1], 1), dtype=dtype, device=values.device)
        for x, u, n in _parts(values, unit, norm):
            u.copy_(x.reshape(u.shape))
            if activation == "tanh":
                u.tanh_()
            elif activation == "logistic":
                u.sigmoid_()
            torch.linalg.vector_norm(u, dim=-1, keepdim=True, out=n)
            u.div_(n.clamp_min_(EPS))
        ctx.save_for_backward(unit, norm)
        ctx.activation, ctx.dtype, ctx.shape = activation, values.dtype, values.shape
        return unit

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        unit, norm = ctx.saved_tensors
        grads = torch.empty(ctx.shape, dtype=ctx.dtype, device=unit.device)
        for u, n, g, out in _parts(unit, norm, grad, grads):
            d = torch.addcmul(g, u, (u * g).sum(-1, keepdim=True), value=-1).div_(n)
            if ctx.activation != "linear":
                a = u * n
                # 1 - a^2, and a (1 - a).
                d.mul_(a.square_().neg_().add_(1) if ctx.activation == "tanh" else a.addcmul_(a, a, value=-1))
            out.copy_(d.reshape(out.shape))
        return grads, None, None


def _parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Example by example on a processor, all at once elsewhere."""
    return zip(*tensors, strict=True) if tensors[0].device.type == "cpu" else iter([tensors])
