"""PseudoSE: a person's noisy recording is the target, and the input has more noise on top of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pse.data.collate import Batch
from pse.dsp.snr import frame_snr_db
from pse.errors import PseError
from pse.losses.purification import SLOPES, frames_to_samples, snr_to_weight
from pse.losses.segmental import HOP
from pse.training.objectives.enhancement import Enhancement, LossOptions


@dataclass(frozen=True)
class Options(LossOptions):
    """Data purification of the noisy target.

    purification: where the weights of its frames come from: none counts all frames alike (plain PseudoSE);
    predictor asks the trained SNR predictor; oracle uses the true frame SNR, an upper bound.
    weigh: the target itself, which then fades where it is noise (ours), or the frames of the loss, as published.
    Weight = sigmoid(slope (snr_db - offset_db)), slope per dB; null is 0.23 for the target, its Wiener gain, and
    1 for the loss, as published.
    normalise: whether every example counts alike, however little of it is usable; null: as published.
    """

    purification: Literal["none", "predictor", "oracle"] = "none"
    weigh: Literal["loss", "target"] = "target"
    slope: float | None = None
    offset_db: float = 0.0
    normalise: bool | None = None


class PseudoSE(Enhancement):
    """Pseudo speech enhancement (2104.02018), with data purification as an option."""

    Options = Options
    parts = {
        "mix": lambda m: m.mix,
        "target": lambda m: m.premixture,
        "speech": lambda m: m.speech,
        "premixture_noise": lambda m: m.premixture_noise,
    }

    def target(self, batch: Batch) -> Tensor:
        """The noisy recording [B, T], faded where it cannot be trusted if the options say so."""
        target = batch["target"]
        if self.options.weigh == "loss" or self.options.purification == "none":
            return target
        return target * frames_to_samples(self._trust(batch), HOP, target.shape[-1])

    def weights(self, batch: Batch) -> Tensor | None:
        """How much each frame of the noisy target counts in the loss, [B, F]."""
        return self._trust(batch) if self.options.weigh == "loss" else None

    def _trust(self, batch: Batch) -> Tensor | None:
        """How far each frame of the noisy target can be trusted, [B, F]."""
        options = self.options
        if options.purification == "none":
            return None
        if options.purification == "oracle":
            snr_db = frame_snr_db(batch["speech"], batch["premixture_noise"])
        elif self.helper is None:
            raise PseError(
                "purification: predictor needs an SNR predictor", "objective", "give snr_predictor.model in the config"
            )
        else:
            with torch.no_grad():
                snr_db = self.helper(batch["target"]).frame_snr_db
        slope = SLOPES[options.weigh] if options.slope is None else options.slope
        return snr_to_weight(snr_db, slope, options.offset_db)


PLUGIN = PseudoSE
