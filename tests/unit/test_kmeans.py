"""Laws of k-means; oracles by enumeration and by SciPy."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from pse.clustering.kmeans import _lloyd, _plus_plus, assign, distances, enough, fit, generator, kmeans
from pse.errors import PseError

IDS = ["a", "b", "c"]


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _blobs(seed: int, num_points: int = 300, num_clusters: int = 3, spread: float = 0.1) -> tuple[Tensor, Tensor]:
    """Points [1, N, D] around corners far from one another, and which corner, [1, N]."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_points) % num_clusters
    return 5 * torch.eye(6)[labels][None] + spread * torch.randn(1, num_points, 6, generator=g), labels[None]


def _same_partition(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.unsqueeze(-1) == one.unsqueeze(-2), other.unsqueeze(-1) == other.unsqueeze(-2))


def _inertia(points: Tensor, weights: Tensor, labels: Tensor) -> float:
    total = 0.0
    for c in labels.unique():
        own, w = points[labels == c].double(), weights[labels == c].double().unsqueeze(-1)
        total += (w * (own - (w * own).sum(0) / w.sum()).square()).sum().item()
    return total


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighted", [False, True])
def test_the_best_of_all_partitions_of_a_few_points_is_found(seed: int, weighted: bool) -> None:
    points, weights = _random(seed, 1, 8, 2), torch.ones(1, 8)
    if weighted:
        weights = torch.rand(1, 8, generator=torch.Generator().manual_seed(seed))
    best = min(
        _inertia(points[0], weights[0], torch.tensor(p))
        for p in itertools.product(range(2), repeat=8)
        if 0 < sum(p) < 8
    )
    found = kmeans(points, 2, weights, restarts=30)
    assert found.inertia.item() == pytest.approx(best, rel=1e-4)
    assert _inertia(points[0], weights[0], found.labels[0]) == pytest.approx(best, rel=1e-4)


def test_inertia_is_no_worse_than_scipy_s_best_of_twenty() -> None:
    points = _random(1, 1, 400, 5)
    found = kmeans(points, 4, restarts=20)
    theirs = []
    for seed in range(20):
        centroids, labels = kmeans2(points[0].numpy(), 4, iter=100, minit="++", seed=seed)
        theirs.append(((points[0].numpy() - centroids[labels]) ** 2).sum())
    assert found.inertia.item() <= 1.01 * min(theirs)


@pytest.mark.parametrize("subset", [50, 10_000])
def test_blobs_far_apart_are_found_also_through_a_subset(subset: int) -> None:
    for seed in range(3):
        points, labels = _blobs(seed)
        assert _same_partition(kmeans(points, 3, subset=subset, seed=seed).labels, labels)


def test_at_rest_each_centroid_is_the_mean_of_its_points_and_each_label_the_nearest_centroid() -> None:
    points = _random(2, 2, 500, 4)
    weights = (torch.rand(2, 500, generator=torch.Generator().manual_seed(2)) < 0.7).float()
    labels, centroids, inertia = kmeans(points, 3, weights, subset=200, max_iterations=300)
    assert torch.equal(labels, torch.cdist(points, centroids).argmin(-1))
    for b, c in itertools.product(range(2), range(3)):
        own = (labels[b] == c) & (weights[b] > 0)
        assert torch.allclose(points[b][own].mean(0), centroids[b, c], atol=1e-2)
    apart = torch.cdist(points, centroids).amin(-1).square()
    assert torch.allclose(inertia, (apart * weights).sum(1), rtol=1e-4)


def test_more_clusters_and_more_iterations_never_cost_more() -> None:
    points = _random(3, 1, 200, 3)
    by_clusters = [kmeans(points, c, restarts=20).inertia.item() for c in range(1, 7)]
    assert by_clusters == sorted(by_clusters, reverse=True)
    seeds = points[:, None, :4]
    by_iterations = [_lloyd(points, torch.ones(1, 200), seeds, n)[1].item() for n in range(8)]
    assert all(b <= a * (1 + 1e-5) for a, b in itertools.pairwise(by_iterations))


def test_points_without_weight_take_no_part_and_still_get_a_label() -> None:
    points, labels = _blobs(4)
    outliers = torch.cat([points, 1000 * torch.ones(1, 5, 6)], 1)
    weights = torch.cat([torch.ones(1, 300), torch.zeros(1, 5)], 1)
    found, alone = kmeans(outliers, 3, weights), kmeans(points, 3)
    assert torch.equal(found.centroids, alone.centroids) and torch.equal(found.labels[:, :300], alone.labels)
    assert torch.equal(found.labels[:, 300:], assign(outliers[:, 300:], found.centroids))
    assert found.inertia.item() == pytest.approx(alone.inertia.item(), rel=1e-5)


def test_a_weight_of_two_is_two_points() -> None:
    points = _random(5, 1, 12, 2)
    weights = torch.tensor([[1.0, 2.0] * 6])
    twice = torch.cat([points, points[:, 1::2]], 1)
    assert kmeans(points, 3, weights, restarts=40).inertia.item() == pytest.approx(
        kmeans(twice, 3, restarts=40).inertia.item(), rel=1e-4
    )


def test_an_utterance_has_the_same_clusters_alone_and_in_any_batch() -> None:
    points = torch.stack([_random(n, 800, 5) for n in range(3)])
    weights = torch.ones(3, 800)
    weights[1, 500:], weights[2, ::3] = 0, 0
    together = kmeans(points, 3, weights, ids=IDS, subset=300)
    for n, name in enumerate(IDS):
        alone = kmeans(points[n : n + 1], 3, weights[n : n + 1], ids=[name], subset=300)
        assert torch.allclose(alone.centroids[0], together.centroids[n], atol=1e-4)
        assert (alone.labels[0] == together.labels[n]).float().mean() > 0.995


def test_an_utterance_at_rest_stays_there_while_others_move() -> None:
    easy, hard = _random(13, 1, 3000, 2), _random(14, 1, 3000, 2)
    weights, apart = torch.ones(1, 3000), 1e-3 * _random(15, 3, 2)
    seeds = kmeans(easy, 3).centroids[:, None] + 0.02, apart[None, None]
    alone, _ = _lloyd(easy, weights, seeds[0], 200)
    still_moving, _ = _lloyd(easy, weights, alone, 1)
    assert (still_moving - alone).abs().max() > 1e-5
    together, _ = _lloyd(torch.cat([easy, hard]), weights.expand(2, -1), torch.cat(seeds), 200)
    assert torch.allclose(together[0], alone[0], rtol=0, atol=1e-6)


def test_seeds_and_ids_decide_what_is_drawn() -> None:
    points = _random(6, 1, 400, 5)
    draw = {"restarts": 1, "max_iterations": 0}
    first = fit(points, 4, torch.ones(1, 400), ids=["a"], **draw)
    assert torch.equal(first, fit(points, 4, torch.ones(1, 400), ids=["a"], **draw))
    assert not torch.equal(first, fit(points, 4, torch.ones(1, 400), ids=["b"], **draw))
    assert not torch.equal(first, fit(points, 4, torch.ones(1, 400), ids=["a"], seed=1, **draw))
    state = torch.random.get_rng_state()
    kmeans(points, 2)
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.rand(1, generator=generator(0, "x")) == torch.rand(1, generator=generator(0, "x"))


def test_moving_and_scaling_all_points_leaves_the_partition() -> None:
    points, labels = _blobs(7, spread=0.3)
    for other in (points + 10, 1e-3 * points, points.bfloat16(), points.double()):
        found = kmeans(other, 3)
        assert _same_partition(found.labels, labels)
        assert found.centroids.dtype == (torch.float64 if other.dtype == torch.float64 else torch.float32)


def test_an_empty_cluster_moves_to_the_farthest_point() -> None:
    points, labels = _blobs(8)
    seeds = torch.stack([points[0, 0], points[0, 1], torch.full((6,), 1e3)])
    centroids, _ = _lloyd(points, torch.ones(1, 300), seeds[None, None], 100)
    assert _same_partition(assign(points, centroids[:, 0]), labels)


def test_several_empty_clusters_take_a_point_each_and_none_stays_empty() -> None:
    points, _ = _blobs(8)
    seeds = torch.cat([points[0, :1], torch.full((3, 6), 1e3)])
    once, _ = _lloyd(points, torch.ones(1, 300), seeds[None, None], 1)
    assert once.flatten(0, 2).unique(dim=0).shape[0] == 4
    centroids, _ = _lloyd(points, torch.ones(1, 300), seeds[None, None], 100)
    assert assign(points, centroids[:, 0]).unique().numel() == 4


def test_a_centroid_for_each_point_costs_nothing_and_equal_points_are_finite() -> None:
    points = _random(9, 1, 5, 3)
    found = kmeans(points, 5)
    assert found.inertia.item() < 1e-5 and found.labels.unique().numel() == 5
    same = kmeans(torch.ones(1, 20, 3), 4)
    assert same.inertia.item() < 1e-10 and same.centroids.isfinite().all()


def test_seeding_never_takes_a_point_twice_nor_one_without_weight() -> None:
    points = torch.eye(6)[None]
    weights = torch.tensor([[1.0, 1, 1, 1, 0, 0]])
    draws = torch.rand(1, 200, 4, generator=torch.Generator().manual_seed(0))
    draws[0, 0], draws[0, 1] = 0.0, 1 - 2**-24
    seeds = _plus_plus(points, weights, draws)
    assert torch.equal(seeds.sum(2), torch.tensor([1.0, 1, 1, 1, 0, 0]).expand(1, 200, 6))


def test_distances_are_squared_and_of_all_points() -> None:
    points, centroids = _random(10, 2, 7, 3), _random(11, 2, 4, 3)
    assert torch.allclose(distances(points, centroids), torch.cdist(centroids, points).square(), atol=1e-5)


def test_rows_with_too_few_points_count_all_of_them() -> None:
    weights = torch.tensor([[0.0, 0, 1], [0, 1, 1], [0, 0, 0]])
    assert enough(weights, 2).tolist() == [[1, 1, 1], [0, 1, 1], [1, 1, 1]]


def test_more_clusters_than_points_and_no_numbers_are_one_line() -> None:
    points = _random(12, 2, 6, 3)
    weights = torch.ones(2, 6)
    weights[1, 1:] = 0
    with pytest.raises(PseError, match="b: 1 active points for 2 clusters") as caught:
        kmeans(points, 2, weights, ids=["a", "b"])
    assert "\n" not in str(caught.value)
    points[0, 0] = torch.nan
    with pytest.raises(PseError, match="finite"):
        kmeans(points, 2)
