"""Slots: vectors of the speakers of each frame, and a mask for each, so that speakers may overlap in a frame.

After the speaker stack of Zeghidour & Grangier, "Wavesplit", IEEE/ACM TASLP 29, 2021 (2002.08933), which gives
each frame a vector for every speaker. Here a slot has a mask of its frame as well, and clusters of all vectors of
a recording say which slot is whose; so a speaker may be in another slot from frame to frame.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pse import registry
from pse.models.base import Model, Output, build, require_positive
from pse.models.embedding import EmbeddingModel
from pse.models.unit_vectors import unit_vectors

OURS = ("embedding_size", "num_masks", "node_bins", "node_frames")


class SlotEncoder(Model):
    """The hidden states of `net` -> `num_slots` unit vectors of D numbers for each frame, and as many masks of it.

    embeddings: [B, S, F, D] and masks: [B, S, K, F], which sum to one over the slots of a frame: nodes are slots,
    not patches of bins, which `slots` (0 in other models) tells. A speaker's mask is the sum of those of the slots
    that are in the speaker's cluster. A recording may have any number of speakers, of whom at most `num_slots`
    should talk at once. net: the mapping of an embedding model that says nothing of embeddings, masks and nodes.
    Raises ValueError for sizes that do not fit, PseError for a net that is no embedding model of that kind.
    """

    def __init__(self, net: dict[str, Any], num_slots: int = 2, embedding_size: int = 64) -> None:
        require_positive(num_slots=num_slots, embedding_size=embedding_size)
        if num_slots < 2:
            raise ValueError(f"num_slots must be at least 2, got {num_slots}")
        if said := [key for key in OURS if key in net]:
            raise ValueError(f"net must not say {', '.join(said)}: num_slots and embedding_size are the slot encoder's")
        sizes = {"embedding_size": num_slots * embedding_size, "num_masks": num_slots, "node_bins": 0}
        if not issubclass(registry.find("model", net.get("name"), "net"), EmbeddingModel):
            raise ValueError(f"net must be an embedding model, got {net['name']!r}")
        inner: EmbeddingModel = build({**net, **sizes}, "net")
        super().__init__(inner.sample_rate, inner.normalize)
        self.net, self.transform = inner, inner.transform
        self.node_shape, self.slots, self.embedding_size = inner.node_shape, num_slots, embedding_size

    @property
    def causal(self) -> bool:
        """Whether no vector or mask waits for more than the latency."""
        return self.net.causal

    def receptive_field_samples(self) -> int | None:
        """That of the network inside."""
        return self.net.receptive_field_samples()

    def algorithmic_latency_samples(self) -> int | None:
        """That of the network inside."""
        return self.net.algorithmic_latency_samples()

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Hand them to the network inside."""
        self.net.set_statistics(mean, deviation)

    def log_magnitude(self, spectrum: Tensor) -> Tensor:
        """Log magnitudes [B, F, K] of a spectrum [B, K, F], as the network inside has them."""
        return self.net.log_magnitude(spectrum)

    def process(self, mix: Tensor) -> Output:
        """Vectors and masks of the slots of mix: [B, T]; no waveforms, for a slot is not one speaker's throughout."""
        hidden = self.net.hidden(self.transform.stft(mix))
        vectors = unit_vectors(self.net.embed(hidden), self.embedding_size, self.net.activation)
        return Output(embeddings=vectors.transpose(1, 2), masks=self.net.masks(hidden))

PLUGIN = SlotEncoder
