"""Laws of communities: how many there are, and who belongs to which."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse

from pse.clustering.communities import counted, find
from pse.clustering.cuts import CUTS, Head, neighbourhoods
from pse.clustering.eigen import largest_gap, leading
from pse.clustering.graph import SparseGraph, similarity_graph
from pse.clustering.kmeans import generator
from pse.clustering.modularity import normalised_mutual_information
from pse.clustering.options import Communities, GraphOptions


def communities(points: torch.Tensor, weights: torch.Tensor, how: Communities, **more) -> SimpleNamespace:
    """What is found, and the communities of all points."""
    made = find(points, weights, how, **more)
    return SimpleNamespace(assign=made.shares(points), **vars(made))


METHODS = ["modularity", "leiden", "spectral", "kmeans"]


def voices(counts: list[int], spread: float = 0.6, width: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors around orthogonal centres, and whose they are."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    noise = torch.randn(len(labels), width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(torch.eye(width)[labels] + spread * noise / width**0.5, dim=1), labels


def found(points: torch.Tensor, how: Communities, **more):
    if how.method == "leiden":
        pytest.importorskip("igraph")
    return communities(points, torch.ones(len(points)), how, **more)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("counts", [[300], [150, 150], [100, 100, 100], [240, 60], [60, 60, 60, 60, 60]])
def test_the_number_of_communities_is_found(method: str, counts: list[int]) -> None:
    if method == "spectral" and counts == [300]:
        pytest.skip("the largest gap of one blob may be anywhere")
    points, labels = voices(counts)
    result = found(points, Communities(method))
    assert result.count == len(counts)
    assert normalised_mutual_information(result.assign.argmax(1), labels) > 0.95


@pytest.mark.parametrize("method", [*METHODS, "nme"])
def test_a_known_number_is_taken(method: str) -> None:
    points, labels = voices([100, 80, 60])
    result = found(points, Communities(method), num_speakers=3)
    assert result.assign.shape == (240, 3)
    assert normalised_mutual_information(result.assign.argmax(1), labels) > 0.95
    assert found(points, Communities(method), num_speakers=2).count == 2


@pytest.mark.parametrize("method", [*METHODS, "nme"])
def test_a_known_number_is_taken_where_the_graph_tells_fewer(method: str) -> None:
    result = found(voices([200], spread=0.5)[0], Communities(method), num_speakers=3)
    assert len(result.assign.argmax(1).unique()) == 3
    same = torch.nn.functional.normalize(torch.ones(40, 12), dim=1)
    assert torch.allclose(found(same, Communities(method), num_speakers=2).assign, torch.full((40, 2), 0.5))


def test_neighbourhoods_are_the_normalised_graph_times_the_nodes() -> None:
    points = voices([30, 20])[0]
    graph = similarity_graph(points, GraphOptions("threshold", threshold=0.6))
    dense = torch.from_numpy(graph.matrix.toarray()).double()
    dense[:, 3] = dense[3] = 0
    scale = torch.where(dense.sum(1) > 0, dense.sum(1).rsqrt(), 0)
    made = neighbourhoods(points.double(), SparseGraph(sparse.csr_array(dense.numpy())))
    assert torch.allclose(made, scale[:, None] * dense * scale @ points.double(), atol=1e-6)
    assert not made[3].any()


def test_a_graph_convolution_hears_what_the_graph_alone_tells() -> None:
    labels = torch.repeat_interleave(torch.arange(2), 200)
    edges = torch.rand(400, 400, generator=torch.Generator().manual_seed(0)) < torch.where(
        labels[:, None] == labels, 0.2, 0.02
    )
    edges = (edges | edges.T).float().fill_diagonal_(0)
    nothing = torch.nn.functional.normalize(torch.randn(400, 12, generator=torch.Generator().manual_seed(1)), dim=1)
    how = Communities(features="graph_convolution", max_clusters=2, dropout=0.0, steps=300, lr=1e-2)
    cut = CUTS["modularity"](nothing, SparseGraph(sparse.csr_array(edges.numpy())), how, 2, generator(0, "a"))
    assert cut.everywhere is None
    assert normalised_mutual_information(cut.assign.argmax(1), labels) > 0.8


@pytest.mark.parametrize("kind", ["threshold", "complete"])
def test_communities_by_graph_convolution_take_in_all_nodes(kind: str) -> None:
    points, labels = voices([400, 300])
    how = Communities(features="graph_convolution", graph=GraphOptions(kind), num_nodes=200)
    result = found(points, how, num_speakers=2)
    assert torch.allclose(result.assign.sum(1), torch.ones(700))
    assert normalised_mutual_information(result.assign.argmax(1), labels) > 0.95


def test_nme_counts_clear_clusters() -> None:
    assert found(voices([120, 100, 80], spread=0.3)[0], Communities("nme")).count == 3


def test_all_nodes_join_the_communities_that_some_of_them_tell() -> None:
    points, labels = voices([700, 500])
    for method in ("modularity", "kmeans"):
        result = found(points, Communities(method, num_nodes=200))
        assert result.assign.shape == (1200, 2)
        assert torch.allclose(result.assign.sum(1), torch.ones(1200))
        assert normalised_mutual_information(result.assign.argmax(1), labels) > 0.95


def test_what_has_no_weight_is_no_node_but_gets_a_community() -> None:
    points, labels = voices([100, 100])
    points[::4] = torch.nn.functional.normalize(torch.ones(12), dim=0)
    weights = torch.ones(200)
    weights[::4] = 0
    result = communities(points, weights, Communities())
    assert result.count == 2
    assert torch.isfinite(result.assign).all()
    assert normalised_mutual_information(result.assign.argmax(1)[weights > 0], labels[weights > 0]) > 0.95


@pytest.mark.parametrize("method", [*METHODS, "nme"])
@pytest.mark.parametrize("kind", ["threshold", "knn", "complete"])
def test_degenerate_nodes_are_one_community(method: str, kind: str) -> None:
    if method == "leiden" and kind == "complete":
        pytest.skip("leiden needs edges")
    how = Communities(method, graph=GraphOptions(kind, threshold=0.5), max_clusters=4)
    alone, same = torch.eye(12)[:1], torch.nn.functional.normalize(torch.ones(40, 12), dim=1)
    for points in (alone, same):
        result = found(points, how)
        assert torch.isfinite(result.assign).all()
        assert result.count == 1
    nobody = communities(same, torch.zeros(40), how)
    assert nobody.assign.shape == (40, 1)


def test_isolated_nodes_are_one_community() -> None:
    result = communities(torch.eye(12), torch.ones(12), Communities(graph=GraphOptions("threshold", threshold=0.5)))
    assert (result.count, result.isolated_share, result.modularity) == (1, 1.0, 0.0)


def test_the_same_seed_gives_the_same_answer_and_no_random_state_is_touched() -> None:
    points, _ = voices([100, 60])
    before = torch.get_rng_state()
    first, second = (communities(points, torch.ones(160), Communities(), name="a") for _ in range(2))
    assert torch.equal(first.assign, second.assign)
    assert torch.equal(before, torch.get_rng_state())


def test_it_works_on_what_was_made_in_inference_mode() -> None:
    with torch.inference_mode():
        points = voices([60, 60])[0].clone()
        assert communities(points, torch.ones(120), Communities()).count == 2


def test_the_first_pair_that_is_not_apart_ends_the_count() -> None:
    assert counted([1, 0.8, 0.3, 0.7], 0.5) == 2
    assert counted([1, 0.1, 0.9], 0.5) == 1
    assert counted([1], 0.5) == 1


def test_whoever_has_too_few_nodes_is_nobody() -> None:
    points, _ = voices([270, 30])
    assert found(points, Communities("kmeans", min_share=0.2)).count == 1
    assert found(points, Communities("kmeans")).count == 2


def test_a_network_can_name_nodes_that_it_never_saw() -> None:
    head = Head(12, Communities(), generator(0, "a")).eval()
    assert head(torch.randn(3, 5, 12)).shape == (3, 5, 8)
    assert torch.allclose(head(torch.randn(7, 12)).sum(-1), torch.ones(7))


@pytest.mark.parametrize("size", [20, 200])
def test_eigenvalues_are_those_of_the_dense_matrix(size: int) -> None:
    random = np.random.default_rng(size)
    upper = np.triu(random.random((size, size)) * (random.random((size, size)) < 0.3), 1)
    matrix = upper + upper.T
    graph, scale = SparseGraph(sparse.csr_array(matrix)), np.diag(1 / np.sqrt(matrix.sum(1)))
    values, vectors = leading(graph, 4)
    assert np.allclose(values, np.sort(np.linalg.eigvalsh(scale @ matrix @ scale))[::-1][:4], atol=1e-3)
    assert torch.allclose(vectors.T @ vectors, torch.eye(4, dtype=torch.float64), atol=1e-3)


@pytest.mark.parametrize("seed", range(8))
def test_every_part_of_a_graph_has_an_eigenvalue_and_a_vector(seed: int) -> None:
    """Of an eigenvalue that several vectors have, Lanczos' method may see only some."""
    points = torch.from_numpy(np.random.default_rng(seed).permutation(voices([100, 80, 60, 12], seed=seed)[0]))
    graph = similarity_graph(points, GraphOptions("knn", num_neighbours=8))
    values, vectors = leading(graph, 6)
    dense = graph.matrix.toarray() / np.sqrt(np.outer(graph.degrees, graph.degrees))
    assert np.allclose(values, np.linalg.eigvalsh(dense)[::-1][:6], atol=1e-3)
    assert torch.allclose(vectors.T @ vectors, torch.eye(6, dtype=torch.float64), atol=1e-3)


def test_the_largest_gap_counts_separate_parts() -> None:
    points, _ = voices([50, 50, 50], spread=0.2)
    graph = similarity_graph(points, GraphOptions("threshold", threshold=0.5))
    assert largest_gap(leading(graph, 9)[0]) == 3


def test_every_cut_is_reachable_from_a_config() -> None:
    from typing import get_args, get_type_hints

    assert set(CUTS) == set(get_args(get_type_hints(Communities)["method"]))
