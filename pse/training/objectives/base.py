"""What an objective has to offer the training loop: examples, a loss, and a fixed validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

if TYPE_CHECKING:
    from pse.data.collate import Batch

# What a training knows of its examples, besides their sound.
Labels = Literal["speaker identity", "source signals", "none"]


@dataclass(frozen=True)
class LossOut:
    """A batch's loss: `total` (a scalar to be minimised) and the named scalars it is made of."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


class Objective(ABC):
    """One way of training. A subclass in `pse/training/objectives/` names itself in `PLUGIN`.

    `headline` is the validation quantity that selects the model; `larger_is_better` its direction.
    """

    headline: str = "loss"
    larger_is_better: bool = False

    @abstractmethod
    def batch(self, step_index_range: Sequence[int]) -> Batch:
        """The training examples of these numbers (0, 1, 2, ... over the whole run).

        Every example is a pure function of (seed, number): a resumed run, or one split over several
        processes, sees the same examples. May be called from another thread than `loss`.
        """

    @abstractmethod
    def valid_batches(self) -> Iterable[Batch]:
        """The validation examples: the same ones in the same order at every call."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> LossOut:
        """What to minimise on a training batch; `total` is the mean over the batch's examples."""

    @abstractmethod
    def validate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Quantities of each validation example, [B] each; must hold `headline` and `loss`."""

    @classmethod
    def labels(cls, options: Any, num_speakers: Sequence[int]) -> Labels:
        """What the loss uses besides the mixtures, which have so many speakers: here the signals they are made of."""
        return "source signals"

    def modules(self) -> list[nn.Module]:
        """Frozen helper networks (an SNR predictor, say) to move to the model's device."""
        return []
