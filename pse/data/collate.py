"""Batches: named tensors with the ids of their examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Tensors whose first axis is the example, and the examples' ids."""

    tensors: Mapping[str, Tensor]
    ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch({k: v.to(device, non_blocking=True) for k, v in self.tensors.items()}, self.ids)


def stack(arrays: Sequence[np.ndarray]) -> Tensor:
    """[T] arrays -> [B, T] float32 tensor, shorter ones padded with zeros at the end."""
    longest = max(len(a) for a in arrays)
    out = np.zeros((len(arrays), longest), np.float32)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(out)
