"""Communities of similar embeddings, and how many there are: deep modularity, and what it is compared with.

Some nodes are drawn and joined to a graph; they are cut into more clusters than there can be speakers;
clusters are joined again, the pair that is best for modularity first; all nodes then go where those of the graph went.
Source: Ochieng, 2305.10652, with DMoN (2006.16904) for the cut. The joining is ours: DMoN as published fills
all the clusters that it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pse.clustering.calibration import padded
from pse.clustering.count import MAX_COUNT, eigenvalues
from pse.clustering.cuts import CUTS, by_kmeans
from pse.clustering.graph import similarity_graph
from pse.clustering.kmeans import distances, generator
from pse.clustering.modularity import Partition, conductance, joins
from pse.clustering.options import HARDNESS, Communities

# Communities of two speakers have fewer edges between them than this takes from what chance would give; where no
# validation has told better.
MIN_APART = 0.3
# Unit vectors whose coordinates differ by less than this are one and the same.
SAME = 1e-5


@dataclass(frozen=True)
class Found:
    """Communities of some nodes, which any others can join.

    count: how many; shares: gives points [N, D], of this recording or of another part of it, their communities [N, S]:
    rows sum to one. modularity, conductance: of the nodes drawn; apart: 1 - edges over those of the null model, of the
    two nearest of c = 1, 2, .. communities; curve: what a calibration reads, that and the eigenvalues of the nodes.
    """

    count: int
    shares: Callable[[Tensor], Tensor]
    modularity: float
    conductance: float
    apart: list[float]
    curve: list[float]
    edge_share: float
    isolated_share: float


# The small network is trained even where all around it is inference, whose tensors autograd does not take.
@torch.inference_mode(False)
@torch.no_grad()
def find(
    points: Tensor,
    weights: Tensor,
    how: Communities,
    *,
    num_speakers: int | None = None,
    name: str = "recording",
    seed: int = 0,
) -> Found:
    """Communities of unit vectors [N, D], of which those with a weight [N] above 0 are nodes; all on the processor.

    num_speakers: as many, where that is known; None: as many as the graph tells. Nodes without weight can be
    given to communities too. Fewer than two nodes, or none with an edge, are one community.
    Raises PseError where the graph would have too many edges, and where igraph or another package is missing.
    """
    points = _widened(points)
    random = generator(seed, f"{name}/communities")
    active = (weights > 0).nonzero().squeeze(1)
    drawn = active[torch.randperm(len(active), generator=random)[: how.num_nodes]]
    nodes = points[drawn]
    graph = similarity_graph(nodes, how.graph, seed=seed, place=name) if len(nodes) > 1 else None
    if graph is None or graph.total <= 0 or (nodes - nodes[0]).abs().max() < SAME:
        # Nothing tells one node from another, or all are alone: that is one speaker.
        # Where more are known to be there, each has an equal part.
        count, shares = num_speakers or 1, (0.0, 1.0) if graph is None else (graph.edge_share, graph.isolated_share)
        return Found(
            count, lambda given: _widened(given).new_ones(len(given), count) / count, 0.0, 0.0, [1.0],
            _curve([1.0], nodes[:1]), *shares,
        )  # fmt: skip
    cut = CUTS[how.method](nodes, graph, how, num_speakers, random)
    if num_speakers and len(cut.assign.argmax(1).unique()) < num_speakers:
        # The graph tells fewer than there are.
        cut = by_kmeans(nodes, graph, how, num_speakers, random)
    found = joins(_hard(cut.assign), graph, how.null_weight)
    apart = _apart(found, how.min_share)
    curve = _curve(apart, nodes)
    if num_speakers or cut.final:
        count = num_speakers or len(found[0].groups)
    else:
        count = counted(apart, how.min_apart) if how.calibration is None else how.calibration.count(curve)
    chosen = min(found, key=lambda p: abs(len(p.groups) - count))
    assign = chosen.assign(cut.assign)
    labels, everywhere = assign.argmax(1), cut.everywhere

    def assigned(given: Tensor) -> Tensor:
        given = _widened(given)
        whole = _nearest(given, nodes, assign) if everywhere is None else chosen.assign(everywhere(given))
        total = whole.sum(1, keepdim=True)
        # What went to clusters that no drawn node is in, and where nothing is left, equal parts.
        return torch.where(total > 0, whole / total.clamp_min(1e-30), 1 / whole.shape[1])

    about = (chosen.modularity, conductance(labels, graph), apart, curve, graph.edge_share, graph.isolated_share)
    return Found(assign.shape[1], assigned, *about)


def _widened(points: Tensor) -> Tensor:
    return points if points.dtype == torch.float64 else points.float()


def _curve(apart: list[float], nodes: Tensor) -> list[float]:
    spectrum = eigenvalues(nodes[None], nodes.new_ones(1, len(nodes)), MAX_COUNT)[0]
    return [*padded(apart, MAX_COUNT), *spectrum.tolist()]


def counted(apart: list[float], min_apart: float | None) -> int:
    """The number of communities: the two nearest of each number up to it are apart by at least min_apart.

    apart: of a `Found`; None: a usual limit.
    """
    limit, count = MIN_APART if min_apart is None else min_apart, 1
    for value in apart[1:]:
        if value < limit:
            break
        count += 1
    return count


def _apart(found: list[Partition], min_share: float) -> list[float]:
    """How far apart the two nearest of c communities are, for c = 1, 2, ..: 1 for the first.

    It is 0 where the smaller of the two is smaller than any speaker.
    """
    return [1.0, *(p.apart if p.smaller >= min_share else 0.0 for p in reversed(found[:-1]))]


def _hard(assign: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(assign.argmax(1), assign.shape[1]).to(assign)


def _nearest(points: Tensor, nodes: Tensor, assign: Tensor) -> Tensor:
    """Assignment [N, S] of any points by their distance to the means of communities [n, S] of nodes."""
    centroids = (assign.T @ nodes) / assign.sum(0).clamp_min(1e-12).unsqueeze(1)
    return torch.softmax(-HARDNESS * distances(points[None], centroids[None])[0], 0).T
