"""Estimates of waveforms made better: negative SI-SDR in the order that is best.

The loss of Luo & Mesgarani, "Conv-TasNet", IEEE/ACM TASLP 27(8), 2019, here for networks that mend what clusters
separate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from pse.data.collate import Batch
from pse.errors import PseError
from pse.losses.pit import pit
from pse.models.base import Output
from pse.training.objectives.base import LossOut
from pse.training.objectives.separation import Separation, si_sdr_costs


@dataclass(frozen=True)
class Options:
    """Nothing is to be chosen."""


class Refinement(Separation):
    """Train a model that gives waveforms by the mean negative SI-SDR of the sources, whichever estimate is whose.

    In a mixture of fewer sources than estimates those that are left over are free.
    """

    Options = Options

    @classmethod
    def check(cls, out: Output, options: Options, num_speakers: Sequence[int], place: str) -> None:
        """Refuse a model that gives too few waveforms. Raises PseError."""
        count = 0 if out.wavs is None else out.wavs.shape[1]
        if count < max(num_speakers):
            what = f"is trained on mixtures of {', '.join(map(str, num_speakers))} speakers with {count} waveforms"
            raise PseError(what, place, "set num_masks of the model to the number of speakers")

    def loss(self, model: nn.Module, batch: Batch) -> LossOut:
        """The loss in dB, averaged over the batch."""
        return LossOut(_loss(model(batch["mix"]).wavs, batch["sources"]).mean())

    def separated(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss [B], and the estimates [B, S, T]."""
        wavs = model(batch["mix"]).wavs
        return _loss(wavs, batch["sources"]), wavs


def _loss(wavs: Tensor, sources: Tensor) -> Tensor:
    """Mean negative SI-SDR [B] in dB of sources [B, S, T] that are not silent, of estimates [B, W, T], W >= S."""
    sources = functional.pad(sources, (0, 0, 0, max(0, wavs.shape[1] - sources.shape[1])))
    heard = sources.abs().amax(2) > 0
    # A silent source costs nothing, whoever it goes to.
    costs = si_sdr_costs(wavs, sources).masked_fill(~heard.unsqueeze(1), 0.0)
    return pit(costs)[0] * wavs.shape[1] / heard.sum(1).clamp_min(1)


PLUGIN = Refinement
