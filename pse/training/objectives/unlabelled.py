"""What objectives share that no label of a speaker teaches: they hear single speakers, of whom they know nothing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pse.data.collate import Batch
from pse.errors import PseError
from pse.losses.activity import THRESHOLD_DB
from pse.models.base import Output
from pse.training.objectives.base import Labels
from pse.training.objectives.verified import Verified


@dataclass(frozen=True)
class UnlabelledOptions:
    """nodes_per_example: so many active frames of each recording are drawn; threshold_db: of what is active."""

    nodes_per_example: int = 16
    threshold_db: float = THRESHOLD_DB

    def __post_init__(self) -> None:
        if self.nodes_per_example < 1:
            raise ValueError(f"nodes_per_example must be at least 1, got {self.nodes_per_example}")
        if not self.threshold_db < 0:
            raise ValueError(f"threshold_db must be below 0, got {self.threshold_db}")


class Unlabelled(Verified):
    """Train the vectors of frames of single speakers by a task that needs no label.

    What the task predicts a model's `head` makes of a vector, one linear map that is trained with it and not used
    afterwards. It is part of the model, so that checkpoints and resumed runs have it as they have all weights. Only
    the choice of the best weights knows speakers: those of validation, by `eer`, as objective contrastive is chosen.
    """

    @classmethod
    def check(cls, out: Output, options: Any, num_speakers: Sequence[int], place: str) -> None:
        """Refuse an output, or mixtures, that this objective cannot train. Raises PseError."""
        if out.embeddings is None:
            raise PseError("is no embedding model", place, "name one, e.g. frame_encoder")
        if out.masks is not None or out.wavs is not None:
            raise PseError("has masks or waveforms, which are not trained so", place, "set num_masks: 0")
        if list(num_speakers) != [1]:
            raise PseError(f"learns from single speakers, not {list(num_speakers)}", place, "set num_speakers: [1]")

    @classmethod
    def check_model(cls, model: nn.Module, options: Any, place: str) -> None:
        """Refuse a model without one node a frame, or with another head than this objective's. Raises PseError."""
        if model.node_shape != (model.transform.num_bins, 1):
            raise PseError("has nodes that are no single frames", place, "set node_bins: 0 and node_frames: 1")
        wanted = cls.head_size(model, options)
        if model.head_size != wanted:
            told = f"has a head of {model.head_size} numbers, where {wanted} are predicted"
            raise PseError(told, place, f"set head_size: {wanted} in its model")

    @classmethod
    @abstractmethod
    def head_size(cls, model: nn.Module, options: Any) -> int:
        """How many numbers are predicted from the vector of a frame."""

    @classmethod
    def labels(cls, options: Any, num_speakers: Sequence[int]) -> Labels:
        """Nobody tells who speaks."""
        return "none"

    def separated(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Raises PseError: single speakers are not separated."""
        raise PseError("has no mixtures to separate", type(self).__name__, "set num_speakers: [1]")
