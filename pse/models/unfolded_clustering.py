"""Deep clustering end to end: soft k-means as layers of a network, and a net that mends its masks.

Isik, Le Roux, Chen, Watanabe & Hershey, "Single-channel multi-speaker separation using deep clustering",
Interspeech 2016 (1607.02173), section 3; the sizes are ours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pse.clustering.kmeans import enough, fit
from pse.losses.activity import THRESHOLD_DB, activity, bins, points, unflattened
from pse.models.base import Output, require_positive
from pse.models.embedding import LOG_FLOOR
from pse.models.on_clusters import OnClusters


class UnfoldedClustering(OnClusters):
    """An embedding net, `iterations` of soft k-means, and BLSTM layers that give the final masks.

    net: the mapping of an embedding model, whose trained weights are the first ones (`start`). num_masks:
    speakers; a trained model separates any number. hardness: of the softmax by squared distance. The last
    layers hear the mixture and what a cluster leaves of it, one cluster after the other, so no order is
    learned. Raises ValueError for sizes that do not fit, PseError for a net without embeddings.
    """

    def __init__(
        self,
        net: dict[str, Any],
        num_masks: int = 2,
        iterations: int = 3,
        hardness: float = 5.0,
        hidden_size: int = 300,
        num_layers: int = 1,
    ) -> None:
        super().__init__(net, num_masks)
        if self.node_shape != (1, 1):
            raise ValueError("net must give every bin an embedding: set node_bins: 1 and node_frames: 1")
        require_positive(iterations=iterations, hidden_size=hidden_size, num_layers=num_layers)
        if not hardness > 0:
            raise ValueError(f"hardness must be above 0, got {hardness}")
        self.iterations, self.hardness = iterations, hardness
        num_bins = self.transform.num_bins
        self.lstm = nn.LSTM(2 * num_bins, hidden_size, num_layers, batch_first=True, bidirectional=True)
        self.leave = nn.Linear(2 * hidden_size, num_bins)

    def process(self, mix: Tensor) -> Output:
        """Embeddings, masks [B, S, K, F] and estimates [B, S, T] of mix: [B, T]."""
        spectrum = self.transform.stft(mix)
        embeddings = self.net.separate(spectrum, mix.shape[1]).embeddings
        masks = self._enhanced(spectrum, self.clusters(embeddings, spectrum))
        wavs = self.transform.istft((spectrum[:, None] * masks).flatten(0, 1), mix.shape[1])
        return Output(wavs=wavs.unflatten(0, masks.shape[:2]), masks=masks, embeddings=embeddings)

    def clusters(self, embeddings: Tensor, spectrum: Tensor) -> Tensor:
        """Soft masks [B, S, K, F] of embeddings [B, K, F, D], differentiable but for where k-means begins."""
        vectors = points(embeddings)
        active = activity(spectrum.abs()[:, None], spectrum.abs(), rule="mixture", threshold_db=THRESHOLD_DB)
        weights = enough(bins(active).float(), self.num_masks)
        # One seed for all: what comes out must not depend on an example's place in its batch.
        seeds = ["unfolded"] * len(vectors)
        centroids = fit(vectors.detach(), self.num_masks, weights, ids=seeds, restarts=1).to(vectors)
        for _ in range(self.iterations):
            shares = self._shares(vectors, centroids) * weights.unsqueeze(1)
            centroids = (shares @ vectors) / shares.sum(-1, keepdim=True).clamp_min(1e-8)
        return unflattened(self._shares(vectors, centroids), spectrum.shape[1])

    def _shares(self, vectors: Tensor, centroids: Tensor) -> Tensor:
        """Of each centroid [B, S, D] in each of vectors [B, N, D]: [B, S, N], adding up to one."""
        # |v - c|^2 without |v|^2, which is the same for all centroids.
        apart = centroids.square().sum(-1, keepdim=True) - 2 * centroids @ vectors.mT
        return torch.softmax(-self.hardness * apart, dim=1)

    def _enhanced(self, spectrum: Tensor, masks: Tensor) -> Tensor:
        """Masks [B, S, K, F] made better, each by the same layers."""
        size = spectrum.abs()[:, None] / self.transform.noise_level
        heard = torch.stack([size.expand_as(masks), size * masks], 2) + LOG_FLOOR
        features = heard.log().flatten(0, 1).permute(0, 3, 1, 2).flatten(2)
        logits = self.leave(self.lstm(features)[0]).float().mT.unflatten(0, masks.shape[:2])
        return logits.softmax(1)


PLUGIN = UnfoldedClustering
