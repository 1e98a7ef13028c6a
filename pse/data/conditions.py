"""Conditions of mixtures of speakers: how much they overlap, what noise and which rooms there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Reference = Literal["reverberant", "direct"]


@dataclass(frozen=True)
class Conditions:
    """Ranges that are drawn from, alike over the whole range, once a mixture; None: not at all, as in WSJ0-mix.

    overlap: share of the shorter of two speakers, one after the other, that overlaps; None: all start at once.
    noise_snr_db: of the louder speaker against a noise (WHAM!: -6 to 3). rt60_s: decay time of a room (WHAMR!:
    0.1 to 1). reference: in a room, whether speakers are to be separated as they are heard there, or their
    direct sound alone.
    """

    overlap: tuple[float, float] | None = None
    noise_snr_db: tuple[float, float] | None = None
    rt60_s: tuple[float, float] | None = None
    reference: Reference = "reverberant"

    def __post_init__(self) -> None:
        for name, low, high in (("overlap", 0.0, 1.0), ("noise_snr_db", -60.0, 60.0), ("rt60_s", 0.0, 5.0)):
            limits = getattr(self, name)
            if limits is not None and not low <= limits[0] <= limits[1] <= high:
                raise ValueError(f"{name} must be two numbers from {low:g} to {high:g}, the lower first, got {limits}")
        if self.reference not in ("reverberant", "direct"):
            raise ValueError(f"reference must be reverberant or direct, got {self.reference!r}")


def staggered(lengths: Sequence[int], share: float, longest: int) -> list[tuple[int, int]]:
    """(offset, length) of sources one after the other, the last of which ends within `longest` samples.

    `share` of the shorter of each and the one before it overlaps. Where all of them would take longer, the
    long ones are cut to one length.
    """
    limit = min(longest, max(lengths))
    while True:
        placed, end, before = [], 0, 0
        for length in (min(n, limit) for n in lengths):
            offset = end - round(share * min(length, before))
            placed.append((offset, length))
            end, before = offset + length, length
        if end <= longest:
            return placed
        limit = int(limit * longest / end)


