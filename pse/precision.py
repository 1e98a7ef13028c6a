"""Where float32 has to be float32: losses and clustering whose sums cancel."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# How many threads are inside with TF32 switched off, which is off or on for the whole process.
_inside = 0
_switching = threading.Lock()


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Matrix products in full float32: no autocast, no TF32. Near the optimum bf16 loses the sign of the loss."""
    global _inside
    matmul = torch.backends.cuda.matmul
    with _switching:
        # Read by the new name and written by the old one: that pair works whichever of them set it before.
        tf32 = device.type == "cuda" and (_inside > 0 or matmul.fp32_precision == "tf32")
        if tf32:
            _inside += 1
            matmul.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        if tf32:
            with _switching:
                _inside -= 1
                if not _inside:
                    matmul.allow_tf32 = True
