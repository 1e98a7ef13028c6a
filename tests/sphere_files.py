"""SPHERE files for the tests: headers, PCM, and a small shorten encoder (version 2 of the stream)."""

from __future__ import annotations

import numpy as np

BLOCK = 256
QUIT, BLOCKSIZE, ZERO = 4, 5, 8
S16LH = 5


def sphere(pcm: np.ndarray, rate: int = 16000, order: str = "01", packed: bool = False, **fields: object) -> bytes:
    """A SPHERE file of [C, T] or [T] int16; `fields` overwrites header lines, None leaves one out."""
    channels = np.atleast_2d(pcm).astype(np.int16)
    table = {
        "sample_count": channels.shape[1],
        "sample_rate": rate,
        "channel_count": len(channels),
        "sample_n_bytes": 2,
        "sample_byte_format": order,
        "sample_checksum": int(channels.sum(dtype=np.int64)) % 65536,
        "sample_coding": "pcm,embedded-shorten-v2.00" if packed else "pcm",
    } | fields
    kinds = {k: "-i" if isinstance(v, int) else f"-s{len(str(v))}" for k, v in table.items()}
    lines = [f"{k} {kinds[k]} {v}" for k, v in table.items() if v is not None]
    head = "\n".join(["NIST_1A", "   1024", *lines, "end_head", ""]).encode().ljust(1024, b" ")
    raw = channels.T.astype("<i2" if order == "01" else ">i2").tobytes()
    return head + (shorten(channels) if packed else raw)


class Bits:
    """Bits, most significant first, and the codes of the stream."""

    def __init__(self) -> None:
        self.bits: list[str] = []

    def unsigned(self, value: int, low: int) -> None:
        """Rice code: the high part in zeros and a one, then `low` bits."""
        self.bits.append("0" * (value >> low) + "1" + (f"{value & ((1 << low) - 1):0{low}b}" if low else ""))

    def signed(self, value: int, low: int) -> None:
        """0, -1, 1, -2, .. as 0, 1, 2, 3, .."""
        self.unsigned(2 * value if value >= 0 else -2 * value - 1, low)

    def number(self, value: int) -> None:
        """A number that says itself how many bits it has."""
        self.unsigned(value.bit_length(), 2)
        self.unsigned(value, value.bit_length())

    def packed(self) -> bytes:
        """All bits, filled up to words of 32."""
        text = "".join(self.bits)
        text = text.ljust(-(-len(text) // 32) * 32, "0")
        return int(text, 2).to_bytes(len(text) // 8, "big")


def shorten(channels: np.ndarray) -> bytes:
    """Pack [C, T] int16 in blocks; each takes the best of the predictors DIFF0 to DIFF3, or ZERO."""
    out = Bits()
    # Without a running mean (the fifth number) DIFF0 has no offset.
    for value in (S16LH, len(channels), BLOCK, 0, 0, 0):
        out.number(value)
    padded = np.pad(channels.astype(np.int64), ((0, 0), (3, 0)))
    length = BLOCK
    for start in range(0, channels.shape[1], BLOCK):
        left = min(BLOCK, channels.shape[1] - start)
        if left != length:
            out.unsigned(BLOCKSIZE, 2)
            out.number(left)
            length = left
        for row in padded[:, start : start + 3 + left]:
            _block(out, row)
    out.unsigned(QUIT, 2)
    return b"ajkg\x02" + out.packed()


def _block(out: Bits, row: np.ndarray) -> None:
    if not row[3:].any():
        out.unsigned(ZERO, 2)
        return
    residuals = [np.diff(row[3 - order :], order) for order in range(4)]
    order = int(np.argmin([np.abs(r).sum() for r in residuals]))
    low = max(1, int(np.abs(residuals[order]).mean() + 1).bit_length())
    out.unsigned(order, 2)
    out.unsigned(low - 1, 3)
    for value in residuals[order]:
        out.signed(int(value), low)
