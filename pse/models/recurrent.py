"""GRU layers of one or several models at a time, with a gradient of their own for training.

torch's GRU on a processor records a dozen operations for every frame and replays them backwards.
Here the recurrence runs in a few operations in place, its gradient is written out, and each weight
gradient is one product over all frames. The weights are those of `nn.GRU`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# oneDNN's product in float32: MKL, torch's own choice, does not use AVX-512 on AMD's processors.
ROWS_PER_PIECE = 1024
_PLAIN = ContextVar("plain", default=False)
_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias without a gradient: x [N, I], weight [G, I], bias [G] -> [N, G]; for large N or I."""
    if _ONEDNN is not None and x.device.type == "cpu" and x.dtype == torch.float32:
        return _ONEDNN(x, weight, bias, "none", [], "")
    return functional.linear(x, weight, bias)


def product_over(x: Tensor, y: Tensor) -> Tensor:
    """x.T @ y without a gradient: x [N, I], y [N, G] -> [I, G]; for large N, in pieces that stay in the cache."""
    pieces = zip(x.split(ROWS_PER_PIECE), y.split(ROWS_PER_PIECE), strict=True)
    total = None
    for part, other in pieces:
        value = product(part.T, other.T)
        total = value if total is None else total.add_(value)
    return total


@contextmanager
def plain() -> Iterator[None]:
    """Within it torch's own layers run, whatever is faster: to count their operations, to compare with them."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def is_faster(x: Tensor) -> bool:
    """Whether the layers written here are the faster ones: on a processor, without a gradient of x."""
    if _PLAIN.get():
        return False
    written = x.device.type == "cpu" and not (torch.is_grad_enabled() and x.requires_grad)
    return written and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()


def is_training(x: Tensor) -> bool:
    """Whether they are, and a gradient of the weights is wanted."""
    return torch.is_grad_enabled() and is_faster(x)


def run(models: Sequence[nn.GRU], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Outputs [F, B, D] of K GRUs of one shape for inputs [F, B, I], one each, from a state of zeros."""
    first = models[0]
    for layer in range(first.num_layers):
        ways = []
        for end in ("", "_reverse")[: 1 + first.bidirectional]:
            names = [f"{kind}_l{layer}{end}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            weights = [getattr(model, name) for name in names for model in models]
            ways.append(_Layer.apply(bool(end), len(models), *inputs, *weights))
        inputs = [way[0] if len(way) == 1 else torch.cat(way, 2) for way in zip(*ways, strict=True)]
    return list(inputs)


class _Layer(torch.autograd.Function):
    """One direction of one layer of K models: x [F, B, I] each -> h [F, B, H] each.

    r, z = sigmoid(x W + h U + b), n = tanh(x W_n + r q), q = h U_n + b_n, h = n + z (h_before - n).
    """

    @staticmethod
    def forward(ctx: Any, reverse: bool, num: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        xs, w_in, w_rec, b_in, b_rec = (tensors[i : i + num] for i in range(0, 5 * num, num))
        (frames, batch, _), size = xs[0].shape, w_rec[0].shape[1]
        gates = [_input_gates(*each).view(frames, batch, 3 * size) for each in zip(xs, w_in, b_in, b_rec, strict=True)]
        gates = torch.stack(gates) if num > 1 else gates[0][None]
        recurrent, shift = torch.stack(w_rec).mT, torch.stack(b_rec)[:, None, 2 * size :]
        states = gates.new_zeros(num, frames + 1, batch, size)
        candidates = gates.new_empty(num, frames, batch, size)
        inside = gates.new_empty(num, batch, 3 * size)
        before, after = (states[:, 1:], states[:, :-1]) if reverse else (states[:, :-1], states[:, 1:])
        inside_both, inside_n = inside.split([2 * size, size], 2)
        both, (r, z, n) = gates[..., : 2 * size].unbind(1), (gate.unbind(1) for gate in gates.chunk(3, 3))
        h, h_next, q = before.unbind(1), after.unbind(1), candidates.unbind(1)
        for f in _order(frames, reverse):
            torch.bmm(h[f], recurrent, out=inside)
            both[f].add_(inside_both).sigmoid_()
            torch.add(inside_n, shift, out=q[f])
            n[f].addcmul_(r[f], q[f]).tanh_()
            torch.lerp(n[f], h[f], z[f], out=h_next[f])
        ctx.save_for_backward(*xs, *w_in, *w_rec, gates, candidates, states)
        ctx.reverse, ctx.num = reverse, num
        return tuple(after)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        num, (gates, candidates, states) = ctx.num, ctx.saved_tensors[-3:]
        xs, w_in, w_rec = (ctx.saved_tensors[i : i + num] for i in range(0, 3 * num, num))
        frames, size = gates.shape[1], states.shape[3]
        before = states[:, 1:] if ctx.reverse else states[:, :-1]
        # First what the gradient of h has to be multiplied with, for all frames; then its way back in time.
        d_gates = torch.empty_like(gates)
        slopes = [_slopes(*each) for each in zip(gates, candidates, before, d_gates, strict=True)]
        dh, recurrent = torch.stack(grads), torch.stack(w_rec)
        carry = torch.zeros_like(dh[:, 0])
        d_gate, by_gate = d_gates.unbind(1), d_gates.unflatten(-1, (3, size)).unbind(1)
        z, now, now_by_gate = (x.unbind(1) for x in (gates[..., size : 2 * size], dh, dh[:, :, :, None]))
        for f in _order(frames, not ctx.reverse):
            now[f].add_(carry)
            by_gate[f].mul_(now_by_gate[f])
            torch.mul(now[f], z[f], out=carry).baddbmm_(d_gate[f], recurrent)
        needs_x = any(ctx.needs_input_grad[2 : 2 + num])
        parts = [
            _weight_gradients(*each, needs_x) for each in zip(d_gates, dh, slopes, before, xs, w_in, strict=True)
        ]
        return None, None, *(part for parts_of_one in zip(*parts, strict=True) for part in parts_of_one)


def _order(frames: int, reverse: bool) -> range:
    return range(frames - 1, -1, -1) if reverse else range(frames)


def _input_gates(x: Tensor, w_in: Tensor, b_in: Tensor, b_rec: Tensor) -> Tensor:
    """x W + b [F B, 3H]; the recurrent bias of r and z is added here, that of n is inside its gate."""
    two = len(b_in) // 3 * 2
    bias = b_in.clone()
    bias[:two] += b_rec[:two]
    return product(x.flatten(0, 1), w_in, bias)


def _slopes(gates: Tensor, candidate: Tensor, before: Tensor, d_gates: Tensor) -> Tensor:
    """dh/d(the sum inside each gate) into d_gates [F, B, 3H], for n that of h U_n; returns dh/d(the sum inside n)."""
    r, z, n = gates.chunk(3, -1)
    d_r, d_z, d_n = d_gates.chunk(3, -1)
    update = 1 - z
    slope = torch.addcmul(update, n.square(), update, value=-1)
    torch.mul(slope, r, out=d_n)
    torch.addcmul(d_n, d_n, r, value=-1, out=d_r).mul_(candidate)
    torch.sub(before, n, out=d_z).mul_(z).mul_(update)
    return slope


def _weight_gradients(
    d_gates: Tensor, dh: Tensor, slope: Tensor, before: Tensor, x: Tensor, w_in: Tensor, needs_x: bool
) -> tuple[Tensor | None, ...]:
    """Gradients of x, W, U and both biases of one model."""
    size = before.shape[-1]
    flat = d_gates.flatten(0, 1)
    d_rec, d_bias_rec = product_over(before.flatten(0, 1), flat).T, flat.sum(0)
    torch.mul(dh, slope, out=d_gates[..., 2 * size :])
    d_bias_in = d_bias_rec.clone()
    d_bias_in[2 * size :] = flat[:, 2 * size :].sum(0)
    d_x = product(flat, w_in.T).view_as(x) if needs_x else None
    return d_x, product_over(flat, x.flatten(0, 1)), d_rec, d_bias_in, d_bias_rec
