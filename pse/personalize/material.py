"""What a personal model is made of: a person's recordings and noises, cut up for training, choosing and judging."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pse.corpora import folder, noises
from pse.data.cache import MemoryCache
from pse.errors import PseError
from pse.io import audio, blocks

PIECE_S, MANY_PIECES, SMALL_PIECE_S, LEAST_S, SHORTEST_S = 10.0, 12, 2.0, 5.0, 1.0
# What trains, what selects the best weights, and what nothing of the training has heard.
SHARES = {"train": 0.7, "select": 0.1, "judge": 0.2}
# More would teach little and not fit into memory.
LONGEST_S = 4 * 3600.0
# What is told of recordings is found part by part.
PART_S, MINUTE_S = 20.0, 60.0
NOISE_KINDS = ("stationary", "modulated", "impulsive", "hum", "music")
NUM_NOISES, NOISE_S = 100, 6.0
# Frames below it are noise; stretches of so much of them are kept, of recordings that have so much in all.
GAP_DB, GAP_S, GAP_FADE_S, LEAST_GAPS_S, LEAST_OWN_NOISE_S = -6.0, 0.3, 0.02, 1.0, 10.0


@dataclass(frozen=True)
class Recordings:
    """Recordings [T] by their names at one rate; clipped: those that were it at their own rates."""

    samples: Mapping[str, np.ndarray]
    sample_rate: int
    clipped: frozenset[str] = frozenset()

    @property
    def total_s(self) -> float:
        """Seconds in all."""
        return sum(map(len, self.samples.values())) / self.sample_rate

    def in_parts(self, frames: Mapping[str, np.ndarray]) -> Iterator[tuple[str, float, np.ndarray, np.ndarray]]:
        """Parts of about 20 s, and what is shorter as one: name, start in seconds, samples [T], and of `frames` [F]."""
        for name, samples in self.samples.items():
            count = max(1, round(len(samples) / (PART_S * self.sample_rate)))
            start_s = 0.0
            for part, track in zip(np.array_split(samples, count), np.array_split(frames[name], count), strict=True):
                yield name, start_s, part, track
                start_s += len(part) / self.sample_rate


def read_recordings(place: Path, sample_rate: int, longest_s: float = LONGEST_S) -> Recordings:
    """The recordings below a directory, those that a wav.scp lists, or one file, mono at `sample_rate` Hz.

    What is corrupt, silent or shorter than a second is left out and told. Of more than longest_s the first ones are
    taken. Raises PseError where nothing is left.
    """
    listed = place.suffix == ".scp"
    if place.is_file() and not listed:
        samples, silent, clipped = _read(place, longest_s, sample_rate)
        if len(samples) < SHORTEST_S * sample_rate or silent:
            told = "is silent" if silent else f"lasts {len(samples) / sample_rate:.1f} s"
            raise PseError(told, place, "give a recording with speech in it")
        return Recordings({place.name: samples}, sample_rate, frozenset([place.name] if clipped else []))
    read: dict[str, np.ndarray] = {}
    distorted = set()
    left_s = longest_s
    if listed:
        scanned = folder.scan_list(place, SHORTEST_S, skip_bad=True)
    else:
        scanned = folder.scan_plain(place, SHORTEST_S, skip_bad=True)
    for recording in scanned:
        if left_s < SHORTEST_S:
            break
        # As its owner calls it.
        name = recording.id if listed else os.path.relpath(recording.path, place)
        read[name], _, clipped = _read(recording.path, left_s, sample_rate)
        if clipped:
            distorted.add(name)
        left_s -= len(read[name]) / sample_rate
    return Recordings(read, sample_rate, frozenset(distorted))


def _read(path: Path, longest_s: float, sample_rate: int) -> tuple[np.ndarray, bool, bool]:
    """The first seconds of a file [T] at `sample_rate`, whether they are silent, whether any minute is clipped.

    Minute by minute, so that hours at a high rate need no more memory than they have at this one.
    """
    read, found = [], []
    with blocks.reading(path) as (info, minutes):
        converter, left = blocks.Resampler(info.sample_rate, sample_rate, 1), round(longest_s * info.sample_rate)
        for block in minutes(round(MINUTE_S * info.sample_rate)):
            mono = block.mean(0)[:left]
            found.append(" ".join(audio.faults(mono)))
            read.append(converter.push(mono[None])[0])
            left -= len(mono)
            if not left:
                break
    read.append(converter.flush()[0])
    return np.concatenate(read), all("silent" in told for told in found), any("clipped" in told for told in found)


def parts(recordings: Mapping[str, np.ndarray], sample_rate: int, seed: int, what: str) -> dict[str, MemoryCache]:
    """Pieces of recordings for each of SHARES, in time: only where two parts meet do they share a recording.

    Pieces last 10 s, those that select and judge down to 2 s where there would be only a few: a difference is sure
    by the number of them. Raises PseError where there is too little.
    """
    longest, small, shortest = (round(s * sample_rate) for s in (PIECE_S, SMALL_PIECE_S, PIECE_S / 20))
    names = sorted(recordings)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    starts = np.concatenate([[0], np.cumsum([len(recordings[n]) for n in order])])
    total = int(starts[-1])
    if total < LEAST_S * sample_rate:
        told = f"{total / sample_rate:.1f} s are too little to train, choose and judge with"
        raise PseError(told, what, f"give {LEAST_S:g} s at least; a minute or more is of use")
    bounds = np.round(np.cumsum([0.0, *SHARES.values()]) * total).astype(int)
    found = {}
    for part, first, last in zip(SHARES, bounds[:-1], bounds[1:], strict=True):
        size = longest if part == "train" else min(longest, max(small, (last - first) // MANY_PIECES))
        pieces = {}
        for name, start in zip(order, starts[:-1], strict=True):
            stretch = recordings[name][max(0, first - start) : max(0, last - start)]
            cuts = [stretch[i : i + size] for i in range(0, len(stretch), size)]
            loud = (x for x in cuts if len(x) >= shortest and audio.level_dbfs(x) >= audio.SILENCE_DBFS)
            pieces |= {f"{name}-{part}-{number:04d}": x for number, x in enumerate(loud)}
        if not pieces:
            raise PseError("is silent where it should train, choose or judge", what, "give more")
        found[part] = MemoryCache(pieces, "me", sample_rate)
    return found


def own_noises(
    recordings: Recordings, frame_snr_db: Mapping[str, np.ndarray], seed: int
) -> tuple[dict[str, MemoryCache], float]:
    """Noises for each of SHARES, where none are given: synthesised ones, and what the recordings have between words.

    And the seconds of the latter: 0 where they are too few, or nothing is left of them for one of SHARES.
    """
    rate, random = recordings.sample_rate, np.random.default_rng([seed, 0])
    made = {
        f"{kind}-{number:03d}": noises.render(kind, random, NOISE_S, rate, _nobody)
        for number in range(NUM_NOISES // len(NOISE_KINDS))
        for kind in NOISE_KINDS
    }
    found = parts(made, rate, seed, "noises")
    between = {n: gaps(x, frame_snr_db[n], rate) for n, x in recordings.samples.items()}
    between = {n: x for n, x in between.items() if len(x) >= LEAST_GAPS_S * rate}
    between_s = sum(map(len, between.values())) / rate
    if between_s < LEAST_OWN_NOISE_S:
        return found, 0.0
    try:
        own = parts(between, rate, seed, "gaps")
    except PseError:
        return found, 0.0
    # As much of the one as of the other is drawn.
    return {part: _evenly(cache, own[part]) for part, cache in found.items()}, between_s


def gaps(samples: np.ndarray, frame_snr_db: np.ndarray, sample_rate: int) -> np.ndarray:
    """What a recording [T] has between words, joined: stretches whose predicted SNR [F] is low throughout.

    Without those that are silent, as cut or gated recordings have them: no noise is learnt from these.
    """
    hop = len(samples) / max(1, len(frame_snr_db) - 1)
    low = np.concatenate([[False], frame_snr_db < GAP_DB, [False]])
    edges = np.flatnonzero(low[1:] != low[:-1]).reshape(-1, 2)
    fade = round(GAP_FADE_S * sample_rate)
    joined = np.zeros(0, np.float32)
    for first, last in edges:
        part = samples[round(first * hop) : round((last - 1) * hop)]
        if len(part) < GAP_S * sample_rate or audio.level_dbfs(part) < audio.SILENCE_DBFS:
            continue
        if len(joined):
            ramp = np.sqrt(np.linspace(0, 1, fade, dtype=np.float32))
            joined[-fade:] = joined[-fade:] * ramp[::-1] + part[:fade] * ramp
            part = part[fade:]
        joined = np.concatenate([joined, part])
    return joined


def _evenly(one: MemoryCache, other: MemoryCache) -> MemoryCache:
    pool = {n: one.read(n) for n in one.ids}
    repeats = max(1, round(len(one.ids) / len(other.ids)))
    pool |= {f"{n}-{k}": other.read(n) for n in other.ids for k in range(repeats)}
    return MemoryCache(pool, "noise", one.sample_rate)


def _nobody(random: np.random.Generator, num_samples: int, sample_rate: int) -> np.ndarray:
    raise AssertionError("no voices are among the kinds of noise that are synthesised here")
