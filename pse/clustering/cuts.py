"""First cuts of a graph of nodes into clusters, by name: deep modularity, and what it is compared with.

They make more clusters than there can be speakers, or (`final`) as many as they tell; `communities` joins them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from pse.clustering.eigen import largest_gap, leading, nme_graph
from pse.clustering.graph import Graph, SparseGraph
from pse.clustering.kmeans import kmeans
from pse.clustering.modularity import dmon_loss
from pse.clustering.options import Communities
from pse.errors import PseError

# A gap behind more eigenvalues than this is not looked for.
MOST = 20
# igraph draws from one generator for the whole process.
_igraph_draws = threading.Lock()


@dataclass(frozen=True)
class Cut:
    """A first cut of a graph. assign: [n, k] of its nodes; everywhere: what gives any points [N, D] theirs, where
    there is such; final: whether the number of clusters is the answer, and none are to be joined."""

    assign: Tensor
    everywhere: Callable[[Tensor], Tensor] | None = None
    final: bool = False


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
    """Deep modularity: a network from embedding to cluster, trained on this graph alone.

    With a graph convolution its first layer is SELU(D^-1/2 A D^-1/2 X W + X V), as in DMoN (2006.16904).
    """
    convolved = how.features == "graph_convolution"
    with torch.inference_mode(False), torch.enable_grad():
        # A copy: what was made in inference mode cannot be trained on.
        inputs = torch.cat([nodes, neighbourhoods(nodes, graph)], 1) if convolved else nodes.clone()
        head = Head(inputs.shape[1], how, random).to(inputs)
        optimiser = torch.optim.Adam(head.parameters(), how.lr)
        for _ in range(how.steps):
            optimiser.zero_grad()
            dmon_loss(head(inputs), graph, how.null_weight, how.collapse_weight).backward()
            optimiser.step()
    head.eval().requires_grad_(False)
    # Nodes of no graph have no neighbours that it could hear of.
    return Cut(head(inputs), None if convolved else head)


def neighbourhoods(nodes: Tensor, graph: Graph) -> Tensor:
    """D^-1/2 A D^-1/2 X of nodes X [n, D]: zeros for the isolated ones."""
    scale = torch.where(graph.degrees > 0, graph.degrees, torch.inf).rsqrt().to(nodes).unsqueeze(1)
    return scale * graph.times(scale * nodes)


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
    with _igraph_draws:
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
    return _by_eigenvectors(nodes, nme_graph(nodes, _looked_at(how), how.graph), how, num_speakers, random)


def _by_eigenvectors(
    nodes: Tensor, graph: Graph, how: Communities, num_speakers: int | None, random: torch.Generator
) -> Cut:
    values, vectors = leading(graph, _looked_at(how) + 1)
    count = num_speakers or min(largest_gap(values), how.max_clusters)
    rows = nn.functional.normalize(vectors[:, :count].to(nodes), dim=1)
    return Cut(_kmeans(rows, count, random), final=True)


def _looked_at(how: Communities) -> int:
    """How many eigenvalues tell: more than are allowed, or the gap behind those of more speakers is not seen."""
    return max(how.max_clusters, MOST)


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
