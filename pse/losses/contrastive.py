"""Contrastive losses: vectors of one speaker are drawn together, those of others pushed apart.

`sup_con` is L_out of Khosla et al., "Supervised contrastive learning", NeurIPS 2020 (2004.11362), eq. 2: the
mean over an anchor's positives is outside the logarithm, and the other positives are in its denominator.
`nt_xent` is the loss of Chen et al., "A simple framework for contrastive learning", ICML 2020 (2002.05709)
with labels: every positive pair is a term of its own, whose denominator has no other positive. Where every
label occurs twice they are one and the same.

The N x N similarities are made `chunk` anchors at a time, and an anchor meets only its own group, so memory is
O(chunk N) and time that of the pairs really compared. The gradient is made in the same pass: it is no larger than
the vectors, while to make it later would mean every product and comparison again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pse.errors import PseError
from pse.precision import full_precision

Name = Literal["sup_con", "nt_xent"]
NAMES: tuple[Name, ...] = ("sup_con", "nt_xent")
# Anchors at a time: with 16384 vectors, some 200 MB of similarities.
CHUNK = 512


class _Nodes(NamedTuple):
    """What says which pairs are compared and which of them are positive; groups in ascending order."""

    labels: Tensor
    groups: Tensor | None
    starts: Tensor | None
    recordings: Tensor | None
    min_apart_samples: int

    def blocks(self, chunk: int) -> Iterator[tuple[slice, slice]]:
        """Anchors, `chunk` at a time, and the vectors of all groups that these are of."""
        size = len(self.labels)
        first = torch.arange(0, size, chunk)
        last = (first + chunk).clamp_max(size)
        if self.groups is None:
            begin, end = torch.zeros_like(first), torch.full_like(last, size)
        else:
            groups = self.groups.cpu()
            begin = torch.searchsorted(groups, groups[first])
            end = torch.searchsorted(groups, groups[last - 1], right=True)
        for a, b, c, d in torch.stack([first, last, begin, end], 1).tolist():
            yield slice(a, b), slice(c, d)

    def pairs(self, anchors: slice, others: slice) -> tuple[Tensor, Tensor]:
        """Which pairs are positive and which negative: bool, [anchors, others] each; some are neither."""
        compared = torch.ones(anchors.stop - anchors.start, others.stop - others.start, dtype=torch.bool)
        compared = compared.to(self.labels.device)
        compared.diagonal(anchors.start - others.start).fill_(False)
        if self.groups is not None:
            compared &= self.groups[anchors, None] == self.groups[others]
        if self.starts is not None:
            near = (self.starts[anchors, None] - self.starts[others]).abs_() < self.min_apart_samples
            compared &= ~(near & (self.recordings[anchors, None] == self.recordings[others]))
        same = self.labels[anchors, None] == self.labels[others]
        return same & compared, compared & ~same


class _Contrast(torch.autograd.Function):
    """Weighted mean of the terms of all anchors that have positives; only the vectors have a gradient."""

    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, weights: Tensor, nodes: _Nodes, options: tuple[Name, float, int], learns: bool
    ) -> Tensor:
        name, temperature, chunk = options
        terms = _sup_con if name == "sup_con" else _nt_xent
        total, mass = vectors.new_zeros(()), vectors.new_zeros(())
        gradient = torch.zeros_like(vectors) if learns else None
        with full_precision(vectors.device):
            for anchors, others in nodes.blocks(chunk):
                positive, negative = nodes.pairs(anchors, others)
                count = positive.sum(1)
                share = weights[anchors] * (count > 0)
                values, slopes = terms(
                    vectors[anchors] @ vectors[others].T / temperature, positive, negative, count, learns
                )  # fmt: skip
                # An anchor without positives may have a value that is not finite.
                total += torch.where(share > 0, share * values, 0.0).sum()
                mass += share.sum()
                if learns:
                    slopes.mul_(share.unsqueeze(1))
                    gradient[anchors] += slopes @ vectors[others]
                    gradient[others] += slopes.T @ vectors[anchors]
        mass = mass.clamp_min(torch.finfo(mass.dtype).tiny)
        if learns:
            ctx.save_for_backward(gradient.div_(temperature * mass))
        return total / mass

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return grad * gradient, None, None, None, None


def _sup_con(
    logits: Tensor, positive: Tensor, negative: Tensor, count: Tensor, learns: bool
) -> tuple[Tensor, Tensor | None]:
    """Terms [N] of anchors, and their slopes by the logits [N, M]: softmax over the pairs less 1/|P| on positives."""
    share = 1 / count.clamp_min(1).to(logits)
    alike = torch.where(positive, logits, 0.0).sum(1) * share
    logits.masked_fill_(~(positive | negative), -torch.inf)
    # Infinity for one without positives: its slopes are then 0, however close its negatives are.
    whole = torch.where(count > 0, logits.logsumexp(1), torch.inf)
    values = whole - alike
    if not learns:
        return values, None
    return values, logits.sub_(whole.unsqueeze(1)).exp_().sub_(positive * share.unsqueeze(1))


def _nt_xent(
    logits: Tensor, positive: Tensor, negative: Tensor, count: Tensor, learns: bool
) -> tuple[Tensor, Tensor | None]:
    """The same for log(1 + exp(n - s)), averaged over the positives s; n: log of the sum of exp over the negatives."""
    share = 1 / count.clamp_min(1).to(logits).unsqueeze(1)
    lowest = torch.finfo(logits.dtype).min
    rest = logits.masked_fill(~negative, -torch.inf)
    # Without negatives nothing is to be learnt: n is then as low as a number can be, not minus infinity.
    against = rest.logsumexp(1, keepdim=True).clamp_min(lowest)
    gaps = torch.where(positive, against - logits, lowest)
    values = (functional.softplus(gaps, threshold=50) * share).sum(1)
    if not learns:
        return values, None
    pulls = gaps.sigmoid_().mul_(share)
    return values, rest.sub_(against).exp_().mul_(pulls.sum(1, keepdim=True)).sub_(pulls)


def contrastive_loss(
    name: Name,
    vectors: Tensor,
    labels: Tensor,
    temperature: float = 0.1,
    *,
    weights: Tensor | None = None,
    groups: Tensor | None = None,
    starts_samples: Tensor | None = None,
    recordings: Tensor | None = None,
    min_apart_samples: int = 0,
    chunk: int = CHUNK,
) -> Tensor:
    """The loss of a config's name, a scalar: the weighted mean over the anchors that have positives, else 0.

    vectors: [N, D], of unit norm; labels: whole numbers [N]; an anchor's positives are the others with its label.
    weights: of an anchor, [N], at least 0. groups: whole numbers [N]; only vectors of one group are compared, e.g.
    those of one mixture. starts_samples and recordings: whole numbers [N]; two that start less than
    `min_apart_samples` apart in one recording share samples, and are neither positive nor in a denominator.
    In float64 where the vectors are, else in float32. Raises PseError for another name, for a temperature
    that is not positive, and for shapes that differ.
    """
    if name not in NAMES:
        raise PseError(f"no contrastive loss is named {name!r}", "loss", f"choose one of {', '.join(NAMES)}")
    if not 0 < temperature < float("inf") or chunk < 1:
        what = f"temperature and chunk must be positive, got {temperature} and {chunk}"
        raise PseError(what, "contrastive loss", "set e.g. temperature: 0.1")
    if min_apart_samples > 0 and (starts_samples is None or recordings is None):
        what = "min_apart_samples needs to know where every vector starts"
        raise PseError(what, "contrastive loss", "give starts_samples and recordings, [N] each")
    apart = (starts_samples, recordings) if min_apart_samples > 0 else (None, None)
    tables = [_table(x, vectors) for x in (labels, groups, *apart)]
    weights = vectors.new_ones(len(vectors)) if weights is None else _table(weights, vectors)
    vectors = vectors if vectors.dtype == torch.float64 else vectors.float()
    if groups is not None:
        order = tables[1].argsort(stable=True)
        vectors, weights = vectors[order], weights[order]
        tables = [x if x is None else x[order] for x in tables]
    learns = torch.is_grad_enabled() and vectors.requires_grad
    options = (name, temperature, chunk)
    return _Contrast.apply(vectors, weights.to(vectors.dtype), _Nodes(*tables, min_apart_samples), options, learns)


def info_nce(predictions: Tensor, targets: Tensor, compared: Tensor, temperature: float = 0.1) -> Tensor:
    """Mean of -log of the softmax that a prediction gives its own target among all: a scalar, 0 for none.

    van den Oord et al., "Representation learning with contrastive predictive coding" (1807.03748), eq. 4.
    predictions, targets: [N, D], of unit norm, in one order; compared: bool [N, N], the targets that a prediction is
    told from, beside its own. In float64 where the predictions are, else in float32.
    """
    wide = torch.float64 if predictions.dtype == torch.float64 else torch.float32
    with full_precision(predictions.device):
        logits = predictions.to(wide) @ targets.to(wide).T / temperature
        own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        chance = logits.masked_fill(~(compared | own), -torch.inf).log_softmax(1).diagonal()
        return -chance.sum() / max(1, len(chance))


def _table(values: Tensor | None, vectors: Tensor) -> Tensor | None:
    """Values [N] where the vectors [N, D] are, without a gradient."""
    if values is None:
        return None
    if vectors.dim() != 2 or values.shape != vectors.shape[:1]:
        what = f"vectors and what is known of them have shapes {tuple(vectors.shape)} and {tuple(values.shape)}"
        raise PseError(what, "contrastive loss", "make them [N, D] and [N]")
    return values.detach().to(vectors.device)
