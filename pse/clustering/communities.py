"""Communities of similar embeddings, and how many there are: deep modularity, and what it is compared with.

Some nodes are drawn and joined to a graph; they are cut into more clusters than there can be speakers;
clusters are joined again, the pair that is best for modularity first; all nodes then go where those of the graph went.
Source: Ochieng, 2305.10652, with DMoN (2006.16904) for the cut. The joining is ours: DMoN as published fills
all the clusters that it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from pse.clustering.calibration import padded
from pse.clustering.count import MAX_COUNT, read_off
from pse.clustering.cuts import CUTS, by_kmeans
from pse.clustering.graph import Graph, similarity_graph
from pse.clustering.kmeans import distances, generator
from pse.clustering.modularity import Partition, conductance, joins
from pse.clustering.options import HARDNESS, Communities
from pse.errors import PseError

# Communities of two speakers have fewer edges between them than this takes from what chance would give; where no
# validation has told better.
MIN_APART = 0.3
ALONE = "no two of its nodes are joined, which tells nothing: lower threshold of the graph"
# Unit vectors whose coordinates differ by less than this are one and the same.
SAME = 1e-5


@dataclass(frozen=True)
class Found:
    """Communities of some nodes, which any others can join.

    count: how many; shares: gives points [N, D], of this recording or of another part of it, their communities [N, S]:
    rows sum to one. modularity, conductance: of the nodes drawn; apart: 1 - edges over those of the null model, of the
    two nearest of c = 1, 2, .. communities; curve: what a calibration reads, that and what it reads off the nodes.
    note: what a user is to be told of the number.
    """

    count: int
    shares: Callable[[Tensor], Tensor]
    modularity: float
    conductance: float
    apart: list[float]
    curve: list[float]
    edge_share: float
    isolated_share: float
    note: str | None = None


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

    num_speakers: as many, where that is known (some without a node, where there are not as many different ones); None:
    as many as the graph tells. Nodes without weight can be given to communities too. Fewer than two nodes, or none
    with an edge, are one community.
    Raises PseError for what is no number, where the graph would have too many edges, and where igraph or another
    package is missing.
    """
    points = _widened(points)
    if not points.isfinite().all():
        fix = "train again with a lower learning rate"
        raise PseError("an embedding is not a finite number", f"communities of {name}", fix)
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
            ALONE if num_speakers is None and len(nodes) > 1 and graph.total <= 0 else None,
        )  # fmt: skip
    cut = CUTS[how.method](nodes, graph, how, num_speakers, random)
    if num_speakers and len(cut.assign.argmax(1).unique()) < num_speakers:
        # The graph tells fewer than there are.
        cut = by_kmeans(nodes, graph, how, num_speakers, random)
    found = joins(_hard(cut.assign), graph, how.null_weight)
    apart = _apart(found, how.min_share)
    note, count = None, num_speakers
    if count is None:
        count = _told(nodes, apart, how, name, seed, final=cut.final)
        least = min(count, len(apart))
        if count >= len(apart) and _at_bound(nodes, graph, len(apart), how, name, seed):
            note = f"at least {least} speaker{'s' if least > 1 else ''}: raise max_clusters"
        elif how.calibration is not None and not cut.final:
            note = how.calibration.note(count)
    chosen = min(found, key=lambda p: abs(len(p.groups) - count))
    assign = chosen.assign(cut.assign)
    labels, everywhere = assign.argmax(1), cut.everywhere if how.assign == "network" else None

    def assigned(given: Tensor) -> Tensor:
        given = _widened(given)
        whole = _nearest(given, nodes, assign) if everywhere is None else chosen.assign(everywhere(given))
        total = whole.sum(1, keepdim=True)
        # What went to clusters that no drawn node is in, and where nothing is left, equal parts.
        whole = torch.where(total > 0, whole / total.clamp_min(1e-30), 1 / whole.shape[1])
        return functional.pad(whole, (0, size - whole.shape[1]))

    # Fewer different nodes than speakers who are known to be there leave some without any.
    size = num_speakers or assign.shape[1]
    return Found(
        size, assigned, chosen.modularity, conductance(labels, graph), apart, _curve(apart, nodes), graph.edge_share,
        graph.isolated_share, note,
    )  # fmt: skip


def _widened(points: Tensor) -> Tensor:
    return points if points.dtype == torch.float64 else points.float()


def _curve(apart: list[float], nodes: Tensor) -> list[float]:
    return [*padded(apart, MAX_COUNT), *read_off(nodes[None], nodes.new_ones(1, len(nodes)))[0].tolist()]


def counted(apart: list[float], min_apart: float | None) -> int:
    """The number of communities: the two nearest of each number up to it are apart by at least min_apart.

    apart: of a `Found`; None: a usual limit.
    """
    limit = MIN_APART if min_apart is None else min_apart
    return _before(value < limit for value in apart[1:])


def _before(ends: Iterable[bool]) -> int:
    """The number of communities before the first split, into 2, 3, .., that is none."""
    count = 1
    for end in ends:
        if end:
            break
        count += 1
    return count


def _told(nodes: Tensor, apart: list[float], how: Communities, name: str, seed: int, *, final: bool) -> int:
    """The number of communities of nodes [n, D] whose clusters are so far apart; final: the cut has told it, too."""
    if final:
        count = len(apart)
    elif how.calibration is None:
        count = counted(apart, how.min_apart)
    else:
        count = how.calibration.count(_curve(apart, nodes))
    if count == 1 or not how.num_nulls:
        return count
    chance = _chance(nodes, count, how, name, seed, final=final)
    return _before(value <= least for value, least in zip(apart[1:count], chance[1:], strict=True))


def _chance(nodes: Tensor, count: int, how: Communities, name: str, seed: int, *, final: bool) -> list[float]:
    """How far apart the two nearest of 1 to `count` communities of one Gaussian are, but for the part `significance`.

    The Gaussian has mean and covariance of the nodes [n, D], and its points are brought to the unit sphere.
    """
    mean = nodes.double().mean(0)
    centred = nodes.double() - mean
    values, axes = torch.linalg.eigh(centred.T @ centred / len(nodes))
    spread, rows = axes * values.clamp_min(0).sqrt(), []
    for number in range(how.num_nulls):
        random = generator(seed, f"{name}/null {number}")
        normal = torch.randn(nodes.shape, generator=random, dtype=torch.float64)
        blob = functional.normalize(mean + normal @ spread.T, dim=1).to(nodes)
        graph = similarity_graph(blob, how.graph, seed=seed, place=name)
        # A cut that tells the number itself is to make the same one here.
        cut = CUTS[how.method](blob, graph, how, count if final else None, random)
        rows.append(padded(_apart(joins(_hard(cut.assign), graph, how.null_weight), how.min_share), count))
    rank = math.ceil((1 - how.significance) * (how.num_nulls + 1) - 1e-9) - 1
    return [sorted(column)[rank] for column in zip(*rows, strict=True)]


def _at_bound(nodes: Tensor, graph: Graph, count: int, how: Communities, name: str, seed: int) -> bool:
    """Whether there may be more communities of nodes [n, D] than the `count` clusters of a cut, where none were joined.

    The small network may leave clusters empty and put two speakers into one: a finer cut by k-means tells.
    """
    if count >= how.max_clusters or how.method != "modularity":
        return count >= how.max_clusters and how.method != "leiden"
    finer = replace(how, method="kmeans", max_clusters=2 * how.max_clusters)
    cut = by_kmeans(nodes, graph, finer, None, generator(seed, f"{name}/finer"))
    apart = _apart(joins(_hard(cut.assign), graph, how.null_weight), how.min_share)
    return _told(nodes, apart, finer, name, seed, final=False) > count


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
