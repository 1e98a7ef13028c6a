"""Graphs of similar embeddings: who is near to whom, and how near, without an N x N matrix where none is needed.

Nodes are unit vectors, edges are weighted by their inner products; nothing is its own neighbour, no
weight is negative, and what i is to j, j is to i: degrees of anything else make modularity meaningless.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from pse.clustering.options import GraphOptions
from pse.errors import PseError
from pse.precision import full_precision

# Rows of similarities that are looked at at a time, and rows that a threshold is drawn from.
BLOCK = 1024
SAMPLED_ROWS = 256
# Of the matrix, its mirror and what makes them, while they are made: measured 45.
BYTES_PER_EDGE = 48


class Graph(ABC):
    """An undirected weighted graph. degrees: [N] float64; total: their sum, 2m."""

    degrees: Tensor

    @property
    def num_nodes(self) -> int:
        """How many nodes there are, isolated ones included."""
        return len(self.degrees)

    @property
    def total(self) -> float:
        """2m: the sum of all degrees."""
        return float(self.degrees.sum())

    @property
    def isolated_share(self) -> float:
        """Part of the nodes without any edge."""
        return float((self.degrees == 0).double().mean()) if self.num_nodes else 0.0

    @property
    @abstractmethod
    def edge_share(self) -> float:
        """Part of the pairs of nodes that are edges."""

    @abstractmethod
    def times(self, values: Tensor) -> Tensor:
        """A values: [N, k] -> [N, k], with a gradient."""


class SparseGraph(Graph):
    """A graph by its edges, in rows (CSR)."""

    def __init__(self, matrix: Any) -> None:
        """matrix: scipy sparse, symmetric, without a diagonal. Raises PseError for anything else."""
        matrix = sparse.csr_array(matrix).astype(np.float32)
        matrix.eliminate_zeros()
        if matrix.shape[0] != matrix.shape[1] or matrix.diagonal().any() or (matrix.data < 0).any():
            what = "edges must join two nodes each, with positive weights"
            raise PseError(what, "graph", "give a square matrix without diagonal")
        if matrix.nnz and abs(matrix - matrix.T).max() > 1e-5 * matrix.max():
            raise PseError("edges must be the same both ways", "graph", "take the maximum of the matrix and its mirror")
        self.matrix = matrix
        self.degrees = torch.from_numpy(matrix.astype(np.float64).sum(1))
        parts = (torch.from_numpy(x) for x in (matrix.indptr, matrix.indices, matrix.data))
        with warnings.catch_warnings():
            # That these tensors are in beta is news to nobody who runs a recipe.
            warnings.simplefilter("ignore", UserWarning)
            self._rows = torch.sparse_csr_tensor(*parts, size=matrix.shape, check_invariants=False)

    @property
    def edge_share(self) -> float:
        """Part of the pairs of nodes that are edges."""
        return self.matrix.nnz / max(1, self.num_nodes * (self.num_nodes - 1))

    def times(self, values: Tensor) -> Tensor:
        """A values: [N, k] -> [N, k]."""
        return _Product.apply(self._rows, values)


class CompleteGraph(Graph):
    """All nodes joined, by (1 + cosine) / 2: features of rank D + 1 hold it, and no edge is ever made.

    A = F F^T less its diagonal, with F = [1, x] / sqrt(2) of unit vectors x [N, D]; a product costs O(N D k).
    """

    def __init__(self, points: Tensor) -> None:
        points = points if points.dtype == torch.float64 else points.float()
        ones = points.new_ones(len(points), 1)
        self.features = torch.cat([ones, points], 1) / 2**0.5
        exact = self.features.double()
        self._own = exact.square().sum(1)
        self.degrees = (exact @ exact.sum(0) - self._own).clamp_min(0)

    @property
    def edge_share(self) -> float:
        """1: every pair is an edge."""
        return 1.0 if self.num_nodes > 1 else 0.0

    def times(self, values: Tensor) -> Tensor:
        """A values: [N, k] -> [N, k]."""
        with full_precision(values.device):
            features = self.features.to(values)
            return features @ (features.mT @ values) - self._own.to(values).unsqueeze(1) * values


class _Product(torch.autograd.Function):
    """A x of a symmetric A, whose gradient is A again."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, values: Tensor) -> Tensor:
        ctx.rows = rows
        return (rows.to(values.dtype) if rows.dtype != values.dtype else rows) @ values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, _Product.apply(ctx.rows, grad)


def similarity_graph(points: Tensor, how: GraphOptions, *, seed: int = 0, place: str = "graph") -> Graph:
    """The graph of unit vectors [N, D] that a config asks for.

    Raises PseError where more edges than `how.max_edges` would be kept: that is told before they are made.
    """
    points = (points if points.dtype == torch.float64 else points.float()).detach().cpu()
    if how.kind == "complete":
        return CompleteGraph(points)
    if len(points) < 2:
        return SparseGraph(sparse.csr_array((len(points), len(points)), dtype=np.float32))
    if how.kind == "knn":
        return SparseGraph(_nearest(points, how, place))
    threshold = how.threshold if how.kind == "threshold" else _threshold(points, how.edge_share, seed)
    return SparseGraph(_above(points, threshold, how, seed, place))


def _nearest(points: Tensor, how: GraphOptions, place: str) -> Any:
    """Each node with its most similar ones: an edge where either (mutual: each) has the other among them."""
    size, count = len(points), min(how.num_neighbours, len(points) - 1)
    guard(size * count * (1 if how.mutual else 2), "num_neighbours", how, place)
    values, others = (_approximate if how.approximate else neighbours)(points, count)
    kept = (values > 0) & (others >= 0)
    rows = np.repeat(np.arange(size, dtype=np.int32), kept.sum(1))
    one_way = sparse.csr_array((values[kept], (rows, others[kept])), shape=(size, size))
    other_way = sparse.csr_array(one_way.T)
    return one_way.minimum(other_way) if how.mutual else one_way.maximum(other_way)


def neighbours(points: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` most similar others of each of unit vectors [N, D], most similar first: cosines, and who they are."""
    values, others = [], []
    for start in range(0, len(points), BLOCK):
        some = _without_own(points[start : start + BLOCK] @ points.T, start).topk(count)
        values.append(some.values.numpy())
        others.append(some.indices.int().numpy())
    return np.concatenate(values), np.concatenate(others)


def _approximate(points: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        import faiss
    except ImportError as error:
        fix = "pip install faiss-cpu, or set approximate: false"
        raise PseError("approximate neighbours need the package faiss-cpu", "graph", fix) from error
    vectors = np.ascontiguousarray(points.float().numpy())
    index = faiss.IndexHNSWFlat(vectors.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efSearch = max(32, 2 * count)
    index.add(vectors)
    values, others = index.search(vectors, count + 1)
    own = others == np.arange(len(vectors))[:, None]
    # One too many was asked for, for the node itself; where it is not among them the last one goes.
    own[~own.any(1), -1] = True
    return values[~own].reshape(len(vectors), count), others[~own].reshape(len(vectors), count).astype(np.int32)


def _above(points: Tensor, threshold: float, how: GraphOptions, seed: int, place: str) -> Any:
    """Edges of more than a threshold."""
    size, limit = len(points), max(threshold, 0.0)
    sampled = _sampled_rows(points, seed)
    share = float((_without_own(points[sampled] @ points.T, sampled) > limit).double().mean())
    guard(share * size * size, "threshold" if how.kind == "threshold" else "edge_share", how, place)
    rows, columns, values = [], [], []
    for start in range(0, size, BLOCK):
        block = _without_own(points[start : start + BLOCK] @ points.T, start)
        row, column = (block > limit).nonzero(as_tuple=True)
        rows.append((row + start).int().numpy())
        columns.append(column.int().numpy())
        values.append(block[row, column].numpy())
    places = tuple(np.concatenate(x) for x in (rows, columns))
    matrix = sparse.csr_array((np.concatenate(values), places), shape=(size, size))
    # Products of blocks of different heights differ in the last digit.
    return matrix.maximum(sparse.csr_array(matrix.T))


def _threshold(points: Tensor, edge_share: float, seed: int) -> float:
    """The similarity that such a part of the pairs is above, by some rows of all of them."""
    sampled = _sampled_rows(points, seed)
    values = (points[sampled] @ points.T).numpy()
    values[np.arange(len(sampled)), sampled.numpy()] = np.nan
    # A little below it, so that ties, as identical vectors have them, are on one side.
    return float(np.nanquantile(values, 1 - edge_share)) - 1e-6


def _sampled_rows(points: Tensor, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randperm(len(points), generator=random)[:SAMPLED_ROWS]


def _without_own(block: Tensor, rows: Tensor | int) -> Tensor:
    """Similarities [n, N] in which no node is near to itself; rows: which nodes, or the first of them."""
    which = rows if isinstance(rows, Tensor) else torch.arange(rows, rows + len(block))
    block[torch.arange(len(block)), which] = -torch.inf
    return block


def guard(num_edges: float, setting: str, how: GraphOptions, place: str) -> None:
    """Refuse more edges than `how.max_edges`, before they are made. Raises PseError."""
    if num_edges > how.max_edges:
        size = num_edges * BYTES_PER_EDGE / 1e9
        what = f"about {num_edges:.3g} edges ({size:.1f} GB) would be kept, more than max_edges = {how.max_edges:,}"
        better = {"threshold": "raise threshold", "num_neighbours": "lower it", "edge_share": "lower it"}.get(setting)
        fix = f"{better}, lower num_nodes, or set kind: complete" if better else "lower num_nodes"
        raise PseError(what, f"{place} {setting}", fix)
