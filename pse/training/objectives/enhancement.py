"""What the enhancement objectives share: a waveform loss on (mix, target) and SI-SDR improvement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from pse.data.collate import Batch
from pse.data.mixture import Mixture, MixtureSampler, MixtureSpec
from pse.losses.purification import loss as find_loss
from pse.losses.snr import neg_si_sdr
from pse.training.objectives.base import LossOut, Objective
from pse.training.objectives.material import Parts, fixed_batches, training_batch


@dataclass(frozen=True)
class LossOptions:
    """loss: neg_snr, neg_si_sdr, mse or a loss plug-in. domain: over the whole signal or frame by frame.

    preset: the published formulas, or ours that are safe on silence.
    """

    loss: str = "neg_snr"
    domain: Literal["whole", "segmental"] = "whole"
    preset: Literal["paper", "robust"] = "robust"


class Enhancement(Objective):
    """Train a model to turn a mixture [B, T] into a target [B, T]; subclasses say which target.

    `helper` is a frozen network that some of them ask: an SNR predictor, or a teacher.
    """

    Options: type = LossOptions
    headline = "si_sdr_i_db"
    larger_is_better = True
    parts: Parts = {}

    def __init__(
        self,
        sampler: MixtureSampler,
        valid: Iterable[tuple[MixtureSpec, Mixture]],
        options: LossOptions,
        helper: nn.Module | None = None,
    ) -> None:
        self.sampler, self.options, self.helper = sampler, options, helper
        normalise = getattr(options, "normalise", None)
        self.waveform_loss = find_loss(options.loss, options.domain, options.preset, "objective", normalise)
        self._valid = fixed_batches(((s.id, m) for s, m in valid), self.parts)

    def batch(self, step_index_range: Sequence[int]) -> Batch:
        """Mixtures and targets [B, T], drawn live."""
        return training_batch(map(self.sampler.spec, step_index_range), self.sampler.sources, self.parts)

    def valid_batches(self) -> Iterable[Batch]:
        """The fixed validation mixtures."""
        return self._valid

    def loss(self, model: nn.Module, batch: Batch) -> LossOut:
        """The chosen loss, averaged over the batch."""
        estimate = model(batch["mix"]).wavs[:, 0]
        return LossOut(self.waveform_loss(estimate, self.target(batch), self.weights(batch)).mean())

    def validate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Loss and SI-SDR improvement in dB of each example, against the same kind of target."""
        estimate, target = model(batch["mix"]).wavs[:, 0], self.target(batch)
        before, after = (-neg_si_sdr(x, target) for x in (batch["mix"], estimate))
        value = self.waveform_loss(estimate, target, self.weights(batch))
        return {"loss": value, "si_sdr_i_db": after - before}

    def target(self, batch: Batch) -> Tensor:
        """What the model has to come to, [B, T]."""
        return batch["target"]

    def weights(self, batch: Batch) -> Tensor | None:
        """Frame weights of the target [B, F]; None counts all alike."""
        return None

    def modules(self) -> list[nn.Module]:
        """The frozen helper, where there is one."""
        return [] if self.helper is None else [self.helper]
