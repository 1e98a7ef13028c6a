"""Knowledge distillation: what a large generalist makes of a person's noisy recordings is the target.

Kim & Kim, WASPAA 2021 (2105.03544), from the group of the two papers of this recipe: their student
hears the recording itself (`hears: recording`); with `mixture` more noise is added, as in PseudoSE.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pse.data.collate import Batch
from pse.data.mixture import Mixture, MixtureSampler, MixtureSpec
from pse.training.objectives.enhancement import Enhancement, LossOptions


@dataclass(frozen=True)
class Options(LossOptions):
    """teacher: name of the method whose model makes the targets. hears: what the student is given."""

    teacher: str = ""
    hears: Literal["mixture", "recording"] = "mixture"


class Distillation(Enhancement):
    """The estimate of a frozen teacher, from the noisy recording, is the student's target."""

    Options = Options

    def __init__(
        self,
        sampler: MixtureSampler,
        valid: Iterable[tuple[MixtureSpec, Mixture]],
        options: Options,
        helper: nn.Module,
    ) -> None:
        heard = (lambda m: m.premixture) if options.hears == "recording" else (lambda m: m.mix)
        self.parts = {"mix": heard, "recording": lambda m: m.premixture}
        super().__init__(sampler, valid, options, helper)

    def target(self, batch: Batch) -> Tensor:
        """The teacher's estimate of the recording's speech, [B, T]."""
        with torch.no_grad():
            return self.helper(batch["recording"]).wavs[:, 0]


PLUGIN = Distillation
