"""Slots of frames: masks that are each for one source of a frame, and vectors that tell whose they are.

After Zeghidour & Grangier, "Wavesplit", IEEE/ACM TASLP 29, 2021 (2002.08933), section II: which vector is for
whom is decided in every frame, by the assignment of least loss, and vectors of a speaker are drawn together. Here
that loss is of the masks, and the contrast is that of pse.training.objectives.contrastive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pse.data.collate import Batch
from pse.errors import PseError
from pse.inference.clustering import Nodes, cluster_masks, masked
from pse.losses.mask_inference import targets
from pse.losses.pit import pit
from pse.models.base import Output
from pse.training.objectives.base import LossOut
from pse.training.objectives.contrast import ContrastOptions, Drawn, WithSpeakers, contrast, draw
from pse.training.objectives.separation import VALID_CLUSTERING, spectra_of


@dataclass(frozen=True)
class Options(ContrastOptions):
    """How slots are taught, see ContrastOptions; a node is a source in a frame.

    contrast_weight: of the contrastive loss, beside that of the masks; 0 leaves it out.
    """

    contrast_weight: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.contrast_weight < float("inf"):
            raise ValueError(f"contrast_weight must not be negative, got {self.contrast_weight}")


class Slots(WithSpeakers):
    """Train slots of frames, each frame in the order of least mask error; validate by what k-means separates.

    The error is that of mask inference: the masked magnitude against what of a source is in phase with the
    mixture, relative to the mixture's mean magnitude. Of more sources than slots the loudest in a frame count there;
    slots without a source have silence to give.
    """

    Options = Options

    @classmethod
    def check(cls, out: Output, options: Options, num_speakers: Sequence[int], place: str) -> None:
        """Refuse a model whose output this objective cannot train. Raises PseError."""
        if out.embeddings is None or out.masks is None or out.masks.shape[1] != out.embeddings.shape[1]:
            raise PseError("has no slots with masks", place, "name a model that has, e.g. slot_encoder")
        if options.contrast_weight and options.scope == "mixture" and list(num_speakers) == [1]:
            what = "scope: mixture compares slots of one example, in which nobody else speaks"
            raise PseError(what, place, "set scope: batch")

    def loss(self, model: nn.Module, batch: Batch) -> LossOut:
        """Both losses, averaged over the batch."""
        mask, told = self._losses(model, batch, model(batch["mix"]), spectra_of(model, batch))
        if told is None:
            return LossOut(mask.mean())
        return LossOut(mask.mean() + self.options.contrast_weight * told, {"mask": mask.mean(), "contrast": told})

    def separated(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss [B], and what clusters of all slots separate [B, S, T]."""
        out, spectra = model(batch["mix"]), spectra_of(model, batch)
        loss, told = self._losses(model, batch, out, spectra)
        if told is not None:
            loss = loss + self.options.contrast_weight * told
        count, nodes = batch["sources"].shape[1], Nodes.of(model, out)
        masks = cluster_masks(out.embeddings, spectra[:, 0], count, VALID_CLUSTERING, batch.ids, nodes=nodes)
        return loss, masked(spectra[:, 0], masks, model.transform, batch["mix"].shape[1])

    def _losses(self, model: nn.Module, batch: Batch, out: Output, spectra: Tensor) -> tuple[Tensor, Tensor | None]:
        """Of the masks [B], and of the contrast of the slots, a scalar."""
        wanted, sources, active = self._wanted(batch, spectra, out.masks.shape[1])
        mask, slots = slot_loss(out.masks, spectra[:, 0], wanted)
        if not self.options.contrast_weight:
            return mask, None
        hop = model.transform.hop
        chosen = draw(active.flatten(1), batch["seeds"], self.options.nodes_per_example)
        places, there = chosen
        offsets = places % active.shape[2] * hop
        drawn = Drawn.of(batch, chosen, sources.flatten(1).gather(1, places), offsets)
        # [B, S, F, D], the vectors of the sources, in the order of `active`.
        vectors = out.embeddings.gather(1, slots.unsqueeze(-1).expand_as(out.embeddings)).flatten(1, 2)
        rows = torch.arange(len(vectors), device=vectors.device)[:, None].expand_as(places)
        return mask, contrast(self.options, vectors[rows[there], places[there]], drawn)

    def _wanted(self, batch: Batch, spectra: Tensor, num_slots: int) -> tuple[Tensor, Tensor, Tensor]:
        """For each of as many sources a frame as there are slots: its magnitudes, its number, whether it is active.

        Shapes [B, S', K, F], [B, S', F] and [B, S', F].
        """
        wanted = targets(spectra[:, 0], spectra[:, 1:], "phase_sensitive")
        sizes = spectra[:, 1:].abs().square().sum(2).sqrt()
        peaks = sizes.amax(2)
        if "louder_frame" in batch.tensors:
            peaks = peaks * batch["louder_frame"]
        # Compared with something above 0: silence is never active.
        active = (sizes > 10 ** (self.options.threshold_db / 20) * peaks.unsqueeze(2)) & (sizes > 0)
        missing = max(0, num_slots - sizes.shape[1])
        wanted, active = functional.pad(wanted, (0, 0, 0, 0, 0, missing)), functional.pad(active, (0, 0, 0, missing))
        loudest = functional.pad(sizes, (0, 0, 0, missing)).topk(num_slots, dim=1).indices
        wanted = wanted.gather(1, loudest.unsqueeze(2).expand(-1, -1, wanted.shape[2], -1))
        # A source that is not there is not active, and its number only has to be one.
        return wanted, loudest.clamp_max(sizes.shape[1] - 1), active.gather(1, loudest)


def slot_loss(masks: Tensor, mixture: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Mean error of masks [B, S, K, F], each frame in its best order, and the slot of each source [B, S, F].

    mixture: spectrum [B, K, F]; wanted: magnitudes [B, S, K, F]. The error [B] is |mask |Y| - wanted| over bins and
    slots, relative to the mean of |Y|.
    """
    size = mixture.abs()
    estimates = masks.float() * size.unsqueeze(1)
    cost = torch.stack([(estimates[:, i, None] - wanted).abs().mean(2) for i in range(masks.shape[1])], 1)
    least, order = pit(cost.permute(0, 3, 1, 2).flatten(0, 1))
    scale = size.mean((1, 2)).clamp_min(torch.finfo(size.dtype).tiny)
    shape = len(masks), masks.shape[-1]
    return least.view(shape).mean(1) / scale, order.unflatten(0, shape).mT


PLUGIN = Slots
