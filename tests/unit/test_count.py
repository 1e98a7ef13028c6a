"""Estimators of the number of sources on embeddings whose number is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pse.clustering.calibration import calibrate
from pse.clustering.count import (
    ESTIMATORS,
    STEPS,
    _first_not_exceeded,
    _silhouette,
    alike,
    by_bic,
    by_eigengap,
    by_eigenvalues,
    by_gap,
    by_silhouette,
    count_sources,
    eigenvalues,
)
from pse.errors import PseError

D = 8


def _embeddings(num_sources: int, spread: float = 0.08, num_points: int = 400, seed: int = 0) -> Tensor:
    """Unit vectors [1, N, D] around orthogonal directions, the first with most of the points."""
    g = torch.Generator().manual_seed(seed)
    label = torch.arange(num_points) % (num_sources + 1) % num_sources
    points = torch.eye(D)[label] + spread * torch.randn(num_points, D, generator=g)
    return functional.normalize(points, dim=-1)[None]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_clear_sources_are_counted_and_silent_bins_are_not(name: str) -> None:
    active = torch.cat([torch.ones(1, 400), torch.zeros(1, 100)], 1)
    random = functional.normalize(torch.randn(1, 100, D, generator=torch.Generator().manual_seed(1)), dim=-1)
    for num_sources in (1, 2, 3, 4):
        points = torch.cat([_embeddings(num_sources), random], 1)
        found = count_sources(name, points, active)
        assert found.count.tolist() == [num_sources] and found.curve.isfinite().all()
        assert found.curve.shape == (1, D + STEPS if name == "eigenvalues" else 5)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_each_utterance_of_a_batch_has_its_own_count_whatever_its_companions(name: str) -> None:
    points = torch.cat([_embeddings(3), _embeddings(1), _embeddings(2)])
    weights = torch.ones(3, 400)
    weights[1, 300:] = 0
    together = count_sources(name, points, weights, ids=["a", "b", "c"])
    assert together.count.tolist() == [3, 1, 2]
    alone = count_sources(name, points[1:2], weights[1:2], ids=["b"])
    assert torch.allclose(alone.curve[0], together.curve[1], atol=1e-3)


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("max_count", [1, 2])
def test_a_count_is_never_above_the_largest_asked_for(name: str, max_count: int) -> None:
    found = count_sources(name, _embeddings(4), torch.ones(1, 400), max_count)
    assert 1 <= found.count.item() <= max_count
    assert found.curve.shape == (1, D + STEPS if name == "eigenvalues" else max_count)


def test_eigenvalues_of_ideal_embeddings_are_the_parts_of_the_bins() -> None:
    label = torch.tensor([0] * 6 + [1] * 3 + [2])
    got = eigenvalues(torch.eye(D)[label][None], torch.ones(1, 10), 12)
    expected = torch.tensor([[0.6, 0.3, 0.1] + [0.0] * 9]).double()
    assert torch.allclose(got, expected, atol=1e-6)
    weights = torch.tensor([[1.0] * 6 + [2.0] * 3 + [0.0]])
    assert torch.allclose(eigenvalues(torch.eye(D)[label][None], weights, 2), torch.tensor([[0.5, 0.5]]).double())


def test_the_whole_curve_tells_a_calibration_more_than_the_large_eigenvalues() -> None:
    """Blurred embeddings of two sources and clear ones of three can have alike large eigenvalues."""
    random = torch.Generator().manual_seed(3)
    counts = [2 + n % 2 for n in range(240)]
    curves = []
    for seed, count in enumerate(counts):
        blur = 0.2 + 0.8 * torch.rand(1, generator=random).item()
        points = _embeddings(count, spread=blur, seed=seed)
        curves.append(count_sources("eigenvalues", points, torch.ones(1, 400)).curve[0].tolist())
    right = {}
    for size in (3, D + STEPS):
        reading = calibrate([c[:size] for c in curves[:160]], counts[:160])
        right[size] = sum(reading.count(c) == n for c, n in zip(curves[160:], counts[160:], strict=True))
    assert right[D + STEPS] > right[3], right


def test_pairs_are_as_alike_as_their_cosines() -> None:
    g = torch.Generator().manual_seed(0)
    points = functional.normalize(torch.randn(2, 50, D, generator=g), dim=-1)
    weights = torch.ones(2, 50)
    weights[1, 30:] = 0
    found = alike(points, weights)
    for row, size in ((0, 50), (1, 30)):
        some = points[row, :size].numpy()
        cosines = [float(a @ b) for i, a in enumerate(some) for b in some[i + 1 :]]
        expected, _ = np.histogram(cosines, STEPS, (-1, 1))
        assert found[row].tolist() == pytest.approx((expected / len(cosines)).tolist(), abs=1e-3)
    # Equal points, and none to compare.
    assert alike(points[:1, :1].expand(1, 50, D), weights[:1])[0, -1] == pytest.approx(1)
    assert not alike(points, 0 * weights).any()
    assert not alike(points[:, :1], weights[:, :1]).any()


def test_silence_has_one_source_by_eigenvalues_and_is_one_line_by_clusters() -> None:
    points, silent = _embeddings(2), torch.zeros(1, 400)
    assert by_eigenvalues(points, silent).count.item() == by_eigengap(points, silent).count.item() == 1
    for name in ("silhouette", "bic", "gap"):
        with pytest.raises(PseError, match="0 active points") as caught:
            count_sources(name, points, silent)
        assert "\n" not in str(caught.value)
    with pytest.raises(PseError, match="eigengap"):
        count_sources("nothing", points, silent)


def test_silhouette_is_rousseeuw_s_point_by_point() -> None:
    g = torch.Generator().manual_seed(2)
    points, labels = torch.randn(40, 3, generator=g), torch.randint(0, 3, (40,), generator=g)
    labels[labels == 2] = 1
    labels[7] = 2
    apart, values = torch.cdist(points, points).numpy(), []
    for i in range(40):
        same = (labels == labels[i]).numpy() & (np.arange(40) != i)
        others = [apart[i, (labels == c).numpy()].mean() for c in range(3) if c != labels[i]]
        inside = apart[i, same].mean() if same.any() else None
        values.append(0.0 if inside is None else (min(others) - inside) / max(min(others), inside))
    padded = torch.cat([points, torch.zeros(3, 3)])
    active = torch.cat([torch.ones(40), torch.zeros(3)])[None]
    got = _silhouette(torch.cdist(padded, padded)[None], torch.cat([labels, labels[:3]])[None], active, 3)
    assert got.item() == pytest.approx(float(np.mean(values)), abs=1e-5)
    with_an_empty_cluster = _silhouette(torch.cdist(points, points)[None], labels[None], active[:, :40], 4)
    assert with_an_empty_cluster.item() == pytest.approx(got.item(), abs=1e-5)


def test_noise_without_clusters_is_one_source_by_silhouette_and_gap() -> None:
    random = functional.normalize(torch.randn(1, 500, D, generator=torch.Generator().manual_seed(3)), dim=-1)
    assert by_silhouette(random, torch.ones(1, 500)).count.item() == 1
    uniform = torch.rand(8, 300, 3, generator=torch.Generator().manual_seed(4))
    assert by_gap(uniform, torch.ones(8, 300), 3).count.tolist() == [1] * 8


def test_a_gap_counts_as_exceeded_only_by_more_than_the_next_one_s_error() -> None:
    curve = torch.tensor([[1.0, 1.2, 1.1]]).expand(3, -1)
    error = torch.tensor([[0.0, 0.1, 0.0], [0.0, 0.3, 0.0], [0.3, 0.0, 0.0]])
    assert _first_not_exceeded(curve, error).tolist() == [2, 1, 2]
    assert _first_not_exceeded(torch.tensor([[1.0, 2.0, 3.0]]), torch.zeros(1, 3)).tolist() == [3]


def test_bic_is_likelihood_less_penalty_of_the_clusters_there_are() -> None:
    points, n = _embeddings(2)[0].double(), 400
    part = points[:, 0] > points[:, 1]
    expected = []
    for clusters in ([points], [points[part], points[~part]]):
        variance = sum((x - x.mean(0)).square().sum().item() for x in clusters) / (n * D)
        likelihood = sum(len(x) * math.log(len(x) / n) for x in clusters) - n * D / 2 * math.log(variance)
        expected.append((likelihood - len(clusters) * (D + 1) / 2 * math.log(n)) / n)
    assert by_bic(points[None], torch.ones(1, n), 2).curve[0].tolist() == pytest.approx(expected, abs=1e-6)
