"""Tensors on disk: safetensors, which hold numbers and can run nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file that, unlike one of `save_file`, has the permissions of any other file.

    Not atomic by itself: it belongs in a directory that is still being made.
    """
    path.write_bytes(save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}))
