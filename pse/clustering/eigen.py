"""Eigenvalues of a normalised graph: what spectral clustering cuts by, and how many clusters they tell of.

Ng, Jordan & Weiss 2002; the number of neighbours by the normalised maximum eigengap (NME) is that of
Park, Han, Kumar & Narayanan, "Auto-tuning spectral clustering for speaker diarization", 2003.02405.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from pse.clustering.graph import Graph, SparseGraph, guard, neighbours
from pse.clustering.options import GraphOptions

# Numbers of neighbours that NME tries, as parts of the nodes, and the smallest: fewer leave many small islands.
SHARES = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3)
MIN_NEIGHBOURS = 10
# An eigenvalue this near to 1 is that of a part of which about a twentieth of the edges lead out: a cluster.
NEAR_ONE = 0.95
# Below this many nodes all eigenvalues are found at once.
FEW = 64


def leading(graph: Graph, size: int) -> tuple[Tensor, Tensor]:
    """The largest `size` eigenvalues, falling, [size] of D^-1/2 A D^-1/2 and their vectors [N, size], float64.

    Isolated nodes have zeros; zeros follow where there are fewer nodes.
    """
    count = graph.num_nodes
    scale = torch.where(graph.degrees > 0, graph.degrees.clamp_min(1e-300).rsqrt(), 0.0)

    def product(x: np.ndarray) -> np.ndarray:
        columns = torch.from_numpy(np.asarray(x, np.float64).reshape(count, -1))
        return (scale[:, None] * graph.times(scale[:, None] * columns)).numpy()

    wanted = min(size, count)
    if count <= max(FEW, wanted + 1):
        values, vectors = np.linalg.eigh(product(np.eye(count)))
    else:
        # The eigenvalue of every component is 1.
        values, vectors = _largest(product, _parts(graph, graph.degrees.clamp_min(0).sqrt().numpy()), 1.0, wanted)
    order = np.argsort(values)[::-1][:wanted]
    pad = size - wanted
    kept = torch.from_numpy(values[order].copy()), torch.from_numpy(vectors[:, order].copy())
    return torch.nn.functional.pad(kept[0], (0, pad)), torch.nn.functional.pad(kept[1], (0, pad))


def _parts(graph: Graph, weights: np.ndarray) -> np.ndarray:
    """A unit vector for each component of a graph [N, c], of the weights [N] of its nodes; the largest come first."""
    labels = np.zeros(graph.num_nodes, np.int64)
    if isinstance(graph, SparseGraph):
        labels = connected_components(graph.matrix, directed=False)[1]
    lengths = np.sqrt(np.bincount(labels, weights**2))
    order = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
    return np.where(labels[:, None] == order, weights[:, None] / lengths[order], 0.0)


def _largest(
    product: Callable[[np.ndarray], np.ndarray], known: np.ndarray, value: float, wanted: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `wanted` largest eigenvalues of a symmetric matrix, and vectors [N, wanted]; `known` [N, c] has those of the
    largest `value`.

    Lanczos' method sees one vector of an eigenvalue, or more by rounding alone: a graph in pieces has one for each.
    """
    known = known[:, :wanted]
    count, missing = len(known), wanted - known.shape[1]
    if not missing:
        return np.full(wanted, value), known

    def rest(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, np.float64).reshape(count, -1)
        # Those known move below all others.
        return product(x) - 3 * value * (known @ (known.T @ x))

    operator = LinearOperator((count, count), matvec=rest, matmat=rest, dtype=np.float64)
    # Always the same start: the answer must not depend on what else has drawn numbers.
    start = np.random.default_rng(0).standard_normal(count)
    values, vectors = eigsh(operator, missing, which="LA", v0=start, tol=1e-4)
    return np.r_[np.full(known.shape[1], value), values], np.c_[known, vectors]


def largest_gap(values: Tensor) -> int:
    """How many eigenvalues [k], the first of which is 1, come before the largest fall to the next one.

    k - 1 where none has fallen yet: there are as many clusters at least, and which of the small gaps is the largest is
    chance.
    """
    if values[-1] > NEAR_ONE:
        return len(values) - 1
    return int((values[:-1] - values[1:]).argmax()) + 1


def nme_graph(points: Tensor, max_count: int, how: GraphOptions) -> Graph:
    """Binary graph of the p nearest neighbours of unit vectors [N, D], for the p of least p / (N NME).

    NME: the largest gap of the max_count + 1 smallest eigenvalues of the Laplacian, over the largest eigenvalue.
    how: its max_edges. Raises PseError where the largest p would make more of them.
    """
    size = len(points)
    tried = [min(size - 1, max(MIN_NEIGHBOURS, round(share * size))) for share in SHARES]
    guard(2 * size * max(tried), "num_nodes", how, "nme")
    others = neighbours(points, max(tried))[1]
    best: tuple[float, Graph] | None = None
    for near in dict.fromkeys(tried):
        rows = np.repeat(np.arange(size, dtype=np.int32), near)
        ones = np.ones(size * near, np.float32)
        one_way = sparse.csr_array((ones, (rows, others[:, :near].reshape(-1))), shape=(size, size))
        graph = SparseGraph((one_way + one_way.T) / 2)
        smallest, largest = _laplacian(graph, max_count + 1)
        gap = float(np.diff(smallest).max()) / max(largest, 1e-12)
        ratio = near / size / max(gap, 1e-12)
        if best is None or ratio < best[0]:
            best = (ratio, graph)
    return best[1]


def _laplacian(graph: SparseGraph, size: int) -> tuple[np.ndarray, float]:
    """The smallest `size` eigenvalues of D - A, rising, and the largest."""
    count = graph.num_nodes
    matrix = sparse.diags_array(graph.degrees.numpy()) - graph.matrix.astype(np.float64)
    if count <= max(FEW, size + 1):
        values = np.linalg.eigvalsh(matrix.toarray())
        return values[: min(size, count)], float(values[-1])
    start = np.random.default_rng(0).standard_normal(count)
    largest = float(eigsh(matrix, 1, which="LA", v0=start, tol=1e-3, return_eigenvectors=False)[0])
    parts = _parts(graph, np.ones(count))
    return np.sort(largest - _largest(lambda x: largest * x - matrix @ x, parts, largest, size)[0]), largest
