"""Spectral clustering of embeddings, by the eigenvectors of a D x D matrix.

With the affinities V V^T, degrees D = diag(V V^T 1) and V~ = D^-1/2 V, the leading left singular
vectors of V~ are those of the normalised N x N affinities (Hershey et al. 2016, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pse.clustering.kmeans import MAX_ITERATIONS, RESTARTS, SUBSET, Clusters, kmeans
from pse.precision import full_precision

# Affinities of embeddings with both signs may add up to less than nothing. Degrees below this part of
# their mean size are raised to it, so that no few bins of noise outweigh all others.
DEGREE_FLOOR = 1e-2
RANK_TOLERANCE = 1e-6


@torch.no_grad()
def spectral_features(points: Tensor, num_features: int, weights: Tensor | None = None) -> Tensor:
    """The leading `num_features` left singular vectors of V~, each row scaled to norm one: [B, N, m].

    points: [B, N, D]; weights: [B, N], 0 for bins that take no part in the eigenvectors; they have
    features too. Directions beyond the rank of the points are 0. Never NaN.
    """
    points = points if points.dtype == torch.float64 else points.float()
    weights = points.new_ones(points.shape[:2]) if weights is None else weights.to(points)
    with full_precision(points.device):
        degrees = (points @ (points.mT @ weights.unsqueeze(-1))).squeeze(-1)
        mean = (weights * degrees.abs()).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp_min(1e-30)
        degrees = torch.where(mean > 0, degrees / mean, 1.0).clamp_min(DEGREE_FLOOR)
        gram = points.mT @ (points * (weights / degrees).unsqueeze(-1))
        values, vectors = (x.flip(-1)[..., :num_features] for x in torch.linalg.eigh(gram.double()))
        kept = values > RANK_TOLERANCE * values[:, :1]
        scale = torch.where(kept, values.clamp_min(1e-30).rsqrt(), 0.0)
        # A row's degree scales the whole row, which the norm takes back.
        return functional.normalize(points @ (vectors * scale.unsqueeze(1)).to(points), dim=-1)


def spectral(
    points: Tensor,
    num_clusters: int,
    weights: Tensor | None = None,
    *,
    num_features: int | None = None,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    restarts: int = RESTARTS,
    max_iterations: int = MAX_ITERATIONS,
    subset: int = SUBSET,
) -> Clusters:
    """k-means of the spectral features of points [B, N, D]; num_features: None for one per cluster.

    Otherwise as `pse.clustering.kmeans.kmeans`; centroids [B, S, m] and inertia are those of the features.
    """
    features = spectral_features(points, num_features or num_clusters, weights)
    options = {"ids": ids, "seed": seed, "restarts": restarts, "max_iterations": max_iterations, "subset": subset}
    return kmeans(features, num_clusters, weights, **options)
