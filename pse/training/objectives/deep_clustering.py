"""Deep clustering: embeddings whose affinities tell which bins belong to one speaker (1508.04306)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from pse.data.collate import Batch
from pse.errors import PseError
from pse.inference.clustering import cluster_masks, masked
from pse.losses import deep_clustering as losses
from pse.losses.activity import THRESHOLD_DB, Rule, activity, bins, dominant_source, points
from pse.losses.mask_inference import mask_loss
from pse.models.base import Output
from pse.training.objectives.base import LossOut
from pse.training.objectives.separation import VALID_CLUSTERING, Separation, spectra_of


@dataclass(frozen=True)
class Options:
    """How embeddings are taught.

    loss: paper, unweighted, magnitude, manifold or whitened. rule, threshold_db: which bins count.
    mask_weight: of the mask head of a Chimera++ net, whose embeddings then count 1 - mask_weight
    (the authors' 0.975 and 0.025); 0 where the model has none.
    """

    loss: losses.Name = "paper"
    rule: Rule = "any_source"
    threshold_db: float = THRESHOLD_DB
    mask_weight: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.mask_weight < 1:
            raise ValueError(f"mask_weight must be from 0 to below 1, got {self.mask_weight}")
        if not self.threshold_db < 0:
            raise ValueError(f"threshold_db must be below 0, got {self.threshold_db}")


class DeepClustering(Separation):
    """Train an embedding model by the affinities of bins; validate by what k-means separates."""

    Options = Options

    @classmethod
    def check(cls, out: Output, options: Options, num_speakers: Sequence[int], place: str) -> None:
        """Refuse a model whose output this objective cannot train. Raises PseError."""
        if out.embeddings is None:
            raise PseError("is no embedding model", place, "name one, e.g. conf/models/blstm_2x300.yaml")
        masks = 0 if out.masks is None else out.masks.shape[1]
        if masks and not options.mask_weight:
            what = f"has {masks} masks, which mask_weight: 0 does not train"
            raise PseError(what, place, "set mask_weight, e.g. 0.025, or num_masks: 0")
        if options.mask_weight and list(num_speakers) != [masks]:
            what = f"mask_weight needs a model with as many masks as speakers ({num_speakers}), this one has {masks}"
            raise PseError(what, place, "set num_masks of the model")

    def loss(self, model: nn.Module, batch: Batch) -> LossOut:
        """The chosen loss, averaged over the batch."""
        out = model(batch["mix"])
        spectra = spectra_of(model, batch)
        affinity = self._affinity_loss(spectra, out.embeddings, batch["louder"])
        if not self.options.mask_weight:
            return LossOut(affinity.mean())
        share, mask = self.options.mask_weight, mask_loss(out.masks, spectra[:, 0], spectra[:, 1:])
        total = (1 - share) * affinity.mean() + share * mask.mean()
        return LossOut(total, {"affinity": affinity.mean(), "mask": mask.mean()})

    def separated(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss [B], and what clusters of all frames separate [B, S, T]."""
        out, spectra = model(batch["mix"]), spectra_of(model, batch)
        loss = self._affinity_loss(spectra, out.embeddings)
        count = batch["sources"].shape[1]
        masks = cluster_masks(out.embeddings, spectra[:, 0], count, VALID_CLUSTERING, batch.ids)
        return loss, masked(spectra[:, 0], masks, model.transform, batch["mix"].shape[1])

    def _affinity_loss(self, spectra: Tensor, embeddings: Tensor, louder: Tensor | None = None) -> Tensor:
        mixture, sources, options = spectra[:, 0].abs(), spectra[:, 1:].abs(), self.options
        peaks = None if louder is None or options.rule == "mixture" else sources.amax((2, 3)) * louder
        active = activity(sources, mixture, rule=options.rule, threshold_db=options.threshold_db, peaks=peaks)
        labels, weights = bins(dominant_source(sources)), bins(active).float()
        return losses.deep_clustering_loss(self.options.loss, points(embeddings), labels, weights, bins(mixture))


PLUGIN = DeepClustering
