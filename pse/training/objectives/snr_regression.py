"""Objective of the SNR predictor: squared error in dB of the frame SNR of a premixture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from pse.data.collate import Batch
from pse.data.mixture import Mixture, MixtureSampler, MixtureSpec
from pse.dsp.snr import frame_snr_db
from pse.training.objectives.base import LossOut, Objective
from pse.training.objectives.material import Parts, fixed_batches, training_batch


@dataclass(frozen=True)
class Options:
    """clamp_db: bound of the target in dB; null leaves it unbounded, as published."""

    clamp_db: float | None = 15.0


class SnrRegression(Objective):
    """Mean squared error in dB between predicted and true frame SNR (2104.02018)."""

    headline = "mae_db"
    larger_is_better = False
    _parts: Parts = {
        "mix": lambda m: m.premixture,
        "speech": lambda m: m.speech,
        "noise": lambda m: m.premixture_noise,
    }

    def __init__(
        self, sampler: MixtureSampler, valid: Iterable[tuple[MixtureSpec, Mixture]], options: Options
    ) -> None:
        self.sampler, self.options = sampler, options
        self._valid = fixed_batches(((s.id, m) for s, m in valid), self._parts)

    def batch(self, step_index_range: Sequence[int]) -> Batch:
        """Premixtures [B, T] with their speech and noise."""
        return training_batch(map(self.sampler.spec, step_index_range), self.sampler.sources, self._parts)

    def valid_batches(self) -> Iterable[Batch]:
        """The fixed premixtures of unseen speakers and noises."""
        return self._valid

    def loss(self, model: nn.Module, batch: Batch) -> LossOut:
        """Mean squared error in dB^2 over all frames."""
        error = self._error(model, batch)
        total = error.square().mean()
        return LossOut(total, {"mae_db": error.detach().abs().mean()})

    def validate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Squared and absolute error of each premixture, [B]."""
        error = self._error(model, batch)
        return {"loss": error.square().mean(-1), "mae_db": error.abs().mean(-1)}

    def _error(self, model: nn.Module, batch: Batch) -> Tensor:
        truth = frame_snr_db(batch["speech"], batch["noise"], clamp_db=self.options.clamp_db)
        return model(batch["mix"]).frame_snr_db.float() - truth


PLUGIN = SnrRegression
