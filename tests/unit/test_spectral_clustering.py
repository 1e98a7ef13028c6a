"""Spectral clustering through D x D against the N x N affinities."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pse.clustering.spectral import spectral, spectral_features
from pse.errors import PseError


def _directions(seed: int, spread: float = 0.1, sizes: tuple[int, ...] = (60, 40, 20)) -> tuple[Tensor, Tensor]:
    """Unit vectors [1, N, D] around orthogonal directions, and which direction, [1, N]."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.full((n,), c) for c, n in enumerate(sizes)])
    points = torch.eye(8)[labels] + spread * torch.randn(len(labels), 8, generator=g)
    return functional.normalize(points, dim=-1)[None], labels[None]


def _same_partition(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.unsqueeze(-1) == one.unsqueeze(-2), other.unsqueeze(-1) == other.unsqueeze(-2))


@pytest.mark.parametrize("num_features", [1, 2, 3])
def test_features_are_the_leading_eigenvectors_of_the_normalised_affinities(num_features: int) -> None:
    points = _directions(0)[0].abs().double()
    affinities = points[0] @ points[0].T
    scale = affinities.sum(1).rsqrt()
    vectors = torch.linalg.eigh(scale[:, None] * affinities * scale).eigenvectors.flip(-1)[:, :num_features]
    expected = functional.normalize(vectors, dim=-1)
    found = spectral_features(points, num_features)[0]
    signs = (found * expected).sum(0).sign()
    assert torch.allclose(found * signs, expected, atol=1e-8)


def test_bins_without_weight_leave_the_features_of_the_others() -> None:
    points = _directions(1)[0]
    outliers = torch.cat([points, 50 * torch.ones(1, 9, 8)], 1)
    weights = torch.cat([torch.ones(1, 120), torch.zeros(1, 9)], 1)
    expected, found = spectral_features(points, 3), spectral_features(outliers, 3, weights)
    signs = (found[:, :120] * expected).sum(1, keepdim=True).sign()
    assert torch.allclose(found[:, :120] * signs, expected, atol=1e-4) and found.isfinite().all()


def test_rows_have_norm_one_and_rotations_and_scales_change_no_angle() -> None:
    points = _directions(2)[0]
    features = spectral_features(points, 3)
    assert torch.allclose(features.norm(dim=-1), torch.ones(1, 120), atol=1e-5)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))[0]
    moved = spectral_features(7 * points @ rotation, 3)
    assert torch.allclose(moved @ moved.mT, features @ features.mT, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_clear_directions_are_found(seed: int) -> None:
    points, labels = _directions(seed, spread=0.08)
    assert _same_partition(spectral(points, 3, ids=["x"]).labels, labels)


def test_negative_degrees_are_never_nan() -> None:
    random = functional.normalize(torch.randn(2, 500, 8, generator=torch.Generator().manual_seed(3)), dim=-1)
    degrees = (random @ random.sum(1).unsqueeze(-1)).squeeze(-1)
    assert (degrees < 0).float().mean() > 0.2
    features = spectral_features(random, 8)
    # All directions of these points: an indefinite matrix would lose some.
    assert features.abs().amax(1).min() > 0
    assert features.isfinite().all() and torch.allclose(features.norm(dim=-1), torch.ones(2, 500), atol=1e-4)


def test_opposite_directions_with_degrees_of_both_signs_are_told_apart() -> None:
    direction = functional.normalize(torch.arange(1.0, 9.0), dim=0)
    for sizes in ((50, 50), (70, 30)):
        sign = torch.cat([torch.ones(sizes[0]), -torch.ones(sizes[1])])
        found = spectral((sign[:, None] * direction)[None], 2)
        assert _same_partition(found.labels, (sign > 0).long()[None])


@pytest.mark.parametrize("points", [torch.zeros(1, 30, 4), torch.ones(1, 30, 4), torch.eye(4)[None, :2]])
def test_points_of_low_rank_and_silence_are_finite(points: Tensor) -> None:
    assert spectral_features(points, 3).isfinite().all()
    assert spectral_features(points, 3, torch.zeros(points.shape[:2])).isfinite().all()


def test_too_few_active_points_are_one_line() -> None:
    with pytest.raises(PseError, match="0 active points for 2 clusters"):
        spectral(torch.ones(1, 10, 4), 2, torch.zeros(1, 10))
