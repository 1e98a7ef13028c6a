"""Log-magnitude spectrograms for the eye: as levels in dB, and as a small palette PNG."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

WINDOW_S = 0.032
RANGE_DB = 70.0
# More frames than this are more than a screen is wide: longer signals get a longer hop.
MOST_FRAMES = 1200


def level_db(samples: np.ndarray, sample_rate: int, hop_s: float = 0.008) -> np.ndarray:
    """Levels [K, F] in dB of the bins of Hann-windowed, centred 32-ms frames of `samples` [T].

    A full-scale sine is near 0 dB; silence is -200 dB. F = 1 + T // hop, 1201 at the most.
    """
    n_fft = max(2 * round(WINDOW_S * sample_rate / 2), 2)
    hop = max(round(hop_s * sample_rate), -(-len(samples) // MOST_FRAMES), 1)
    window = np.hanning(n_fft + 1)[:-1]
    padded = np.pad(np.asarray(samples, np.float64), n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    spectrum = np.abs(np.fft.rfft(frames * window, axis=-1)) / (window.sum() / 2)
    return 20 * np.log10(np.maximum(spectrum, 1e-10)).T


def shared_range(levels: Sequence[np.ndarray]) -> tuple[float, float]:
    """Lowest and highest level in dB to show, the same for all of `levels` so that they can be compared."""
    top = max((float(level.max()) for level in levels), default=0.0)
    top = max(top, RANGE_DB - 200.0)
    return top - RANGE_DB, top


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def palette_png(indices: np.ndarray, palette: np.ndarray) -> bytes:
    """A PNG of `indices` [height, width] into `palette` [N, 3], both uint8: a third of the size of RGB.

    Source: PNG specification, third edition (W3C 2025), colour type 3.
    """
    height, width = indices.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row starts with its filter type, 0 for none
    rows[:, 1:] = indices
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    data = zlib.compress(rows.tobytes(), 9)
    parts = ((b"IHDR", head), (b"PLTE", palette.astype(np.uint8).tobytes()), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in parts)


def image(levels: np.ndarray, low_db: float, high_db: float, num_colours: int = 48) -> bytes:
    """A PNG of `levels` [K, F], low frequencies at the bottom, from low_db (dark) to high_db (bright)."""
    from matplotlib import colormaps

    scaled = np.clip((levels - low_db) / max(high_db - low_db, 1e-9), 0, 1)
    palette = colormaps["magma"](np.linspace(0, 1, num_colours))[:, :3]
    return palette_png(np.round(scaled[::-1] * (num_colours - 1)).astype(np.uint8), np.round(palette * 255))
