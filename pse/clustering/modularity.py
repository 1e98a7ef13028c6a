"""Modularity of a partition of a graph, and what deep modularity minimises.

Newman & Girvan 2004; Tsitsulin, Palowitch, Perozzi & Mueller, "Graph clustering with graph neural
networks" (DMoN), 2006.16904. Everything is exact and sparse: Tr(C^T A C) by one product with the edges,
the null model d d^T / 2m by its rank of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pse.clustering.graph import Graph
from pse.precision import full_precision


def modularity(assign: Tensor, graph: Graph, null_weight: float = 1.0) -> Tensor:
    """Q = Tr(C^T (A - null_weight d d^T / 2m) C) / 2m of soft or hard assignments C [N, k]; 0 without edges.

    null_weight: the resolution; below 1 larger communities are preferred. The reference code of DMoN
    halves the null model, which is null_weight 0.5 (and halves its whole loss).
    """
    total = graph.total
    if total <= 0:
        return (assign * 0).sum()
    with full_precision(assign.device):
        assign = assign if assign.dtype == torch.float64 else assign.float()
        inside = (assign * graph.times(assign)).sum() / total
        expected = ((graph.degrees.to(assign) @ assign) / total).square().sum()
    return inside - null_weight * expected


def collapse(assign: Tensor) -> Tensor:
    """sqrt(k) / N ||sum of the rows of C||_F - 1: 0 when all clusters are alike, sqrt(k) - 1 when one has all."""
    size, count = assign.shape
    return count**0.5 / size * assign.sum(0).norm() - 1


def dmon_loss(assign: Tensor, graph: Graph, null_weight: float = 1.0, collapse_weight: float = 1.0) -> Tensor:
    """-Q + collapse_weight times the collapse term (2006.16904, equation 4, with exact degrees)."""
    return collapse_weight * collapse(assign) - modularity(assign, graph, null_weight)


@dataclass(frozen=True)
class Blocks:
    """A graph seen from its clusters. weight: [k, k], parts of 2m within and between; degree: [k], its row sums."""

    weight: Tensor
    degree: Tensor

    def modularity(self, null_weight: float = 1.0) -> float:
        """Q of the clusters as they are."""
        return float(self.weight.diagonal().sum() - null_weight * self.degree.square().sum())

    def gains(self, null_weight: float = 1.0) -> Tensor:
        """By how much joining two clusters would raise Q: [k, k], symmetric; the diagonal is minus infinity."""
        gain = 2 * (self.weight - null_weight * self.degree.outer(self.degree))
        return gain.fill_diagonal_(-torch.inf)

    def joined(self, first: int, second: int) -> Blocks:
        """The same with two clusters as one, in the place of the first."""
        kept = [n for n in range(len(self.degree)) if n != second]
        weight, degree = self.weight.clone(), self.degree.clone()
        weight[first] += weight[second]
        weight[:, first] += weight[:, second]
        degree[first] += degree[second]
        return Blocks(weight[kept][:, kept], degree[kept])


def blocks(assign: Tensor, graph: Graph) -> Blocks:
    """The graph of the clusters of an assignment [N, k], in float64; all 0 without edges."""
    exact, total = assign.double(), max(graph.total, torch.finfo(torch.float64).tiny)
    weight = exact.T @ graph.times(exact) / total
    return Blocks(weight, exact.T @ graph.degrees / total)


@dataclass(frozen=True)
class Partition:
    """Clusters as groups of those that there were at first, and their modularity, whatever they were joined by.

    apart: of the two that are joined next, 1 - their edges / what the null model expects: 0 as joined as by chance, 1
    without an edge; smaller: part of the nodes that the smaller of these two has. Both 0 where there is but one.
    """

    groups: list[list[int]]
    modularity: float
    apart: float = 0.0
    smaller: float = 0.0

    def assign(self, first: Tensor) -> Tensor:
        """The assignment [N, len(groups)] made of the first one [N, k]."""
        return torch.stack([first[:, g].sum(1) for g in self.groups], 1)


def joins(assign: Tensor, graph: Graph, null_weight: float = 1.0) -> list[Partition]:
    """All partitions from the filled clusters of assign [N, k] down to one, by joining the pair that is best for Q.

    null_weight: of the Q that pairs are chosen by.
    """
    found, sizes = blocks(assign, graph), assign.double().mean(0).tolist()
    kept = [n for n, size in enumerate(sizes) if size > 0] or [0]
    found, groups, made = Blocks(found.weight[kept][:, kept], found.degree[kept]), [[n] for n in kept], []
    while len(groups) > 1:
        best = int(found.gains(null_weight).argmax())
        i, j = sorted((best // len(groups), best % len(groups)))
        expected = max(float(found.degree[i] * found.degree[j]), torch.finfo(torch.float64).tiny)
        apart, smaller = 1 - float(found.weight[i, j]) / expected, min(sum(sizes[n] for n in groups[k]) for k in (i, j))
        made.append(Partition(groups, found.modularity(), apart, smaller))
        found = found.joined(i, j)
        groups = [g + groups[j] if n == i else g for n, g in enumerate(groups) if n != j]
    return [*made, Partition(groups, found.modularity())]


def conductance(labels: Tensor, graph: Graph) -> float:
    """Mean over the clusters of what of their edges leads out: cut / min(volume, rest); 0 where one cluster has all."""
    found = blocks(torch.nn.functional.one_hot(labels).double(), graph)
    used = found.degree > 0
    volume, inside = found.degree[used], found.weight.diagonal()[used]
    smaller = torch.minimum(volume, 1 - volume)
    cut = torch.where(smaller > 1e-12, (volume - inside) / smaller.clamp_min(1e-12), 0.0)
    return float(cut.clamp(0, 1).mean()) if len(cut) else 0.0


def normalised_mutual_information(labels: Tensor, truth: Tensor) -> float:
    """NMI of two labellings [N] by the mean of their entropies; 1 where both have one cluster, 0 where one has."""
    pairs = torch.zeros(int(labels.max()) + 1, int(truth.max()) + 1, dtype=torch.float64)
    pairs.index_put_((labels, truth), torch.ones(len(labels), dtype=torch.float64), accumulate=True)
    joint = pairs / pairs.sum()
    one, other = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
    shared = torch.special.xlogy(joint, joint / (one * other).clamp_min(1e-300)).sum()
    entropy = -(torch.special.xlogy(one, one).sum() + torch.special.xlogy(other, other).sum()) / 2
    return 1.0 if float(entropy) <= 1e-15 else float((shared / entropy).clamp(0, 1))
