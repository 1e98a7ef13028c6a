"""Who is heard in training, and whose speech, or which of it, is kept for tests of speaker separation."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pse.corpora.base import Recording
from pse.errors import PseError, first_three

PARTS = ("train", "valid", "open")
# What the columns of a split file may say for each part.
WORDS = {"train": "train", "valid": "valid", "dev": "valid", "test": "open", "open": "open"}


def read_split(path: Path) -> dict[str, str]:
    """Speaker -> train, valid or open out of a TSV with the columns id and split; other columns are ignored.

    Raises PseError for a file without them or with other words in the column split.
    """
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t"))
    except (OSError, UnicodeDecodeError) as error:
        raise PseError(f"cannot be read ({error})", path, "give a TSV with the columns id and split") from error
    if not rows or not {"id", "split"} <= rows[0].keys():
        raise PseError("has no columns id and split", path, "name them in its first line")
    odd = [f"{r['id']} {r['split']!r}" for r in rows if r["split"] not in WORDS]
    if odd:
        raise PseError(f"{len(odd)} lines have no known split: {first_three(odd)}", path, f"use {', '.join(WORDS)}")
    return {r["id"]: WORDS[r["split"]] for r in rows}


def draw_split(recordings: Iterable[Recording], num_valid: int, num_open: int, seed: int) -> dict[str, str]:
    """Speaker -> train, valid or open: so many speakers drawn for the last two, women and men in turn.

    Raises PseError when that leaves fewer than two to train on.
    """
    sex = {r.speaker: r.category for r in recordings}
    if len(sex) < num_valid + num_open + 2:
        what = f"{len(sex)} speakers are too few for {num_valid} of validation, {num_open} open and two to train on"
        raise PseError(what, "data", "set data.valid_speakers and data.open_speakers to less, or add speakers")
    order = [str(s) for s in np.random.default_rng(seed).permutation(sorted(sex))]
    women, others = ([s for s in order if (sex[s] == "F") == is_woman] for is_woman in (True, False))
    mixed = [s for pair in zip(women, others, strict=False) for s in pair]
    mixed += [s for s in (*women, *others) if s not in mixed]
    parts = ["open"] * num_open + ["valid"] * num_valid + ["train"] * (len(mixed) - num_open - num_valid)
    return {str(s): part for s, part in zip(mixed, parts, strict=True)}


def check_disjoint(sets: Mapping[str, Iterable[Recording]], where: str = "data") -> None:
    """Refuse named sets of recordings that share a speaker. Raises PseError that says who is in which sets."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, recordings in sets.items():
        for speaker in dict.fromkeys(r.speaker for r in recordings):
            found[speaker].append(name)
    shared = [f"{speaker} ({' and '.join(names)})" for speaker, names in found.items() if len(names) > 1]
    if shared:
        what = f"{len(shared)} of {len(found)} speakers are in more than one set: {first_three(shared)}"
        raise PseError(what, where, "leave them out of all sets but one")


def cut(recordings: Sequence[Recording], split: dict[str, str], closed_share: float) -> dict[str, list[Recording]]:
    """train, closed, valid, open: recordings by the part of their speaker, in their order.

    The last `closed_share` of the utterances of a training speaker are kept as closed, at least one of
    two; who has only one is not among the closed speakers. Speakers without a part are left out.
    """
    by_speaker: dict[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        by_speaker[recording.speaker].append(recording)
    sets: dict[str, list[Recording]] = {part: [] for part in ("train", "closed", "valid", "open")}
    for speaker, spoken in by_speaker.items():
        part = split.get(speaker)
        if part is None:
            continue
        kept = 0
        if part == "train" and closed_share > 0 and len(spoken) > 1:
            kept = max(1, round(closed_share * len(spoken)))
        first = len(spoken) - kept
        sets[part] += [replace(r, split=part) for r in spoken[:first]]
        sets["closed"] += [replace(r, split="closed") for r in spoken[first:]]
    return sets
