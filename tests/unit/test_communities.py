"""Laws of communities: how many there are, and who belongs to which."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse

from pse.clustering.calibration import Calibration
from pse.clustering.communities import _chance, counted, find
from pse.clustering.cuts import CUTS, Head, neighbourhoods
from pse.clustering.eigen import largest_gap, leading, nme_graph
from pse.clustering.graph import SparseGraph, similarity_graph
from pse.clustering.kmeans import generator
from pse.clustering.modularity import modularity, normalised_mutual_information
from pse.clustering.options import Communities, GraphOptions
from pse.errors import PseError


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
    assert result.count == len(counts) and result.note is None
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


@pytest.mark.parametrize("method", [*METHODS, "nme"])
@pytest.mark.parametrize("size", [2, 40])
def test_a_known_number_is_met_where_there_are_not_as_many_different_nodes(method: str, size: int) -> None:
    two = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2, 0.0], [0.2, 1.0, 0.0]]), dim=1)
    result = found(two.repeat(size // 2, 1), Communities(method, GraphOptions(threshold=0.1)), num_speakers=3)
    assert result.count == 3 and result.assign.shape == (size, 3)
    assert torch.allclose(result.assign.sum(1), torch.ones(size))
    assert (result.assign[0].argmax() != result.assign[1].argmax()).all()


@pytest.mark.parametrize("method", ["modularity", "kmeans", "spectral", "nme"])
@pytest.mark.parametrize(("true", "bound"), [(5, 3), (10, 8)])
@pytest.mark.parametrize("spread", [0.3, 0.9])
def test_of_more_speakers_than_are_looked_for_it_is_told_that_there_may_be_more(
    method: str, true: int, bound: int, spread: float
) -> None:
    result = found(voices([60] * true, spread)[0], Communities(method, max_clusters=bound))
    assert 3 <= result.count <= bound
    assert result.note == f"at least {result.count} speakers: raise max_clusters"
    if method != "modularity":
        # The small network may put two speakers into one cluster.
        assert result.count == bound


def test_a_known_number_and_a_search_without_a_bound_are_no_lower_limits() -> None:
    points = voices([60] * 5)[0]
    assert found(points, Communities(max_clusters=3), num_speakers=3).note is None
    result = found(points, Communities("leiden", max_clusters=3))
    assert (result.count, result.note) == (5, None)


def test_what_is_no_number_is_one_line() -> None:
    points, weights = voices([30, 30])[0], torch.ones(60)
    weights[7] = 0
    for value in (torch.nan, torch.inf):
        for which in (7, 8):
            bad = points.clone()
            bad[which, 0] = value
            with pytest.raises(PseError, match="communities of talk: an embedding is not a finite number") as caught:
                find(bad, weights, Communities(), name="talk")
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("null_weight", [0.5, 1.5])
def test_the_modularity_that_is_told_is_q_whatever_weight_finds_the_communities(null_weight: float) -> None:
    points, labels = voices([80, 60])
    how = Communities("kmeans", max_clusters=2, null_weight=null_weight)
    result = found(points, how, num_speakers=2)
    graph = similarity_graph(points, how.graph)
    assert torch.equal(result.assign.argmax(1) == result.assign[0].argmax(), labels == 0)
    expected = modularity(torch.nn.functional.one_hot(labels).double(), graph)
    assert result.modularity == pytest.approx(float(expected), abs=1e-6)


# Graphs of such nodes fall into parts that are far apart, though nothing tells them apart.
NULLS = {
    "knn": GraphOptions("knn", num_neighbours=10),
    "threshold": GraphOptions("threshold", threshold=0.3),
    "quantile": GraphOptions("quantile", edge_share=0.15),
}


def noise(seed: int) -> torch.Tensor:
    """Uniform on the sphere."""
    points = torch.randn(120, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(points, dim=1)


def clique(seed: int) -> torch.Tensor:
    """All near to one point, and so to each other."""
    points = torch.randn(120, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(torch.eye(8)[0] + 0.05 * points, dim=1)


def blob(seed: int) -> torch.Tensor:
    """One Gaussian, longer in some directions than in others."""
    points = torch.randn(120, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(torch.eye(8)[0] + 0.5 * torch.linspace(0.2, 1, 8) * points, dim=1)


@pytest.mark.parametrize("kind", NULLS)
@pytest.mark.parametrize("one", [noise, clique, blob])
def test_what_one_gaussian_makes_is_one_speaker(kind: str, one: Callable[[int], torch.Tensor]) -> None:
    plain = Communities("kmeans", NULLS[kind], max_clusters=6)
    # By the level one seed of twenty is taken for more, as 0 is.
    points = [one(seed) for seed in (1, 2)]
    assert [found(p, replace(plain, num_nulls=19)).count for p in points] == [1, 1]
    if one is noise or kind != "threshold":
        assert min(found(p, plain).count for p in points) > 1


@pytest.mark.parametrize("kind", NULLS)
@pytest.mark.parametrize("method", ["modularity", "leiden"])
def test_other_cuts_are_held_against_chance_too(kind: str, method: str) -> None:
    how = Communities(method, NULLS[kind], max_clusters=4, steps=15, num_nulls=9, significance=0.1)
    assert found(noise(1), how).count == 1
    assert found(noise(1), replace(how, num_nulls=0)).count > 1


@pytest.mark.parametrize("kind", [*NULLS, "complete"])
@pytest.mark.parametrize("counts", [[60, 60], [40, 40, 40], [80, 40]])
def test_clear_voices_are_farther_apart_than_chance(kind: str, counts: list[int]) -> None:
    # Of complete graphs no pair is far apart: there the test alone tells.
    graph, least = NULLS.get(kind, GraphOptions("complete")), -9.0 if kind == "complete" else None
    how = Communities("kmeans", graph, max_clusters=6, num_nulls=19, min_apart=least)
    points, labels = voices(counts, width=8)
    result = found(points, how)
    assert result.count == len(counts)
    assert normalised_mutual_information(result.assign.argmax(1), labels) > 0.95


def test_a_number_that_eigenvalues_tell_is_held_against_chance_too() -> None:
    how = Communities("spectral", GraphOptions("quantile", edge_share=0.1), num_nulls=9, significance=0.1)
    islands, two = clique(5), voices([50, 50], width=8)[0]
    assert found(islands, replace(how, num_nulls=0)).count == 3
    assert found(islands, how).count < 3
    assert found(two, replace(how, graph=NULLS["knn"])).count == 2


def test_the_same_seed_draws_the_same_chance() -> None:
    points = noise(0)
    how = Communities("kmeans", NULLS["knn"], max_clusters=3, num_nulls=9, significance=0.1)
    before = torch.get_rng_state()
    first, second = (_chance(points, 3, how, "a", 0, final=False) for _ in range(2))
    assert first == second != _chance(points, 3, how, "b", 0, final=False)
    assert torch.equal(before, torch.get_rng_state())


def test_a_calibration_tells_where_it_tells_no_more() -> None:
    points = voices([60] * 5)[0]
    for told, note in ((2, None), (3, "at least 3 speakers: its calibration tells no more")):
        reading = Calibration([[0.0]] * 3, [float(n == told) for n in (1, 2, 3)])
        result = found(points, Communities("kmeans", calibration=reading))
        assert result.count == told and (result.note is None if note is None else result.note.startswith(note))


@pytest.mark.parametrize("told", [3, 4, 5])
def test_a_calibration_that_tells_more_than_there_are_clusters_is_noted(told: int) -> None:
    reading = Calibration([[0.0]] * 5, [float(n == told) for n in range(1, 6)])
    result = found(voices([60] * 5)[0], Communities("kmeans", max_clusters=3, calibration=reading))
    assert (result.count, result.note) == (3, "at least 3 speakers: raise max_clusters")


def test_chance_is_not_asked_where_the_number_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **more: object) -> None:
        raise AssertionError("nothing was to be drawn")

    monkeypatch.setattr("pse.clustering.communities._chance", never)
    points, how = voices([60, 60])[0], Communities("kmeans", NULLS["knn"], num_nulls=19)
    assert found(points, how, num_speakers=3).count == 3
    with pytest.raises(AssertionError, match="drawn"):
        found(points, how)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"num_nulls": 18}, "0 or at least 19 with a significance of 0.05, got 18"),
        ({"num_nulls": -1}, "0 or at least 19"),
        ({"num_nulls": 8, "significance": 0.1}, "0 or at least 9"),
        ({"significance": 0.0}, "significance must be above 0"),
        ({"num_nulls": 19, "calibration": Calibration([[0.0]], [0.0])}, "leave out num_nulls"),
        ({"method": "leiden", "graph": GraphOptions("complete")}, "leiden needs a graph of edges"),
    ],
)
def test_a_test_that_nothing_could_pass_is_refused(keys: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Communities(**keys)


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
        assert result.note is None
        assert torch.isfinite(result.assign).all()
        assert result.count == 1
    nobody = communities(same, torch.zeros(40), how)
    assert nobody.assign.shape == (40, 1)


def test_isolated_nodes_are_one_community() -> None:
    result = communities(torch.eye(12), torch.ones(12), Communities(graph=GraphOptions("threshold", threshold=0.5)))
    assert (result.count, result.isolated_share, result.modularity) == (1, 1.0, 0.0)
    assert result.note.endswith("lower threshold of the graph")


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


@pytest.mark.parametrize(
    ("values", "count"),
    [([1, 1, 1, 1], 3), ([1, 0.99, 0.985, 0.96], 3), ([1, 0.99, 0.6, 0.5], 2), ([1, 0.4, 0.3, 0.1], 1)],
)
def test_where_no_eigenvalue_has_fallen_there_are_as_many_clusters_at_least(values: list[float], count: int) -> None:
    assert largest_gap(torch.tensor(values)) == count


def test_neighbours_of_nme_are_found_block_by_block_and_never_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    points = voices([70, 50])[0]
    whole = nme_graph(points, 8, GraphOptions())
    monkeypatch.setattr("pse.clustering.graph.BLOCK", 7)
    assert (nme_graph(points, 8, GraphOptions()).matrix != whole.matrix).nnz == 0
    near = (points @ points.T).fill_diagonal_(-2).argsort(1, descending=True)
    tried = []
    for p in range(10, 37):
        one_way = torch.zeros(120, 120).scatter_(1, near[:, :p], 1.0)
        tried.append(bool(((one_way + one_way.T) / 2 == torch.from_numpy(whole.matrix.toarray())).all()))
    assert sum(tried) == 1
    # The most neighbours that are tried are 36 of 120, each an edge both ways.
    nme_graph(points, 8, GraphOptions(max_edges=120 * 36 * 2))
    told = r"nme num_nodes: about 8.64e\+03 edges .* more than max_edges = 8,639"
    with pytest.raises(PseError, match=told) as caught:
        found(points, Communities("nme", GraphOptions("threshold", threshold=0.8, max_edges=120 * 36 * 2 - 1)))
    assert "\n" not in str(caught.value) and "complete" not in str(caught.value)


def test_every_cut_is_reachable_from_a_config() -> None:
    from typing import get_args, get_type_hints

    assert set(CUTS) == set(get_args(get_type_hints(Communities)["method"]))


def test_nodes_between_two_communities_are_shared_by_distance_and_given_to_one_by_the_network() -> None:
    points, labels = voices([300, 300], spread=1.6)
    soft, hard = (found(points, Communities(assign=how), num_speakers=2).assign for how in ("distance", "network"))
    for shares in (soft, hard):
        assert torch.allclose(shares.sum(1), torch.ones(600), atol=1e-5)
        assert normalised_mutual_information(shares.argmax(1), labels) > 0.4
    unsure = [((shares.amax(1) < 0.9).float().mean()) for shares in (soft, hard)]
    assert unsure[0] > 2 * unsure[1]
