"""Clusters of points that come in pieces: each piece is told apart with what was heard before it."""

from __future__ import annotations

import torch
from torch import Tensor

from pse.clustering.kmeans import RESTARTS, assign, enough, fit

# Of all points of a cluster so far, as many as this count when its centroid moves: about four seconds of speech.
MEMORY = 20_000.0
STEPS = 3


class OnlineClusters:
    """Running centroids of one stream. The first piece is clustered by k-means, and should hold all speakers.

    Later ones move the centroids: each is the mean of the points it had, at the most `memory` of them, and
    of those it gets. Which cluster is which never changes. Bounded memory, whatever the stream's length.
    """

    def __init__(self, num_clusters: int, memory: float = MEMORY, restarts: int = RESTARTS) -> None:
        if num_clusters < 1 or not memory > 0 or restarts < 1:
            raise ValueError(f"no clusters can be made of {num_clusters}, memory {memory}, restarts {restarts}")
        self.num_clusters, self.memory, self.restarts = num_clusters, memory, restarts
        self.centroids: Tensor | None = None
        self._held = torch.zeros(num_clusters)

    @torch.no_grad()
    def push(self, points: Tensor, weights: Tensor) -> Tensor:
        """Labels [N] of points [N, D] with weights [N], 0 for those that move no centroid."""
        weights = weights.to(points)
        if self.centroids is None:
            if not (weights > 0).any():
                return torch.zeros(len(points), dtype=torch.long, device=points.device)
            some = enough(weights[None], self.num_clusters)
            self.centroids = fit(points[None], self.num_clusters, some, restarts=self.restarts)[0]
        start, held = self.centroids, self._held.to(points)
        for _ in range(STEPS):
            members = torch.nn.functional.one_hot(self._labels(points), self.num_clusters).to(points)
            members = members * weights.unsqueeze(1)
            sums, totals = members.mT @ points, members.sum(0)
            whole = (held + totals).unsqueeze(1)
            moved = (held.unsqueeze(1) * start + sums) / whole.clamp_min(1e-8)
            self.centroids = torch.where(whole > 0, moved, start)
        self._held = (held + totals).clamp_max(self.memory)
        return self._labels(points)

    def _labels(self, points: Tensor) -> Tensor:
        return assign(points[None], self.centroids[None])[0]
