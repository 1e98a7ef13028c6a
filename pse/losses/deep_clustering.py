"""Deep clustering losses: how far the affinities of embeddings are from those of the ideal labels.

With unit-norm embeddings v_i, labels y_i and a weight r_i of every bin, the affinity losses are the
mean of (v_i.v_j - y_i.y_j)^2 over all pairs of bins, a pair counted with r_i r_j: a value that does
not depend on the length of a segment. It is computed from D x D products (Hershey et al. 2016,
eq. 5), in O(N D) memory, and costs one pass over the embeddings each way.

A segment without active bins costs nothing and has no gradient. One with a single class still
draws its bins together, as the N x N form does.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from pse.errors import PseError
from pse.precision import full_precision

Name = Literal["paper", "unweighted", "magnitude", "manifold", "whitened"]
NAMES: tuple[Name, ...] = ("paper", "unweighted", "magnitude", "manifold", "whitened")
# Of the mean eigenvalue of V^T V: what keeps its inverse bounded when the embeddings are S points.
RIDGE = 1e-3
TINY = 1e-30
# One long float32 sum of like terms drifts: near the optimum, 5 % of the loss over 12900 bins, 0.1 % in blocks.
BLOCK = 256


def _product(x: Tensor, y: Tensor) -> Tensor:
    """x^T y of x [.., N, D] and y [.., N, S], summed over blocks of bins and then over blocks."""
    whole = x.shape[-2] // BLOCK
    first, rest = whole * BLOCK, x.shape[-2] % BLOCK
    in_blocks, others = (z.narrow(-2, 0, first).unflatten(-2, (whole, BLOCK)) for z in (x, y))
    return (in_blocks.mT @ others).sum(-3) + x.narrow(-2, first, rest).mT @ y.narrow(-2, first, rest)


def _products(embeddings: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    weighted = embeddings * weights.unsqueeze(-1)
    return _product(embeddings, weighted), _product(weighted, targets)


def _gradient(embeddings: Tensor, targets: Tensor, weights: Tensor, vv: Tensor, vy: Tensor) -> Tensor:
    return (embeddings @ (vv + vv.mT)).baddbmm_(targets, vy.mT).mul_(weights.unsqueeze(-1))


class _Gram(torch.autograd.Function):
    """V^T R V [B, D, D] and V^T R Y [B, D, S]; only V has a gradient, kept in full precision as well."""

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(embeddings, targets, weights)
        with full_precision(embeddings.device):
            if embeddings.device.type != "cpu":
                return _products(embeddings, targets, weights)
            # One example at a time stays in a processor's cache: three times as fast as a batched product.
            rows = [_products(*example) for example in zip(embeddings, targets, weights, strict=True)]
            return torch.stack([vv for vv, _ in rows]), torch.stack([vy for _, vy in rows])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, vv: Tensor, vy: Tensor) -> tuple[Tensor, None, None]:
        embeddings, targets, weights = ctx.saved_tensors
        with full_precision(embeddings.device):
            return _gradient(embeddings, targets, weights, vv, vy), None, None


def class_weights(labels: Tensor, weights: Tensor) -> Tensor:
    """The paper's D^-1/2: each bin's weight over the root of its class's total, 0 in an empty class.

    labels: one-hot [B, N, S]; weights: [B, N]; returns [B, N]. Every class then has the same part in
    the loss as the root of its size, not its size.
    """
    with full_precision(labels.device):
        own = (labels @ (labels.mT @ weights.unsqueeze(-1))).squeeze(-1)
    return torch.where(own > 0, weights * own.clamp_min(TINY).rsqrt(), 0.0)


def simplex(labels: Tensor) -> Tensor:
    """Labels [B, N, S] as vertices of a regular simplex: 1 with their own, -1/(S-1) with another class.

    Directions that are told apart as far as S directions can be (Tanaka et al. 2021).
    """
    num_classes = labels.shape[-1]
    if num_classes == 1:
        return labels
    return (labels - 1 / num_classes) * (num_classes / (num_classes - 1)) ** 0.5


def affinity_loss(embeddings: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean squared difference of affinities over pairs of bins, weighted by r_i r_j.

    embeddings: [B, N, D]; targets: [B, N, S], labels or vertices; weights r: [B, N]; returns [B]. In
    float64 where the embeddings are, else in float32.
    """
    embeddings, targets, weights = _prepared(embeddings, targets, weights)
    with full_precision(embeddings.device):
        weights = weights / weights.sum(-1, keepdim=True).clamp_min(TINY)
        vv, vy = _Gram.apply(embeddings, targets, weights)
        yy = _product(targets, targets * weights.unsqueeze(-1))
        vv, vy, yy = (x.square().sum((1, 2)) for x in (vv, vy, yy))
        return vv - 2 * vy + yy


def whitened_loss(embeddings: Tensor, labels: Tensor, weights: Tensor, ridge: float = RIDGE) -> Tensor:
    """Whitened k-means: D - tr((V^T R V)^-1 V^T R Y (Y^T R Y)^-1 Y^T R V), from D - S (ideal) to D.

    embeddings: [B, N, D]; labels: one-hot [B, N, S]; weights r: [B, N]; returns [B] (Wang, Le Roux &
    Hershey 2018). `ridge` is added to V^T R V, relative to its mean eigenvalue.
    """
    embeddings, labels, weights = _prepared(embeddings, labels, weights)
    with full_precision(embeddings.device):
        weights = weights / weights.sum(-1, keepdim=True).clamp_min(TINY)
        vv, vy = _Gram.apply(embeddings, labels, weights)
        totals = (labels.mT @ weights.unsqueeze(-1)).mT
        size = vv.shape[-1]
        mean = vv.diagonal(dim1=1, dim2=2).mean(-1)
        # Nothing active leaves a matrix of zeros, which the identity makes one that has an inverse.
        extra = torch.where(mean > 0, ridge * mean, 1.0)
        factor = torch.linalg.cholesky(vv + extra[:, None, None] * torch.eye(size, dtype=vv.dtype, device=vv.device))
        half = torch.linalg.solve_triangular(factor, vy, upper=False)
        shares = torch.where(totals > 0, 1 / totals.clamp_min(TINY), 0.0)
        return torch.where(totals.sum((1, 2)) > 0, size - (half.square() * shares).sum((1, 2)), 0.0)


def deep_clustering_loss(
    name: Name, embeddings: Tensor, labels: Tensor, activity: Tensor, magnitude: Tensor | None = None
) -> Tensor:
    """The loss of a config's name: [B].

    embeddings: [B, N, D], of unit norm; labels: one-hot [B, N, S]; activity: [B, N], 0 for bins that do
    not count; magnitude: [B, N] of the mixture.
    `paper`: the affinity loss with D^-1/2 (Hershey et al. 2016); `unweighted`: without;
    `magnitude`: bins count by the magnitude of the mixture (Wang et al. 2018); `manifold`: vertices of a
    simplex for labels (Tanaka et al. 2021); `whitened`: whitened k-means.
    Raises PseError for another name, for shapes that differ and for `magnitude` without one.
    """
    if name not in NAMES:
        raise PseError(f"no deep clustering loss is named {name!r}", "loss", f"choose one of {', '.join(NAMES)}")
    embeddings, labels, activity = _prepared(embeddings, labels, activity)
    if name == "paper":
        return affinity_loss(embeddings, labels, class_weights(labels, activity))
    if name == "magnitude":
        if magnitude is None or magnitude.shape != activity.shape:
            raise PseError("a magnitude of every bin is needed", "loss magnitude", "give that of the mixture, [B, N]")
        return affinity_loss(embeddings, labels, activity * magnitude.detach().to(activity))
    if name == "manifold":
        return affinity_loss(embeddings, simplex(labels), activity)
    return (whitened_loss if name == "whitened" else affinity_loss)(embeddings, labels, activity)


def _prepared(embeddings: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All three in one precision, float64 or float32, those without a gradient detached."""
    if embeddings.dim() != 3 or targets.dim() != 3 or not embeddings.shape[:2] == targets.shape[:2] == weights.shape:
        shapes = ", ".join(str(tuple(x.shape)) for x in (embeddings, targets, weights))
        raise PseError(
            f"embeddings, labels and weights have shapes {shapes}",
            "deep clustering loss",
            "make them [B, N, D], [B, N, S] and [B, N], bins in one order",
        )
    dtype = torch.float64 if embeddings.dtype == torch.float64 else torch.float32
    return embeddings.to(dtype), targets.detach().to(dtype), weights.detach().to(dtype)
