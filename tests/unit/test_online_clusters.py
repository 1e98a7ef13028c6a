"""Clusters of a stream: the same as of the whole where nothing moves, following what drifts, never changing sides."""

from __future__ import annotations

import pytest
import torch

from pse.clustering.online import OnlineClusters


def _piece(random: torch.Generator, centres: torch.Tensor, spread: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    """Points [N, D] around centres [S, D], and whose each is."""
    whose = torch.randint(len(centres), (300,), generator=random)
    return centres[whose] + spread * torch.randn(300, centres.shape[1], generator=random), whose


def _same(labels: torch.Tensor, whose: torch.Tensor, order: torch.Tensor) -> float:
    return (order[labels] == whose).float().mean().item()


def test_labels_of_all_pieces_are_of_one_order() -> None:
    random = torch.Generator().manual_seed(0)
    centres, clusters = torch.eye(3, 5), OnlineClusters(3)
    first, whose = _piece(random, centres)
    labels = clusters.push(first, torch.ones(300))
    order = torch.stack([whose[labels == k].mode().values for k in range(3)])
    assert sorted(order.tolist()) == [0, 1, 2]
    for _ in range(20):
        points, whose = _piece(random, centres)
        assert _same(clusters.push(points, torch.ones(300)), whose, order) == 1


def test_centroids_that_do_not_move_become_the_mean_of_all_points() -> None:
    random = torch.Generator().manual_seed(1)
    clusters, every = OnlineClusters(2, memory=1e9), []
    for _ in range(5):
        points, whose = _piece(random, torch.eye(2, 4), 0.05)
        clusters.push(points, torch.ones(300))
        every.append((points, whose))
    points, whose = (torch.cat(x) for x in zip(*every, strict=True))
    means = torch.stack([points[whose == k].mean(0) for k in range(2)])
    apart = torch.cdist(clusters.centroids, means).amin(1)
    assert apart.max() < 1e-5


def test_centroids_follow_speakers_who_drift() -> None:
    random = torch.Generator().manual_seed(2)
    clusters, order = OnlineClusters(2, memory=300), None
    for step in range(30):
        angle = torch.tensor(0.05 * step)
        centres = torch.stack([torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.sin(), angle.cos()])])
        points, whose = _piece(random, centres)
        labels = clusters.push(points, torch.ones(300))
        order = torch.stack([whose[labels == k].mode().values for k in range(2)]) if order is None else order
        # After 30 steps each has come nearly to where the other began.
        assert _same(labels, whose, order) > 0.99


def test_silence_moves_nothing_and_may_come_first() -> None:
    random = torch.Generator().manual_seed(3)
    clusters = OnlineClusters(2)
    points, _ = _piece(random, torch.eye(2, 4))
    assert torch.equal(clusters.push(points, torch.zeros(300)), torch.zeros(300, dtype=torch.long))
    assert clusters.centroids is None
    clusters.push(points, torch.ones(300))
    before = clusters.centroids.clone()
    clusters.push(points + 5, torch.zeros(300))
    assert torch.equal(clusters.centroids, before)


@pytest.mark.parametrize("options", [{"num_clusters": 0}, {"num_clusters": 2, "memory": 0.0}])
def test_what_makes_no_clusters_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no clusters"):
        OnlineClusters(**options)
