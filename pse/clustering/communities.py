"""Communities of similar embeddings, and how many there are: deep modularity, and what it is compared with.

Some nodes are drawn and joined to a graph; they are cut into more clusters than there can be speakers;
clusters are joined again while that raises modularity; all nodes then go where those of the graph went.
Source: Ochieng, 2305.10652, with DMoN (2006.16904) for the cut. The joining is ours: DMoN as published fills
all the clusters that it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from pse.clustering.eigen import largest_gap, leading, nme_graph
from pse.clustering.graph import Graph, SparseGraph, similarity_graph
from pse.clustering.kmeans import distances, generator, kmeans
from pse.clustering.modularity import Partition, conductance, dmon_loss, joins
from pse.clustering.options import HARDNESS, Communities
from pse.errors import PseError

# Communities of two speakers have fewer edges between them than this takes from what chance would give; where no
# validation has told better.
MIN_APART = 0.3
# Unit vectors whose coordinates differ by less than this are one and the same.
SAME = 1e-5


@dataclass(frozen=True)
class Cut:
    """A first cut of a graph. assign: [n, k] of its nodes; everywhere: what gives any points [N, D] theirs, where
    there is such; final: whether the number of clusters is the answer, and none are to be joined."""

    assign: Tensor
    everywhere: Callable[[Tensor], Tensor] | None = None
    final: bool = False



@dataclass(frozen=True)
class Found:
    """What was found. assign: [N, S] of all nodes, rows sum to one; modularity, conductance: of the nodes drawn;
    apart: 1 - edges over those of the null model, of the two nearest of c = 1, 2, .. communities."""

    assign: Tensor
    modularity: float
    conductance: float
    apart: list[float]
    edge_share: float
    isolated_share: float

    @property
    def count(self) -> int:
        """How many communities there are."""
        return self.assign.shape[1]


def communities(
    points: Tensor,
    weights: Tensor,
    how: Communities,
    *,
    num_speakers: int | None = None,
    name: str = "recording",
    seed: int = 0,
) -> Found:
    """Communities of unit vectors [N, D], of which those with a weight [N] above 0 are nodes.

    num_speakers: as many, where that is known; None: as many as the graph tells. Nodes without weight are
    given to communities too. Fewer than two nodes, or none with an edge, are one community.
    Raises PseError where the graph would have too many edges, and where igraph or another package is missing.
    """
    points = points if points.dtype == torch.float64 else points.float()
    random = generator(seed, f"{name}/communities")
    active = (weights > 0).nonzero().squeeze(1)
    drawn = active[torch.randperm(len(active), generator=random)[: how.num_nodes]]
    nodes = points[drawn]
    graph = similarity_graph(nodes, how.graph, seed=seed, place=name) if len(nodes) > 1 else None
    if graph is None or graph.total <= 0 or (nodes - nodes[0]).abs().max() < SAME:
        # Nothing tells one node from another, or all are alone: that is one speaker.
        # Where more are known to be there, each has an equal part.
        whole = points.new_ones(len(points), num_speakers or 1) / (num_speakers or 1)
        shares = (0.0, 1.0) if graph is None else (graph.edge_share, graph.isolated_share)
        return Found(whole, 0.0, 0.0, [1.0], *shares)
    cut = CUTS[how.method](nodes, graph, how, num_speakers, random)
    if num_speakers and len(cut.assign.argmax(1).unique()) < num_speakers:
        # The graph tells fewer than there are.
        cut = by_kmeans(nodes, graph, how, num_speakers, random)
    found = joins(_hard(cut.assign), graph, how.null_weight)
    apart = _apart(found, how.min_share)
    count = num_speakers or (len(found[0].groups) if cut.final else counted(apart, how.min_apart))
    chosen = min(found, key=lambda p: abs(len(p.groups) - count))
    assign = chosen.assign(cut.assign)
    whole = _nearest(points, nodes, assign) if cut.everywhere is None else chosen.assign(cut.everywhere(points))
    # What went to clusters that no drawn node is in.
    whole = whole / whole.sum(1, keepdim=True).clamp_min(1e-6)
    labels = assign.argmax(1)
    return Found(whole, chosen.modularity, conductance(labels, graph), apart, graph.edge_share, graph.isolated_share)


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


class Head(nn.Module):
    """Embedding [.., D] -> probabilities of clusters [.., k]: SELU layers, and dropout on the logits as in DMoN."""

    def __init__(self, width: int, how: Communities, random: torch.Generator) -> None:
        super().__init__()
        sizes = [width, *[how.hidden_size] * how.num_layers, how.max_clusters]
        # Without torch's own first weights, which draw from a generator that is not ours.
        self.layers = nn.ModuleList(
            nn.utils.skip_init(nn.Linear, a, b) for a, b in zip(sizes, sizes[1:], strict=False)
        )  # fmt: skip
        for layer in self.layers:
            nn.init.orthogonal_(layer.weight, generator=random)
            nn.init.zeros_(layer.bias)
        self.dropout, self.random = how.dropout, random

    def forward(self, points: Tensor) -> Tensor:
        """Probabilities [.., k]."""
        for layer in self.layers[:-1]:
            points = nn.functional.selu(layer(points))
        logits = self.layers[-1](points)
        if self.training and self.dropout:
            kept = torch.rand(logits.shape, generator=self.random).to(logits) >= self.dropout
            logits = logits * kept / (1 - self.dropout)
        return logits.softmax(-1)


def by_modularity(
    nodes: Tensor, graph: Graph, how: Communities, num_speakers: int | None, random: torch.Generator
) -> Cut:
    """Deep modularity: a network from embedding to cluster, trained on this graph alone."""
    with torch.inference_mode(False), torch.enable_grad():
        # A copy: what was made in inference mode cannot be trained on.
        inputs = nodes.clone()
        head = Head(inputs.shape[1], how, random).to(inputs)
        optimiser = torch.optim.Adam(head.parameters(), how.lr)
        for _ in range(how.steps):
            optimiser.zero_grad()
            dmon_loss(head(inputs), graph, how.null_weight, how.collapse_weight).backward()
            optimiser.step()
    head.eval().requires_grad_(False)
    return Cut(head(nodes), head)


def by_leiden(nodes: Tensor, graph: Graph, how: Communities, num_speakers: int | None, random: torch.Generator) -> Cut:
    """Leiden's search for the best modularity (Traag, Waltman & van Eck 2019), by igraph."""
    try:
        import igraph
    except ImportError as error:
        fix = "pip install igraph, or choose another method"
        raise PseError("the method leiden needs the package igraph", "communities", fix) from error
    if not isinstance(graph, SparseGraph):
        raise PseError("leiden needs a graph of edges", "communities", "set graph.kind: threshold or knn")
    edges = sparse.triu(graph.matrix).tocoo()
    peer = igraph.Graph(n=graph.num_nodes, edges=np.stack([edges.row, edges.col], 1))
    igraph.set_random_number_generator(Random(_number(random)))
    found = peer.community_leiden("modularity", weights=edges.data, resolution=how.null_weight, n_iterations=-1)
    return Cut(nn.functional.one_hot(torch.tensor(found.membership)).to(nodes))


def by_kmeans(nodes: Tensor, graph: Graph, how: Communities, num_speakers: int | None, random: torch.Generator) -> Cut:
    """k-means of the embeddings themselves, into as many clusters as speakers where these are known."""
    return Cut(_kmeans(nodes, num_speakers or how.max_clusters, random))


def by_spectral(
    nodes: Tensor, graph: Graph, how: Communities, num_speakers: int | None, random: torch.Generator
) -> Cut:
    """k-means of the leading eigenvectors of the normalised graph (Ng, Jordan & Weiss 2002); the largest gap counts."""
    return _by_eigenvectors(nodes, graph, how, num_speakers, random)


def by_nme(nodes: Tensor, graph: Graph, how: Communities, num_speakers: int | None, random: torch.Generator) -> Cut:
    """The same on neighbours whose number makes the normalised largest gap best (Park et al., 2003.02405)."""
    return _by_eigenvectors(nodes, nme_graph(nodes, how.max_clusters), how, num_speakers, random)


def _by_eigenvectors(
    nodes: Tensor, graph: Graph, how: Communities, num_speakers: int | None, random: torch.Generator
) -> Cut:
    values, vectors = leading(graph, how.max_clusters + 1)
    count = num_speakers or largest_gap(values)
    rows = nn.functional.normalize(vectors[:, :count].to(nodes), dim=1)
    return Cut(_kmeans(rows, count, random), final=True)


def _kmeans(points: Tensor, count: int, random: torch.Generator) -> Tensor:
    count = min(count, len(points))
    labels = kmeans(points[None], count, seed=_number(random), restarts=4).labels[0]
    return nn.functional.one_hot(labels, count).to(points)


def _number(random: torch.Generator) -> int:
    return int(torch.randint(2**31, (), generator=random))


CUTS: dict[str, Callable[..., Cut]] = {
    "modularity": by_modularity,
    "leiden": by_leiden,
    "kmeans": by_kmeans,
    "spectral": by_spectral,
    "nme": by_nme,
}
