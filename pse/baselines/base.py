"""What every baseline of speaker separation is: options in, masks of a mixture out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from pse.dsp.stft import STFT


@dataclass(frozen=True)
class Scene:
    """A mixture to separate, and what a baseline may know of it.

    mix: [T] at sample_rate; spectra: [1 + S, K, F] of the mixture and, for oracles, its sources;
    speakers: who they are, for dictionaries; id: of the mixture. noise: [K, F], for oracles, of a noisy mixture.
    """

    id: str
    mix: np.ndarray
    sample_rate: int
    spectra: Tensor
    speakers: Sequence[str]
    noise: Tensor | None = None


class Baseline(ABC):
    """A way to separate that is no trained network. A subclass names itself in the `PLUGIN` of its module.

    options: an instance of the subclass's `Options`. transform: of the masks. cache: the training speech,
    for what is learned of a speaker.
    """

    Options: type

    def __init__(self, options: Any, transform: STFT, cache: Any) -> None:
        self.options, self.transform, self.cache = options, transform, cache

    @abstractmethod
    def masks(self, scene: Scene) -> Tensor:
        """Masks [S, K, F]."""
