"""Where float32 has to be float32: losses and clustering whose sums cancel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Matrix products in full float32: no autocast, no TF32. Near the optimum bf16 loses the sign of the loss."""
    matmul = torch.backends.cuda.matmul
    tf32 = device.type == "cuda" and matmul.fp32_precision == "tf32"
    # Read by the new name and written by the old one: that pair works whichever of them set it before.
    if tf32:
        matmul.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        if tf32:
            matmul.allow_tf32 = True
