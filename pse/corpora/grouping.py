"""Seeded splits of recordings into parts: by recording, never by clip, and balanced over categories."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pse.corpora.base import Recording
from pse.errors import PseError

SHARES = {"train": 0.7, "valid": 0.15, "test": 0.15}


def split_by_recording(
    recordings: Sequence[Recording], shares: Mapping[str, float] | None = None, seed: int = 0
) -> list[Recording]:
    """Give every recording a split, by seconds (default train 0.7, valid 0.15, test 0.15).

    Clips of one longer recording stay together. No part is empty, and categories with a recording
    for each part are in every part. Raises PseError with fewer recordings than parts.
    """
    shares = dict(SHARES if shares is None else shares)
    part_of = _allot(recordings, list(shares.values()), seed)
    names = list(shares)
    return [replace(r, split=names[part_of[r.group]]) for r in recordings]


def halves(recordings: Sequence[Recording], parts: int = 2, seed: int = 0) -> list[list[Recording]]:
    """Cut noises into `parts` disjoint lists of about equal seconds, by recording.

    Each split (train, valid, ...) is cut by itself and balanced over categories, so that premixture
    and injected noise differ in their recordings but not in their kinds. Raises PseError when a
    split has fewer recordings than parts.
    """
    lists: list[list[Recording]] = [[] for _ in range(parts)]
    for split in dict.fromkeys(r.split for r in recordings):
        own = [r for r in recordings if r.split == split]
        part_of = _allot(own, [1.0 / parts] * parts, seed)
        for recording in own:
            lists[part_of[recording.group]].append(recording)
    return lists


class _Scope:
    """How far the parts are filled, over all recordings or over those of one category."""

    def __init__(self, shares: Sequence[float]) -> None:
        self.shares = np.array(shares) / sum(shares)
        self.filled = np.zeros(len(shares))
        self.total = 0.0
        self.left = 0

    def expect(self, seconds: float) -> None:
        self.total += seconds
        self.left += 1

    def lack(self) -> np.ndarray:
        return self.shares - self.filled / self.total

    def allowed(self) -> set[int]:
        """All parts, or the empty ones once there is no recording to spare for another."""
        empty = set(np.flatnonzero(self.filled == 0).tolist())
        return empty if self.left <= len(empty) else set(range(len(self.shares)))

    def take(self, part: int, seconds: float) -> None:
        self.filled[part] += seconds
        self.left -= 1


def _allot(recordings: Sequence[Recording], shares: Sequence[float], seed: int) -> dict[str, int]:
    """Group -> part: groups in seeded order, each to the part that lacks most of its share."""
    seconds: dict[str, float] = defaultdict(float)
    for recording in recordings:
        seconds[recording.group] += max(recording.duration_s, 1e-3)
    if len(seconds) < len(shares):
        raise PseError(
            f"{len(seconds)} recordings cannot fill {len(shares)} parts",
            f"split {recordings[0].split!r}" if recordings else "split",
            "add recordings, or cut a long one into several files",
        )
    kind_of = {r.group: r.category for r in recordings}
    whole = _Scope(shares)
    # A category with fewer recordings than parts has no say: all of it would go to the largest part.
    kinds = {kind: [_Scope(shares)] for kind, n in Counter(kind_of.values()).items() if n >= len(shares)}
    order = sorted(seconds)
    scopes = {group: [whole, *kinds.get(kind_of[group], [])] for group in order}
    for group in order:
        for scope in scopes[group]:
            scope.expect(seconds[group])
    part_of: dict[str, int] = {}
    for k in np.random.default_rng(seed).permutation(len(order)):
        group = order[k]
        lack = np.sum([scope.lack() for scope in scopes[group]], axis=0)
        allowed = set.intersection(*(scope.allowed() for scope in scopes[group]))
        part_of[group] = max(sorted(allowed), key=lack.__getitem__)
        for scope in scopes[group]:
            scope.take(part_of[group], seconds[group])
    return part_of
