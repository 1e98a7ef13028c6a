"""Predictive coding: the vector of a frame tells those of frames that are to come from all others of the batch.

van den Oord, Li & Vinyals, "Representation learning with contrastive predictive coding" (1807.03748), eq. 4, with a
linear map for each distance. There a recurrent net sums up the past; here a frame's own vector is what predicts,
for it is that which is clustered. A net that hears the future (a BLSTM, a TCN that is not causal) can tell some of it
without predicting: for encoders of frames and for causal nets the task is as hard as it is meant to be.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pse.data.collate import Batch
from pse.losses.activity import bins
from pse.losses.contrastive import info_nce
from pse.models.unit_vectors import unit_vectors
from pse.training.objectives.base import LossOut
from pse.training.objectives.contrast import Drawn, draw
from pse.training.objectives.unlabelled import Unlabelled, UnlabelledOptions
from pse.training.objectives.verified import alone, encoded, equal_error_rate_of


@dataclass(frozen=True)
class Options(UnlabelledOptions):
    """How frames are predicted; nodes_per_example of each recording are what others are predicted from.

    steps_frames: how far ahead, but never so near that samples are shared: at least min_apart_samples, and what a
    frame of the model has with its context. temperature: of the softmax over the batch's frames.
    """

    steps_frames: list[int] = field(default_factory=lambda: [3, 6, 12])
    temperature: float = 0.1
    min_apart_samples: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.steps_frames or min(self.steps_frames) < 1 or self.min_apart_samples < 0:
            told = f"{self.steps_frames} and {self.min_apart_samples}"
            raise ValueError(f"steps_frames must be at least 1 and min_apart_samples at least 0, got {told}")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be positive, got {self.temperature}")


class PredictiveCoding(Unlabelled):
    """Tell which frame lies so many frames ahead, by the cosine of its vector and a linear map of the present one's.

    The loss is the mean over distances of InfoNCE over the active frames drawn. Frames that share samples with the
    right one are not among the wrong ones.
    """

    Options = Options

    @classmethod
    def head_size(cls, model: nn.Module, options: Options) -> int:
        """A vector for each distance."""
        return len(options.steps_frames) * model.embedding_size

    def loss(self, model: nn.Module, batch: Batch) -> LossOut:
        """The mean over the frames of the batch."""
        drawn, active = self._frames(model, batch)
        return LossOut(self._predicted(model, *self._vectors(model, batch, drawn, active)))

    def validate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The loss of all recordings together, and `eer`; the same for each."""
        found = []
        for part in alone(batch):
            drawn, active = self._frames(model, part)
            found.append(self._vectors(model, part, drawn, active))
        vectors, there, starts, recordings = (torch.cat(x) for x in zip(*found, strict=True))
        values = {
            "loss": self._predicted(model, vectors, there, starts, recordings),
            "eer": equal_error_rate_of(model, *self.compared(model, batch)),
        }
        return {k: v.expand(len(batch)) for k, v in values.items()}

    def apart_samples(self, model: nn.Module) -> int:
        """How far apart two frames start that share no samples."""
        heard = model.span_samples + 2 * getattr(model, "context", 0) * model.transform.hop
        return max(self.options.min_apart_samples, heard)

    def steps(self, model: nn.Module) -> list[int]:
        """How many frames ahead the predicted ones are."""
        least = -(-self.apart_samples(model) // model.transform.hop)
        return [max(step, least) for step in self.options.steps_frames]

    @torch.no_grad()
    def _frames(self, model: nn.Module, batch: Batch) -> tuple[Drawn, Tensor]:
        """Frames to predict from, with an active one ahead of them, and which frames are active [B, F]."""
        active = bins(self._active(model, batch)[1])
        ahead = torch.stack([_shifted(active, step) for step in self.steps(model)]).any(0)
        chosen = draw(active & ahead, batch["seeds"], self.options.nodes_per_example)
        offsets = chosen[0] * model.transform.hop
        return Drawn.of(batch, chosen, torch.zeros_like(chosen[0]), offsets), active

    def _vectors(
        self, model: nn.Module, batch: Batch, drawn: Drawn, active: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Vectors [N, 1 + S, D] of N frames and of those ahead, which are there [N, S], starts and recordings [N]."""
        steps, size = self.steps(model), active.shape[1]
        places = torch.stack([drawn.places, *(drawn.places + step for step in steps)], 2)
        there = drawn.there.unsqueeze(2) & (places[..., 1:] < size)
        places = places.clamp_max(size - 1)
        there = there & active.gather(1, places[..., 1:].flatten(1)).view_as(there)
        vectors = encoded(model, batch["mix"], places.flatten(1)).unflatten(1, places.shape[1:])
        known = there, drawn.starts_samples, drawn.recordings
        return vectors.flatten(0, 1), *(x.flatten(0, 1) for x in known)

    def _predicted(
        self, model: nn.Module, vectors: Tensor, there: Tensor, starts: Tensor, recordings: Tensor
    ) -> Tensor:
        told = unit_vectors(model.head(vectors[:, 0]), model.embedding_size, "linear")
        losses = []
        for number in range(there.shape[1]):
            kept = there[:, number]
            near = (starts[kept, None] - starts[kept]).abs() < self.apart_samples(model)
            shared = near & (recordings[kept, None] == recordings[kept])
            losses.append(info_nce(told[kept, number], vectors[kept, 1 + number], ~shared, self.options.temperature))
        return torch.stack(losses).mean()


def _shifted(active: Tensor, step: int) -> Tensor:
    """Whether the frame `step` ahead of each [B, F] is active; beyond the end none is."""
    return nn.functional.pad(active[:, step:], (0, min(step, active.shape[1])))


PLUGIN = PredictiveCoding
