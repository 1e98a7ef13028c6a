"""Layers of convolutional networks over [B, C, F], written for little memory traffic on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Pointwise(nn.Linear):
    """1x1 convolution as one matrix product per example, which is what a CPU multiplies fastest."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_out, F] of x: [B, C_in, F]."""
        return torch.baddbmm(self.bias[:, None], self.weight.expand(len(x), -1, -1), x)

    def add_to(self, total: Tensor | None, x: Tensor) -> Tensor:
        """total + W x without the bias: the product is accumulated inside the matrix multiplication."""
        weight = self.weight.expand(len(x), -1, -1)
        return torch.bmm(weight, x) if total is None else torch.baddbmm(total, weight, x)


class PReLU(nn.PReLU):
    """PReLU with one slope; training on a CPU sums the slope's gradient without a tensor for its terms."""

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x; for 0 < slope also the same sign."""
        if x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return _PReLUFunction.apply(x, self.weight)
        return super().forward(x)


class _PReLUFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return functional.leaky_relu(x, slope.item())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        grad_x = torch.ops.aten.leaky_relu_backward(grad, x, slope.item(), False)
        grad_slope = (grad * x.clamp(max=0)).sum(dtype=slope.dtype)
        return grad_x, grad_slope.reshape(slope.shape)


class PastMoments:
    """What a cumulative norm remembers of a stream: number and sums, in float64 so that hours do not drift."""

    def __init__(self) -> None:
        self.num_frames = 0
        self.sums: Tensor | float = 0.0

    def include(self, mean: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
        """Means of mean and power, [B, F] each, over each of F >= 1 new frames and all before it."""
        sums = torch.stack((mean, power)).double().cumsum(2) + self.sums
        first, self.num_frames = self.num_frames + 1, self.num_frames + mean.shape[1]
        self.sums = sums[..., -1:]
        count = torch.arange(first, self.num_frames + 1, dtype=sums.dtype, device=sums.device)
        mean, power = (sums / count).to(mean.dtype).unbind(0)
        return mean, power


class CumulativeNorm(nn.Module):
    """Cumulative layer norm: mean and variance over all channels of this and all earlier frames.

    The causal counterpart of global layer norm (Luo & Mesgarani 2019, Conv-TasNet, section II-E).
    """

    def __init__(self, num_channels: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.eps = eps

    def forward(self, x: Tensor, past: PastMoments | None = None) -> Tensor:
        """Normalised [B, C, F] of x: [B, C, F]; `past` holds the frames of a stream that came before."""
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        mean, scale = moments_to_scale(wide.mean(1), wide.square().mean(1), self.eps, causal=True, past=past)
        normalised = (wide - mean[:, None]) * scale[:, None]
        return torch.addcmul(self.bias[:, None], normalised, self.weight[:, None]).to(x.dtype)


def make_norm(num_channels: int, causal: bool, eps: float = 1e-8) -> nn.GroupNorm | CumulativeNorm:
    """Global layer norm over channels and frames, or its cumulative form; both have one gain a channel."""
    return CumulativeNorm(num_channels, eps) if causal else nn.GroupNorm(1, num_channels, eps)


def moments_to_scale(
    mean: Tensor, power: Tensor, eps: float, causal: bool, past: PastMoments | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation, [B, F] or [B, 1], from each frame's mean and mean square: [B, F].

    Over all frames, or over each frame and those before it; with `past`, over those of a stream too.
    """
    if past is not None:
        mean, power = past.include(mean, power)
    elif causal:
        count = torch.arange(1, mean.shape[1] + 1, dtype=mean.dtype, device=mean.device)
        mean, power = mean.cumsum(1) / count, power.cumsum(1) / count
    else:
        mean, power = mean.mean(1, keepdim=True), power.mean(1, keepdim=True)
    return mean, torch.rsqrt((power - mean.square()).clamp_min(0.0) + eps)


def overlap_add(frames: Tensor, stride: int) -> Tensor:
    """Signal [B, (F - 1) * stride + L] that sums frames: [B, L, F] at their places; stride divides L."""
    length, num_frames = frames.shape[1:]
    pieces = length // stride
    total = frames.new_zeros(len(frames), num_frames + pieces - 1, stride)
    for i in range(pieces):
        total[:, i : i + num_frames] += frames[:, i * stride : (i + 1) * stride].transpose(1, 2)
    return total.flatten(1)
