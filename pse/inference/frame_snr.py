"""The SNR of every frame of a recording, as a model predicts it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pse.models.base import device_of

# A recording is predicted in parts of so many seconds.
PART_S = 60.0


@torch.inference_mode()
def frame_snr_db(predictor: Any, samples: np.ndarray) -> np.ndarray:
    """Predicted SNR in dB [F] of the frames of a recording [T] at the predictor's rate."""
    size = round(PART_S * predictor.sample_rate)
    # What is left at the end joins the part before it: nothing is told of a few samples.
    starts = range(0, max(1, len(samples) - size // 4), size)
    device, found = device_of(predictor), []
    for start in starts:
        part = samples[start:] if start == starts[-1] else samples[start : start + size]
        found.append(predictor(torch.from_numpy(part).to(device)[None]).frame_snr_db[0].cpu().numpy())
    return np.concatenate(found)
