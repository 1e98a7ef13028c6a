"""Where in a recording its sound begins and ends, by an energy rule."""

from __future__ import annotations

import numpy as np

FRAME_S = 0.01
MARGIN_S = 0.03


def sound_extent(samples: np.ndarray, sample_rate: int, below_db: float = 40.0) -> slice:
    """From the first to the last frame of [T] that is at most `below_db` below the loudest one.

    Frames are of 10 ms; three more on either side are kept, for soft beginnings and ends. All of a silent
    recording is kept.
    """
    frame = max(1, round(FRAME_S * sample_rate))
    padded = np.pad(np.square(samples, dtype=np.float64), (0, -len(samples) % frame))
    energy = padded.reshape(-1, frame).sum(1)
    loud = np.flatnonzero(energy >= energy.max(initial=0.0) * 10 ** (-below_db / 10))
    if not len(loud) or not energy.any():
        return slice(0, len(samples))
    margin = round(MARGIN_S * sample_rate)
    first, last = int(loud[0]) * frame, int(loud[-1] + 1) * frame
    return slice(max(0, first - margin), min(len(samples), last + margin))
