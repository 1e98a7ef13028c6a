"""Nets that give masks, one a speaker: the baselines that deep clustering is compared with (1508.04306)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from pse.data.collate import Batch
from pse.errors import PseError
from pse.losses.mask_inference import Assignment, Target, mask_loss
from pse.models.base import Output
from pse.training.objectives.base import LossOut
from pse.training.objectives.separation import Separation, spectra_of


@dataclass(frozen=True)
class Options:
    """How masks are taught.

    assignment: which mask is for whom in an example: best (the paper's `permute`, now called permutation
    invariant training), loudest (`stronger`: the first mask is for the loudest speaker), or fixed
    (`stack`: the speakers are known, and each has a mask). target, power: phase_sensitive and 1, or as on
    the paper's slides magnitude and 2.
    """

    assignment: Assignment = "best"
    target: Target = "phase_sensitive"
    power: Literal[1, 2] = 1


class MaskInference(Separation):
    """Train a model to give the mask of each speaker."""

    Options = Options

    @classmethod
    def check(cls, out: Output, options: Options, num_speakers: Sequence[int], place: str) -> None:
        """Refuse a model that has not one mask for each speaker. Raises PseError."""
        masks = 0 if out.masks is None else out.masks.shape[1]
        if list(num_speakers) != [masks]:
            what = f"is trained on mixtures of {', '.join(map(str, num_speakers))} speakers with {masks} masks"
            raise PseError(what, place, "set num_masks of the model to the number of speakers")

    def loss(self, model: nn.Module, batch: Batch) -> LossOut:
        """The chosen loss, averaged over the batch."""
        return LossOut(self._mask_loss(model, batch, model(batch["mix"]).masks).mean())

    def separated(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss [B], and the masked mixtures [B, S, T]."""
        out = model(batch["mix"])
        return self._mask_loss(model, batch, out.masks), out.wavs

    def _mask_loss(self, model: nn.Module, batch: Batch, masks: Tensor) -> Tensor:
        spectra, options = spectra_of(model, batch), self.options
        return mask_loss(
            masks, spectra[:, 0], spectra[:, 1:], kind=options.target, power=options.power,
            assignment=options.assignment,
        )  # fmt: skip


PLUGIN = MaskInference
