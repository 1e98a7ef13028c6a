"""What the networks have in common that go over the clusters of another network's embeddings."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pse.models.base import Model, build, require_positive
from pse.models.embedding import EmbeddingModel


class OnClusters(Model):
    """A model with an embedding net inside, whose trained weights are the first ones (`start`).

    net: the mapping of that net. num_masks: how many clusters it is trained on. It has the net's rate, level, STFT and
    nodes. Raises ValueError for fewer than two clusters and for a net without embeddings.
    """

    def __init__(self, net: dict[str, Any], num_masks: int) -> None:
        inner = build(net, "net")
        if not isinstance(inner, EmbeddingModel) or inner.embed is None:
            raise ValueError(f"net must be an embedding model, got {net.get('name')!r}")
        super().__init__(inner.sample_rate, inner.normalize)
        require_positive(num_masks=num_masks)
        if num_masks < 2:
            raise ValueError(f"num_masks must be at least 2, got {num_masks}")
        self.net, self.transform, self.num_masks = inner, inner.transform, num_masks
        self.node_shape, self.slots = inner.node_shape, inner.slots

    @property
    def causal(self) -> bool:
        """False: clusters are of the whole signal."""
        return False

    def receptive_field_samples(self) -> None:
        """None: clusters are of the whole signal."""
        return None

    def algorithmic_latency_samples(self) -> None:
        """None: the whole signal."""
        return None

    def started_from(self) -> nn.Module:
        """The part that takes the weights of an earlier training: the embedding net."""
        return self.net

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Hand them to the embedding net."""
        self.net.set_statistics(mean, deviation)

    def log_magnitude(self, spectrum: Tensor) -> Tensor:
        """Log magnitudes [B, F, K] of a spectrum [B, K, F], as the embedding net has them."""
        return self.net.log_magnitude(spectrum)
