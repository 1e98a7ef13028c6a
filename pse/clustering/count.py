"""How many sources there are, told from the embeddings alone.

Each estimator gives a count from 1 to `max_count` for every utterance, and the curve it was read
from, or a calibration can read it from. Those on eigenvalues need one D x D matrix; those on clusters look at a subset
of the points.
Neighbouring bins are not independent, so the criteria of information theory tend to count too many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pse.clustering.kmeans import Clusters, drawn, generator, kmeans, packed
from pse.errors import PseError
from pse.precision import full_precision

MAX_COUNT = 5
# A source is a direction with this part of the embeddings' energy.
EIGENVALUE = 0.05
# Below this the clusters of a split are no clearer than one cluster.
SILHOUETTE = 0.3
POINTS = 1000
# Steps of the cosine, from -1 to 1, in which pairs of points are counted for a calibration.
STEPS = 16
REFERENCES = 8
RESTARTS = 4


class Count(NamedTuple):
    """count [B], and curve [B, max_count], whose entry c - 1 speaks of c sources; that of eigenvalues has more."""

    count: Tensor
    curve: Tensor


@torch.no_grad()
def eigenvalues(points: Tensor, weights: Tensor, size: int) -> Tensor:
    """The largest `size` eigenvalues of V^T R V, as parts of all of them: [B, size], falling.

    points: [B, N, D]; weights: [B, N]. Ideal embeddings have one eigenvalue for each source, its part of
    the bins. Zeros follow where D is smaller.
    """
    points = points if points.dtype == torch.float64 else points.float()
    with full_precision(points.device):
        gram = points.mT @ (points * weights.to(points).unsqueeze(-1))
    values = torch.linalg.eigvalsh(gram.double()).flip(-1).clamp_min(0)
    values = values / values.sum(-1, keepdim=True).clamp_min(1e-30)
    return torch.nn.functional.pad(values, (0, max(0, size - values.shape[-1])))[:, :size]


def alike(points: Tensor, weights: Tensor) -> Tensor:
    """How alike pairs of unit vectors are: [B, STEPS], the parts of pairs in equal steps of the cosine from -1 to 1.

    points: [B, N, D]; of those with weights [B, N] above 0 at most 1000, drawn. Zeros where there are fewer than two.
    """
    some, active = _sample(points, weights, POINTS, ["pairs"] * len(points), 0, 0)
    rows = []
    for row, there in zip(some, active, strict=True):
        kept = row[there > 0]
        with full_precision(points.device):
            cosines = (kept @ kept.T).clamp(-1, 1)
        pairs = torch.ones_like(cosines).triu(1) > 0
        rows.append(torch.histc(cosines[pairs].float().cpu(), STEPS, -1, 1) / max(1, int(pairs.sum())))
    return torch.stack(rows).double().to(points.device)


def read_off(points: Tensor, weights: Tensor, least: int = MAX_COUNT) -> Tensor:
    """What a calibration reads off unit vectors [B, N, D] with weights [B, N]: eigenvalues, then how alike pairs are.

    All eigenvalues, `least` of them at least. The small ones and the pairs tell how far embeddings lie from ideal ones,
    and so what the large ones are worth.
    """
    return torch.cat([eigenvalues(points, weights, max(least, points.shape[-1])), alike(points, weights)], 1)


def by_eigenvalues(points: Tensor, weights: Tensor, max_count: int = MAX_COUNT) -> Count:
    """The number of eigenvalues that are a part of 0.05 at least; the curve is that of `read_off`."""
    curve = read_off(points, weights, max_count)
    return Count((curve[:, :max_count] >= EIGENVALUE).sum(1).clamp_min(1), curve)


def by_eigengap(points: Tensor, weights: Tensor, max_count: int = MAX_COUNT, *, floor: float = EIGENVALUE / 5) -> Count:
    """Where the eigenvalues fall by the largest factor, those below `floor` being alike; the curve is its logarithm."""
    values = (eigenvalues(points, weights, max_count + 1) + floor).log()
    curve = values[:, :-1] - values[:, 1:]
    return Count(curve.argmax(1) + 1, curve)


def by_silhouette(
    points: Tensor,
    weights: Tensor,
    max_count: int = MAX_COUNT,
    *,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    num_points: int = POINTS,
) -> Count:
    """The clusters with the best mean silhouette (Rousseeuw 1987), or one when none reaches 0.3.

    The curve is the mean silhouettes; that of one cluster, which has none, is that limit.
    """
    some, active = _sample(points, weights, num_points, ids, seed, max_count)
    apart = torch.cdist(some, some, compute_mode="donot_use_mm_for_euclid_dist")
    curve = [torch.full_like(active[:, 0], SILHOUETTE)]
    for c in range(2, max_count + 1):
        clusters = _split(some, active, c, ids, seed)
        curve.append(_silhouette(apart, clusters.labels, active, c))
    return _highest(torch.stack(curve, 1))


def by_bic(
    points: Tensor,
    weights: Tensor,
    max_count: int = MAX_COUNT,
    *,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    num_points: int = POINTS,
) -> Count:
    """The best Bayesian information criterion of round clusters of one width (Pelleg & Moore 2000).

    The curve is log likelihood less penalty, by point.
    """
    some, active = _sample(points, weights, num_points, ids, seed, max_count)
    count, size, curve = active.sum(1), some.shape[-1], []
    for c in range(1, max_count + 1):
        clusters = _split(some, active, c, ids, seed)
        members = torch.stack([(active * (clusters.labels == n)).sum(1) for n in range(c)], 1)
        variance = (clusters.inertia / (count * size)).clamp_min(torch.finfo(some.dtype).eps)
        likelihood = torch.special.xlogy(members, members / count[:, None]).sum(1) - 0.5 * count * size * variance.log()
        curve.append((likelihood - 0.5 * c * (size + 1) * count.log()) / count)
    return _highest(torch.stack(curve, 1))


def by_gap(
    points: Tensor,
    weights: Tensor,
    max_count: int = MAX_COUNT,
    *,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    num_points: int = POINTS,
) -> Count:
    """The gap statistic (Tibshirani, Walther & Hastie 2001): the first c whose gap the next one does not exceed.

    By more than its standard error, over uniform points in the box along the principal axes. The curve is the gaps.
    """
    some, active = _sample(points, weights, num_points, ids, seed, max_count)
    gaps, errors = [], []
    names = _names(ids, points)
    draws = (generator(seed, f"{name}/gap") for name in names)
    references = [_uniform(*row) for row in zip(some, active, draws, strict=True)]
    for c in range(1, max_count + 1):
        inertia = _split(some, active, c, ids, seed).inertia
        others = []
        for reference, row in zip(references, active, strict=True):
            others.append(_split(reference, row.expand(REFERENCES, -1), c, None, seed).inertia)
        logs = torch.stack(others).clamp_min(1e-30).log()
        gaps.append(logs.mean(1) - inertia.clamp_min(1e-30).log())
        errors.append(logs.std(1, correction=0) * math.sqrt(1 + 1 / REFERENCES))
    curve, error = torch.stack(gaps, 1), torch.stack(errors, 1)
    return Count(_first_not_exceeded(curve, error), curve)


ON_EIGENVALUES: dict[str, Callable[..., Count]] = {"eigenvalues": by_eigenvalues, "eigengap": by_eigengap}
ON_CLUSTERS: dict[str, Callable[..., Count]] = {"silhouette": by_silhouette, "bic": by_bic, "gap": by_gap}
ESTIMATORS = (*ON_EIGENVALUES, *ON_CLUSTERS)


def count_sources(
    name: str,
    points: Tensor,
    weights: Tensor,
    max_count: int = MAX_COUNT,
    *,
    ids: Sequence[str] | None = None,
    seed: int = 0,
) -> Count:
    """What the estimator of a config's name says of points [B, N, D] with weights [B, N], 0 for inactive bins.

    Raises PseError for another name, and from clusters where fewer than max_count points are active.
    """
    if name in ON_EIGENVALUES:
        return ON_EIGENVALUES[name](points, weights, max_count)
    if name in ON_CLUSTERS:
        return ON_CLUSTERS[name](points, weights, max_count, ids=ids, seed=seed)
    raise PseError(f"no estimator of a count is named {name!r}", "count", f"choose one of {', '.join(ESTIMATORS)}")


def _highest(curve: Tensor) -> Count:
    return Count(curve.argmax(1) + 1, curve)


def _first_not_exceeded(curve: Tensor, error: Tensor) -> Tensor:
    """The first c whose value is not below the next one by more than the next one's error: [B]."""
    enough = curve[:, :-1] >= curve[:, 1:] - error[:, 1:]
    last = torch.ones_like(curve[:, :1], dtype=torch.bool)
    return torch.cat([enough, last], 1).int().argmax(1) + 1


def _names(ids: Sequence[str] | None, points: Tensor) -> list[str]:
    return [str(n) for n in range(len(points))] if ids is None else list(ids)


def _sample(
    points: Tensor, weights: Tensor, num_points: int, ids: Sequence[str] | None, seed: int, needed: int
) -> tuple[Tensor, Tensor]:
    """At most num_points active points of each utterance: [B, M, D], and 1 where there is one, [B, M]."""
    points = points if points.dtype == torch.float64 else points.float()
    rows = []
    for row, name in zip(weights, _names(ids, points), strict=True):
        rows.append(drawn(row.nonzero().squeeze(1), num_points, generator(seed, f"{name}/count")))
        if len(rows[-1]) < needed:
            what = f"{len(rows[-1])} active points cannot be counted up to {needed} clusters"
            raise PseError(what, f"count in {name}", "ask for a smaller number, or count quieter bins as active")
    return packed(points, (weights > 0).to(points), rows)


def _split(points: Tensor, active: Tensor, num_clusters: int, ids: Sequence[str] | None, seed: int) -> Clusters:
    return kmeans(points, num_clusters, active, ids=ids, seed=seed, restarts=RESTARTS)


def _silhouette(apart: Tensor, labels: Tensor, active: Tensor, num_clusters: int) -> Tensor:
    """Mean silhouette [B] of labels [B, M] from distances [B, M, M]; points alone in a cluster have 0."""
    clusters = torch.arange(num_clusters, device=labels.device)
    members = (labels.unsqueeze(-1) == clusters) * active.unsqueeze(-1)
    totals, sizes = apart @ members, members.sum(1, keepdim=True)
    own = labels.unsqueeze(-1) == clusters
    inside = (totals * own).sum(-1) / ((sizes * own).sum(-1) - 1).clamp_min(1)
    outside = torch.where(own | (sizes == 0), torch.inf, totals / sizes.clamp_min(1)).amin(-1)
    value = (outside - inside) / torch.maximum(inside, outside).clamp_min(1e-30)
    value = torch.where(((sizes * own).sum(-1) > 1) & outside.isfinite(), value, 0.0)
    return (value * active).sum(1) / active.sum(1)


def _uniform(points: Tensor, active: Tensor, random: torch.Generator) -> Tensor:
    """Uniform points [REFERENCES, M, D] in the box of the active points [M, D] along their principal axes.

    As many as are active, then zeros: the draws must not depend on the length of another utterance.
    """
    kept = points[active > 0]
    mean = kept.mean(0)
    axes = torch.linalg.eigh((kept - mean).mT.double() @ (kept - mean).double()).eigenvectors.to(points)
    along = (kept - mean) @ axes
    low, high = along.amin(0), along.amax(0)
    draws = torch.rand(REFERENCES, *kept.shape, generator=random).to(points)
    uniform = (low + draws * (high - low)) @ axes.mT + mean
    return torch.nn.functional.pad(uniform, (0, 0, 0, len(points) - len(kept)))
