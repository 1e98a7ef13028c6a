"""Contrastive learning of embeddings: nodes of one speaker are drawn together, those of others pushed apart.

Ochieng, "Speech separation based on contrastive learning and deep modularization" (2305.10652): frames of one
speaker are taken for augmentations of one hidden frame, first of single speakers and then in mixtures, where a
node is the speaker's who is loudest in it; the loss is SimCLR's, see pse.losses.contrastive. With scope:
mixture and a bin a node this is deep clustering's affinities (1508.04306) in the form of a softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pse.data.collate import Batch
from pse.errors import PseError
from pse.inference.clustering import Nodes, cluster_masks, masked
from pse.models.base import Output
from pse.training.objectives.base import Labels, LossOut
from pse.training.objectives.contrast import ContrastOptions, Drawn, contrast
from pse.training.objectives.separation import VALID_CLUSTERING, spectra_of
from pse.training.objectives.verified import Verified, at, encoded, equal_error_rate_of, rows_of


@dataclass(frozen=True)
class Options(ContrastOptions):
    """How nodes are compared, see ContrastOptions.

    margin_db: nodes in which the loudest speaker leads the second by less are left out. chunk: examples that
    are encoded at a time, 0: all. Each chunk is encoded without memory of how, and again when its gradient is
    due, so that a batch of any size needs the memory of a chunk; this is the gradient cache of Gao et al.,
    "Scaling deep contrastive learning batch size under memory limited setup" (2101.06983), by checkpoints: the
    gradient is that of the whole batch, and time that of a third pass.
    """

    margin_db: float = 0.0
    chunk: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.margin_db < 0 or self.chunk < 0:
            raise ValueError(f"margin_db and chunk must be at least 0, got {self.margin_db} and {self.chunk}")


class Contrastive(Verified):
    """Train an embedding model by contrast of nodes; a model's `project` is used in the loss alone.

    The label of a node is the speaker of the source that is loudest in it; noise has no label. The loss is
    the mean over all nodes that have another one of their speaker's to be compared with.

    Trained on mixtures it is validated by what k-means of the nodes separates. Trained on single speakers alone
    (num_speakers: [1]), by `eer`, see Verified.
    """

    Options = Options

    @classmethod
    def check(cls, out: Output, options: Options, num_speakers: Sequence[int], place: str) -> None:
        """Refuse a model whose output this objective cannot train. Raises PseError."""
        if out.embeddings is None:
            raise PseError("is no embedding model", place, "name one, e.g. conf/models/blstm_2x300.yaml")
        if out.masks is not None or out.wavs is not None:
            what = "has masks or waveforms, which objective contrastive does not train"
            raise PseError(what, place, "set num_masks: 0, or objective: {name: slots}")
        if options.scope == "mixture" and list(num_speakers) == [1]:
            what = "scope: mixture compares nodes of one example, in which nobody else speaks"
            raise PseError(what, place, "set scope: batch")

    @classmethod
    def labels(cls, options: Options, num_speakers: Sequence[int]) -> Labels:
        """Who speaks, of single speakers; the signals that mixtures are made of tell who is loudest."""
        return "speaker identity" if list(num_speakers) == [1] else "source signals"

    def loss(self, model: nn.Module, batch: Batch) -> LossOut:
        """The chosen loss of the nodes drawn."""
        size, count = self.options.chunk or len(batch), self.options.nodes_per_example
        vectors, drawn = [], []
        for first in range(0, len(batch), size):
            part = rows_of(batch, slice(first, first + size))
            drawn.append(self._drawn(model, part, count))
            what = model, part["mix"], drawn[-1].places
            cached = self.options.chunk and torch.is_grad_enabled()
            vectors.append(checkpoint(encoded, *what, use_reentrant=False) if cached else encoded(*what))
        return LossOut(self._contrast(model, torch.cat(vectors), Drawn.joined(drawn)))

    def validate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Loss and headline of each example."""
        if not self.single:
            return super().validate(model, batch)
        vectors, drawn = self.compared(model, batch)
        values = {"loss": self._contrast(model, vectors, drawn), "eer": equal_error_rate_of(model, vectors, drawn)}
        return {k: v.expand(len(batch)) for k, v in values.items()}

    def separated(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss [B], and what clusters of the nodes separate [B, S, T]."""
        out, spectrum = model(batch["mix"]), spectra_of(model, batch)[:, 0]
        drawn = self._drawn(model, batch, self.options.nodes_per_example)
        loss = self._contrast(model, at(out.embeddings, drawn.places), drawn)
        count, nodes = batch["sources"].shape[1], Nodes.of(model, out)
        masks = cluster_masks(out.embeddings, spectrum, count, VALID_CLUSTERING, batch.ids, nodes=nodes)
        return loss.expand(len(batch)), masked(spectrum, masks, model.transform, batch["mix"].shape[1])

    def _contrast(self, model: nn.Module, vectors: Tensor, drawn: Drawn) -> Tensor:
        """The loss of embeddings [B, Q, D]."""
        there = vectors[drawn.there]
        return contrast(self.options, model.project(there) if hasattr(model, "project") else there, drawn)

    def _active(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Magnitudes of nodes, and which are loud enough, without those in which the second is near the first."""
        sizes, active = super()._active(model, batch)
        if self.options.margin_db and sizes.shape[1] > 1:
            first, second = sizes.topk(2, dim=1).values.unbind(1)
            active &= first >= 10 ** (self.options.margin_db / 20) * second
        return sizes, active


PLUGIN = Contrastive
