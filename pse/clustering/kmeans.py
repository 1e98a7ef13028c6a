"""k-means of many utterances at once, on the processor or the device that holds the points.

Each utterance draws from a generator seeded by (seed, its id) and stops on its own, so its clusters
do not depend on what else is in the batch. k-means++ and all restarts run together on a subset of
the points; the best of them then continues on all points.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pse.errors import PseError
from pse.precision import full_precision

RESTARTS = 10
MAX_ITERATIONS = 100
SUBSET = 10_000
# Of the variance of the points: centroids that together move less than this have arrived.
TOLERANCE = 1e-6


class Clusters(NamedTuple):
    """labels [B, N] of all points, centroids [B, S, D], and the summed weighted squared distances, inertia [B]."""

    labels: Tensor
    centroids: Tensor
    inertia: Tensor


@torch.no_grad()
def kmeans(
    points: Tensor,
    num_clusters: int,
    weights: Tensor | None = None,
    *,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    restarts: int = RESTARTS,
    max_iterations: int = MAX_ITERATIONS,
    subset: int = SUBSET,
) -> Clusters:
    """Clusters of points [B, N, D] that have weights [B, N] (None: all one); a weight of 0 is no point.

    The centroids come from points with a weight, the labels are the nearest centroid of every point.
    ids: of the utterances (None: their positions); half precision is widened to float32.
    Raises PseError where an utterance has fewer points than clusters, or one that is not a number.
    """
    points = _widened(points)
    weights = points.new_ones(points.shape[:2]) if weights is None else weights.to(points)
    options = {"ids": ids, "seed": seed, "restarts": restarts, "max_iterations": max_iterations, "subset": subset}
    centroids = fit(points, num_clusters, weights, **options)
    nearest, labels = distances(points, centroids).min(1)
    return Clusters(labels, centroids, torch.where(weights > 0, weights * nearest, 0.0).sum(-1))


@torch.no_grad()
def fit(
    points: Tensor,
    num_clusters: int,
    weights: Tensor,
    *,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    restarts: int = RESTARTS,
    max_iterations: int = MAX_ITERATIONS,
    subset: int = SUBSET,
) -> Tensor:
    """The centroids [B, S, D] alone, of what `kmeans` takes; `distances` or `assign` apply them to any points."""
    points = _widened(points)
    weights = weights.to(points)
    ids = [str(n) for n in range(len(points))] if ids is None else list(ids)
    for utterance, count in zip(ids, (weights > 0).sum(1).tolist(), strict=True):
        if count < num_clusters or num_clusters < 1:
            raise PseError(
                f"{count} active points for {num_clusters} clusters",
                f"k-means of {utterance}",
                "ask for fewer clusters, or count quieter bins as active",
            )
    active = [row.nonzero().squeeze(1) for row in weights > 0]
    few, draws = [], []
    for utterance, rows in zip(ids, active, strict=True):
        random = generator(seed, utterance)
        draws.append(torch.rand(restarts, num_clusters, generator=random))
        few.append(drawn(rows, subset, random))
    with full_precision(points.device):
        some, some_weight = packed(points, weights, few)
        seeds = _plus_plus(some, some_weight, torch.stack(draws).to(points))
        centroids, inertia = _lloyd(some, some_weight, seeds, max_iterations)
        best = centroids[torch.arange(len(points), device=points.device), inertia.argmin(1)].unsqueeze(1)
        if long := [n for n, rows in enumerate(active) if len(rows) > subset]:
            every, every_weight = packed(*zip(*((points[n], weights[n], active[n]) for n in long), strict=True))
            best[long], _ = _lloyd(every, every_weight, best[long], max_iterations)
    if not best.isfinite().all():
        raise PseError("an embedding is not a finite number", "k-means", "train again with a lower learning rate")
    return best.squeeze(1)


@torch.no_grad()
def distances(points: Tensor, centroids: Tensor) -> Tensor:
    """Squared distances [B, S, N] of points [B, N, D] to centroids [B, S, D]; the long axis is last."""
    points = _widened(points)
    with full_precision(points.device):
        squares = points.square().sum(-1).unsqueeze(1) + centroids.square().sum(-1, keepdim=True)
        return (squares - 2 * (centroids @ points.mT)).clamp_min_(0)


def assign(points: Tensor, centroids: Tensor) -> Tensor:
    """The nearest of centroids [B, S, D] to each of points [B, N, D]: labels [B, N]."""
    return distances(points, centroids).min(1).indices


def enough(weights: Tensor, num_clusters: int) -> Tensor:
    """Weights [B, N] with which every row can be clustered: all points count where fewer than S do.

    For segments of an utterance, of which one may be silent.
    """
    return torch.where((weights > 0).sum(1, keepdim=True) >= num_clusters, weights, torch.ones_like(weights))


def generator(seed: int, utterance: str) -> torch.Generator:
    """Random numbers of one utterance, the same on every device."""
    digest = hashlib.sha256(f"{seed}/{utterance}".encode(errors="surrogatepass")).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def drawn(rows: Tensor, size: int, random: torch.Generator) -> Tensor:
    """At most `size` of rows [N], drawn without replacement."""
    return rows if len(rows) <= size else rows[torch.randperm(len(rows), generator=random)[:size].to(rows.device)]


def packed(
    points: Sequence[Tensor] | Tensor, weights: Sequence[Tensor] | Tensor, rows: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Chosen rows of each of points B x [N, D] and weights B x [N], as [B, M, D] and [B, M] ending in zeros."""
    longest = max(len(r) for r in rows)
    some = points[0].new_zeros(len(rows), longest, points[0].shape[-1])
    some_weight = points[0].new_zeros(len(rows), longest)
    for n, r in enumerate(rows):
        some[n, : len(r)] = points[n].index_select(0, r)
        some_weight[n, : len(r)] = weights[n].index_select(0, r)
    return some, some_weight


def _widened(points: Tensor) -> Tensor:
    return points if points.dtype == torch.float64 else points.float()


def _plus_plus(points: Tensor, weights: Tensor, draws: Tensor) -> Tensor:
    """k-means++ of all restarts: points [B, M, D], draws [B, R, S] in [0, 1) -> centroids [B, R, S, D]."""
    last = (weights > 0).sum(1)[:, None, None] - 1
    which = torch.arange(len(points), device=points.device)[:, None]
    mass, nearest, chosen = weights.unsqueeze(1).expand(-1, draws.shape[1], -1), None, []
    for s in range(draws.shape[2]):
        total = mass.cumsum(-1)
        # Beyond the first equal: a point without mass is never drawn.
        index = torch.searchsorted(total, draws[:, :, s : s + 1] * total[..., -1:], right=True)
        chosen.append(points[which, torch.minimum(index, last).squeeze(-1)])
        to_new = distances(points, chosen[-1])
        nearest = to_new if nearest is None else torch.minimum(nearest, to_new)
        mass = weights.unsqueeze(1) * nearest
        # Fewer different points than clusters: any of them again.
        mass = torch.where(mass.sum(-1, keepdim=True) > 0, mass, weights.unsqueeze(1))
    return torch.stack(chosen, 2)


def _lloyd(points: Tensor, weights: Tensor, centroids: Tensor, max_iterations: int) -> tuple[Tensor, Tensor]:
    """Centroids [B, R, S, D] moved to rest, and their inertia [B, R]; those at rest stay as they are."""
    num_runs, num_clusters = centroids.shape[1:3]
    squares = points.square().sum(-1).unsqueeze(1)
    tolerance = TOLERANCE * (weights * squares[:, 0]).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
    moving = torch.ones(centroids.shape[:2], dtype=torch.bool, device=points.device)
    clusters = torch.arange(num_clusters, device=points.device).unsqueeze(-1)
    for _ in range(max_iterations):
        nearest, labels = _scores(points, centroids).min(2)
        members = (labels.unsqueeze(2) == clusters) * weights[:, None, None, :]
        totals = members.sum(-1)
        sums = (members.flatten(1, 2) @ points).unflatten(1, (num_runs, num_clusters))
        new = sums / totals.clamp_min(torch.finfo(points.dtype).tiny).unsqueeze(-1)
        if (empty := totals == 0).any():
            new = _reseeded(new, empty, points, weights, nearest + squares)
        new = torch.where(moving[..., None, None], new, centroids)
        moving &= (new - centroids).square().sum((2, 3)) > tolerance
        centroids = new
        if not moving.any():
            break
    nearest = _scores(points, centroids).amin(2) + squares
    return centroids, (weights.unsqueeze(1) * nearest).sum(-1)


def _scores(points: Tensor, centroids: Tensor) -> Tensor:
    """Squared distances [B, R, S, M] less the points' own squares, which no comparison needs."""
    products = (centroids.flatten(1, 2) @ points.mT).unflatten(1, centroids.shape[1:3])
    return products.mul_(-2).add_(centroids.square().sum(-1, keepdim=True))


def _reseeded(centroids: Tensor, empty: Tensor, points: Tensor, weights: Tensor, nearest: Tensor) -> Tensor:
    """Empty clusters [B, R, S] put on the points that are farthest from their centroids, a point each."""
    far = torch.where(weights.unsqueeze(1) > 0, nearest, -torch.inf).topk(empty.shape[-1], dim=-1).indices
    turn = (empty.cumsum(-1) - 1).clamp_min(0)
    which = torch.arange(len(points), device=points.device)[:, None, None]
    return torch.where(empty.unsqueeze(-1), points[which, far.gather(-1, turn)], centroids)
