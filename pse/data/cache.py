"""Audio at one rate in one memory-mapped file, for fast random access during training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from pse.errors import PseError, StageMissingError, first_three
from pse.io import datadir

# 16-bit integers: half of float32's bytes, and what the corpora hold anyway.
FULL_SCALE = 32768.0


class AudioCache:
    """The recordings of one data set, read by sample position.

    dump/<set>/audio.npy holds all samples one after another (int16), in the order of
    utt2num_samples; nothing is decoded when a crop is read.
    """

    def __init__(self, directory: str | Path) -> None:
        """Raises StageMissingError when the cache is not there, PseError when it does not fit its lists."""
        self.directory = Path(directory)
        if not (self.directory / "audio.npy").is_file():
            raise StageMissingError("no audio cache", self.directory, "run ./run.sh --stage features first")
        tables = datadir.read(self.directory)
        self.num_samples = {u: int(n) for u, n in tables["utt2num_samples"].items()}
        self.speaker = dict(tables["utt2spk"])
        self.ids = list(self.num_samples)
        self.sample_rate = int(json.loads((self.directory / "cache.json").read_text())["sample_rate"])
        ends = np.cumsum([self.num_samples[u] for u in self.ids])
        self._start = dict(zip(self.ids, [0, *ends[:-1].tolist()], strict=True))
        self._samples = np.load(self.directory / "audio.npy", mmap_mode="r", allow_pickle=False)
        if len(self._samples) != (ends[-1] if len(ends) else 0):
            raise PseError(
                f"holds {len(self._samples)} samples, its list says {ends[-1]}", self.directory / "audio.npy",
                "remove the directory and run ./run.sh --stage features",
            )

    def read(self, utt: str, start_samples: int = 0, num_samples: int | None = None) -> np.ndarray:
        """Samples [T] of an utterance as float32 in [-1, 1]."""
        first = self._start[utt] + start_samples
        last = self._start[utt] + self.num_samples[utt]
        if num_samples is not None:
            last = min(last, first + num_samples)
        return self._samples[first:last].astype(np.float32) / FULL_SCALE

    def of_speaker(self, speaker: str) -> list[str]:
        """The utterances of one speaker, in order."""
        return [u for u in self.ids if self.speaker[u] == speaker]


class MemoryCache:
    """A few recordings held in memory, read like an AudioCache."""

    def __init__(self, recordings: Mapping[str, np.ndarray], speaker: str, sample_rate: int) -> None:
        self.directory = Path("memory")
        self.num_samples = {u: len(x) for u, x in recordings.items()}
        self.speaker = dict.fromkeys(recordings, speaker)
        self.ids = list(recordings)
        self.sample_rate = sample_rate
        self._recordings = recordings

    def read(self, utt: str, start_samples: int = 0, num_samples: int | None = None) -> np.ndarray:
        """Samples [T] of an utterance as float32 in [-1, 1]."""
        stop = None if num_samples is None else start_samples + num_samples
        return self._recordings[utt][start_samples:stop]


def first_seconds(cache: AudioCache, speaker: str, seconds: float) -> MemoryCache:
    """The first `seconds` of a speaker's recordings, joined, or all there is when that is less."""
    joined = np.concatenate([cache.read(u) for u in select(cache, [speaker])])
    return MemoryCache({f"{speaker}-first": joined[: round(seconds * cache.sample_rate)]}, speaker, cache.sample_rate)


def select(cache: AudioCache, speakers: Iterable[str] | None) -> list[str]:
    """Utterances of the given speakers (all when None), in order. Raises PseError when none is left."""
    wanted = None if speakers is None else set(speakers)
    ids = [u for u in cache.ids if wanted is None or cache.speaker[u] in wanted]
    if not ids:
        raise PseError(f"no utterance of speaker {first_three(sorted(wanted or ()))}", cache.directory)
    return ids
