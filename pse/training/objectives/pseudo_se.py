"""PseudoSE: a person's noisy recording is the target, and the input has more noise on top of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from pse.data.collate import Batch
from pse.dsp.snr import frame_snr_db
from pse.errors import PseError
from pse.losses.purification import snr_to_weight
from pse.training.objectives.enhancement import Enhancement, LossOptions, predicted_snr_db


@dataclass(frozen=True)
class Options(LossOptions):
    """purification: where the frame weights of the noisy target come from.

    none counts all frames alike (plain PseudoSE); predictor asks the trained SNR predictor;
    oracle uses the true frame SNR, an upper bound. Weight = sigmoid(slope (snr_db - offset_db)).
    """

    purification: Literal["none", "predictor", "oracle"] = "none"
    slope: float = 1.0
    offset_db: float = 0.0


class PseudoSE(Enhancement):
    """Pseudo speech enhancement (2104.02018), with data purification as an option."""

    Options = Options
    parts = {
        "mix": lambda m: m.mix,
        "target": lambda m: m.premixture,
        "speech": lambda m: m.speech,
        "premixture_noise": lambda m: m.premixture_noise,
    }

    def weights(self, batch: Batch) -> Tensor | None:
        """How far each frame of the noisy target can be trusted, [B, F]."""
        options = self.options
        if options.purification == "none":
            return None
        if options.purification == "oracle":
            snr_db = frame_snr_db(batch["speech"], batch["premixture_noise"])
        elif self.predictor is None:
            raise PseError(
                "purification: predictor needs an SNR predictor", "objective", "give snr_predictor.model in the config"
            )
        else:
            snr_db = predicted_snr_db(self.predictor, batch["target"])
        return snr_to_weight(snr_db, options.slope, options.offset_db)


PLUGIN = PseudoSE
