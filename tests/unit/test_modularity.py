"""Laws of graphs of similarities, and of modularity on them."""

import sys

import networkx
import numpy as np
import pytest
import torch
from scipy import sparse

from pse.clustering.graph import CompleteGraph, SparseGraph, similarity_graph
from pse.clustering.modularity import (
    blocks,
    collapse,
    conductance,
    dmon_loss,
    joins,
    modularity,
    normalised_mutual_information,
)
from pse.clustering.options import GraphOptions
from pse.errors import PseError


def unit(seed: int, size: int, width: int = 8) -> torch.Tensor:
    values = torch.randn(size, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(values, dim=1)


def one_hot(labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels).double()


def random_graph(seed: int, size: int = 40) -> SparseGraph:
    random = np.random.default_rng(seed)
    upper = np.triu(random.random((size, size)) * (random.random((size, size)) < 0.2), 1)
    return SparseGraph(sparse.csr_array(upper + upper.T))


def dense(graph) -> torch.Tensor:
    return graph.times(torch.eye(graph.num_nodes, dtype=torch.float64))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("null_weight", [0.5, 1.0, 1.3])
def test_modularity_is_that_of_networkx(seed: int, null_weight: float) -> None:
    graph, labels = random_graph(seed), torch.from_numpy(np.random.default_rng(seed).integers(0, 4, 40))
    peer = networkx.from_scipy_sparse_array(graph.matrix)
    groups = [set(np.flatnonzero(labels == c)) for c in range(4)]
    expected = networkx.community.modularity(peer, groups, weight="weight", resolution=null_weight)
    assert float(modularity(one_hot(labels), graph, null_weight)) == pytest.approx(expected, abs=1e-6)
    assert blocks(one_hot(labels), graph).modularity(null_weight) == pytest.approx(expected, abs=1e-6)


def test_sparse_dense_and_low_rank_forms_agree() -> None:
    points = unit(0, 60)
    low_rank = CompleteGraph(points)
    whole = ((1 + points @ points.T) / 2).fill_diagonal_(0)
    assert torch.allclose(dense(low_rank), whole, atol=1e-12)
    edges = SparseGraph(sparse.csr_array(whole.numpy()))
    assign = torch.rand(60, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(1)
    for null_weight, collapse_weight in ((1.0, 1.0), (0.5, 0.1)):
        values = [dmon_loss(assign, g, null_weight, collapse_weight) for g in (low_rank, edges)]
        total, degrees = whole.sum(), whole.sum(1)
        expected = -torch.trace(
            assign.T @ (whole - null_weight * degrees.outer(degrees) / total) @ assign
        ) / total + collapse_weight * (5**0.5 / 60 * assign.sum(0).norm() - 1)
        assert float(values[0]) == pytest.approx(float(expected), abs=1e-12)
        assert float(values[1]) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("make", [lambda: CompleteGraph(unit(3, 12)), lambda: random_graph(3, 12)])
def test_gradient_of_the_loss_is_right(make) -> None:
    graph, logits = make(), torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: dmon_loss(x.softmax(1), graph, 0.8, 0.3), logits.requires_grad_())


@pytest.mark.parametrize("make", [lambda: CompleteGraph(unit(3, 30)), lambda: random_graph(3, 30)])
def test_trivial_partitions_have_no_modularity(make) -> None:
    graph = make()
    assert float(modularity(torch.ones(30, 1, dtype=torch.float64), graph)) == pytest.approx(0, abs=1e-6)
    assert float(modularity(torch.full((30, 6), 1 / 6, dtype=torch.float64), graph)) == pytest.approx(0, abs=1e-6)
    all_in_one = one_hot(torch.zeros(30, dtype=torch.int64))
    # The reference code's halved null model rewards a single cluster.
    assert float(modularity(all_in_one, graph, 0.5)) == pytest.approx(0.5, abs=1e-6)


def test_collapse_goes_from_none_to_all_in_one() -> None:
    assert float(collapse(torch.full((20, 4), 0.25))) == pytest.approx(0, abs=1e-6)
    assert float(collapse(torch.nn.functional.one_hot(torch.zeros(20, dtype=torch.int64), 4).float())) == pytest.approx(
        4**0.5 - 1
    )


def test_modularity_does_not_depend_on_the_order_or_on_the_unit_of_weights() -> None:
    graph, labels = random_graph(7), torch.from_numpy(np.random.default_rng(7).integers(0, 3, 40))
    order = np.random.default_rng(8).permutation(40)
    moved = SparseGraph(3.7 * graph.matrix[order][:, order])
    first, second = modularity(one_hot(labels), graph), modularity(one_hot(labels[order]), moved)
    assert float(first) == pytest.approx(float(second), abs=1e-6)


@pytest.mark.parametrize("kind", ["threshold", "quantile", "knn"])
def test_blocks_of_rows_give_the_graph_of_the_whole_matrix(kind: str, monkeypatch) -> None:
    monkeypatch.setattr("pse.clustering.graph.BLOCK", 7)
    # The quantile lies between two pairs: one that lies on it may fall to either side.
    share = 1 - 2203.5 / 2449
    points, how = unit(2, 50), GraphOptions(kind, num_neighbours=4, threshold=0.3, edge_share=share)
    graph, cosines = similarity_graph(points, how), (points @ points.T).fill_diagonal_(-1)
    if kind == "knn":
        near = torch.zeros(50, 50, dtype=torch.bool).scatter_(1, cosines.topk(4).indices, True)
        kept = near | near.T
    else:
        limit = 0.3 if kind == "threshold" else float(np.quantile(cosines[~torch.eye(50, dtype=torch.bool)], 1 - share))
        kept = cosines > limit
    expected = torch.where(kept, cosines.clamp_min(0), 0.0)
    assert torch.allclose(dense(graph), expected, atol=1e-6)
    assert graph.edge_share == pytest.approx(float((expected > 0).sum()) / (50 * 49))


def test_mutual_neighbours_are_a_part_of_the_neighbours() -> None:
    points = unit(5, 60)
    mutual, either = (similarity_graph(points, GraphOptions(num_neighbours=5, mutual=m)) for m in (True, False))
    assert 0 < mutual.matrix.nnz < either.matrix.nnz
    assert (mutual.matrix != 0).sum() == ((mutual.matrix != 0).multiply(either.matrix != 0)).sum()


def test_approximate_neighbours_are_nearly_all_of_the_nearest() -> None:
    pytest.importorskip("faiss")
    points = unit(6, 500, 16).float()
    exact, near = (similarity_graph(points, GraphOptions(approximate=a)).matrix for a in (False, True))
    assert near.diagonal().sum() == 0 and abs(near - near.T).max() == 0
    assert (exact != 0).multiply(near != 0).nnz > 0.95 * exact.nnz
    assert near.nnz < 1.05 * exact.nnz
    both = (exact != 0).multiply(near != 0)
    assert abs(exact.multiply(both) - near.multiply(both)).max() < 1e-5


def test_a_package_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(PseError) as caught:
        similarity_graph(unit(6, 50), GraphOptions(approximate=True))
    assert str(caught.value) == (
        "graph: approximate neighbours need the package faiss-cpu; pip install faiss-cpu, or set approximate: false"
    )


def test_a_graph_of_everything_is_refused_before_it_is_made() -> None:
    how = GraphOptions("threshold", threshold=0.0, max_edges=1000)
    with pytest.raises(PseError, match=r"edges .* GB\) would be kept, more than max_edges = 1,000"):
        similarity_graph(unit(0, 200), how)


def test_degenerate_points_give_graphs_and_no_nan() -> None:
    same = torch.nn.functional.normalize(torch.ones(30, 4, dtype=torch.float64), dim=1)
    for kind in ("knn", "threshold", "quantile", "complete"):
        for points in (same, same[:1], unit(0, 2), torch.eye(6, dtype=torch.float64)):
            graph = similarity_graph(points, GraphOptions(kind))
            value = modularity(torch.full((len(points), 3), 1 / 3, dtype=torch.float64), graph)
            assert torch.isfinite(value)
    alone = similarity_graph(torch.eye(6, dtype=torch.float64), GraphOptions("threshold"))
    assert alone.isolated_share == 1
    assert float(modularity(one_hot(torch.arange(6)), alone)) == 0


def test_a_part_of_the_pairs_holds_the_identical_ones() -> None:
    points = torch.cat([unit(0, 1).expand(20, -1), unit(1, 40)])
    graph = similarity_graph(points, GraphOptions("quantile", edge_share=0.1))
    assert (dense(graph)[:20, :20] > 0.99).sum() == 20 * 19


def test_lopsided_edges_and_loops_are_refused() -> None:
    with pytest.raises(PseError, match="both ways"):
        SparseGraph(sparse.csr_array(np.triu(np.ones((4, 4)), 1)))
    with pytest.raises(PseError, match="diagonal"):
        SparseGraph(sparse.csr_array(np.eye(3)))
    with pytest.raises(PseError, match="positive"):
        SparseGraph(sparse.csr_array(-(np.ones((3, 3)) - np.eye(3))))


@pytest.mark.parametrize("seed", range(3))
def test_merging_never_lowers_modularity_and_ends_where_no_pair_would_raise_it(seed: int) -> None:
    graph, many = random_graph(seed), one_hot(torch.arange(40))
    made = joins(many, graph)
    fewer = max(made, key=lambda p: p.modularity).assign(many)
    assert [len(p.groups) for p in made] == list(range(40, 0, -1))
    assert made[0].modularity == pytest.approx(float(modularity(many, graph)), abs=1e-6)
    assert float(modularity(fewer, graph)) >= float(modularity(many, graph))
    assert (blocks(fewer, graph).gains() <= 1e-12).all()
    assert torch.equal(fewer.sum(1), torch.ones(40, dtype=torch.float64))


def test_the_modularity_of_partitions_is_q_whatever_weight_they_are_joined_by() -> None:
    graph, many = random_graph(2), one_hot(torch.arange(40))
    made = joins(many, graph, 0.3)
    assert [p.groups for p in made] != [p.groups for p in joins(many, graph)]
    for partition in made[::7]:
        assert partition.modularity == pytest.approx(float(modularity(partition.assign(many), graph)), abs=1e-6)


def test_two_cliques_with_a_weak_bridge_are_two() -> None:
    clique = np.ones((10, 10)) - np.eye(10)
    matrix = np.block([[clique, np.zeros((10, 10))], [np.zeros((10, 10)), clique]])
    matrix[9, 10] = matrix[10, 9] = 0.1
    graph = SparseGraph(sparse.csr_array(matrix))
    alone = one_hot(torch.arange(20))
    found = max(joins(alone, graph), key=lambda p: p.modularity).assign(alone).argmax(1)
    assert len(found.unique()) == 2
    assert len(found[:10].unique()) == len(found[10:].unique()) == 1


def test_how_far_apart_two_clusters_are_is_their_edges_against_chance() -> None:
    graph = random_graph(1)
    labels = torch.arange(40) % 2
    pair = joins(one_hot(labels), graph)[0]
    between = float(dense(graph)[labels == 0][:, labels == 1].sum()) / graph.total
    volume = float(graph.degrees[labels == 0].sum()) / graph.total
    assert pair.apart == pytest.approx(1 - between / (volume * (1 - volume)), abs=1e-6)
    assert pair.smaller == 0.5
    alone = SparseGraph(sparse.block_diag([np.ones((3, 3)) - np.eye(3)] * 2))
    assert joins(one_hot(torch.arange(6) // 3), alone)[0].apart == 1


def test_conductance_of_a_graph_by_hand() -> None:
    # Path 0 - 1 - 2 - 3 cut in the middle: each half has 3 ends of edges, one of which leads out.
    path = np.diag(np.ones(3), 1)
    graph = SparseGraph(sparse.csr_array(path + path.T))
    assert conductance(torch.tensor([0, 0, 1, 1]), graph) == pytest.approx(1 / 3)
    assert conductance(torch.zeros(4, dtype=torch.int64), graph) == 0


def test_mutual_information_of_known_labellings() -> None:
    first = torch.tensor([0, 0, 1, 1])
    assert normalised_mutual_information(first, 1 - first) == pytest.approx(1)
    assert normalised_mutual_information(first, torch.tensor([0, 1, 0, 1])) == pytest.approx(0)
    assert normalised_mutual_information(first, torch.zeros(4, dtype=torch.int64)) == pytest.approx(0)
    assert normalised_mutual_information(torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)) == 1
