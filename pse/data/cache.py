"""Audio at one rate in one memory-mapped file, for fast random access during training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pse.errors import PseError, StageMissingError, first_three
from pse.io import datadir
from pse.io.jsonl import read_json

REMAKE = "run ./run.sh --stage features --stop_stage features --force"
# 16-bit integers: half of float32's bytes, and what the corpora hold anyway.
FULL_SCALE = 32768.0


class AudioCache:
    """The recordings of one data set, read by sample position.

    dump/<set>/audio.npy holds all samples one after another (int16), in the order of
    utt2num_samples; nothing is decoded when a crop is read.
    """

    def __init__(self, directory: str | Path) -> None:
        """Raises StageMissingError when the cache is not there, PseError when a file of it is damaged."""
        self.directory = Path(directory)
        if not (self.directory / "audio.npy").is_file():
            raise StageMissingError("no audio cache", self.directory, "run ./run.sh --stage features first")
        try:
            tables = datadir.read(self.directory)
            about = read_json(self.directory / "cache.json")
        except PseError as error:
            raise PseError(error.what, error.where, REMAKE) from error
        self.num_samples = _lengths(self.directory, tables)
        self.speaker = dict(tables["utt2spk"])
        self.ids = list(self.num_samples)
        self.sample_rate = _rate(self.directory / "cache.json", about)
        ends = np.cumsum([self.num_samples[u] for u in self.ids]).tolist()
        self._start = dict(zip(self.ids, [0, *ends[:-1]], strict=True))
        self._samples = _mapped(self.directory / "audio.npy")
        if len(self._samples) != ends[-1]:
            what = f"holds {len(self._samples)} samples, its list says {ends[-1]}"
            raise PseError(what, self.directory / "audio.npy", REMAKE)

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


def _lengths(directory: Path, tables: Mapping[str, Mapping[str, str]]) -> dict[str, int]:
    """Samples of every utterance, when the lists of a cache agree."""
    for name in ("utt2num_samples", "utt2spk"):
        if not tables.get(name):
            raise PseError("is missing or empty", directory / name, REMAKE)
    told = tables["utt2num_samples"]
    # A length of more digits than this is none, and no 64-bit sum of lengths overflows.
    bad = [u for u, n in told.items() if not (n.isascii() and n.isdecimal() and len(n) < 13)]
    if bad:
        what = f"{len(bad)} values are no number of samples: {first_three(bad)}"
        raise PseError(what, directory / "utt2num_samples", REMAKE)
    differing = sorted(told.keys() ^ tables["utt2spk"].keys())
    if differing:
        what = f"{len(differing)} ids are not in both utt2num_samples and utt2spk: {first_three(differing)}"
        raise PseError(what, directory, REMAKE)
    return {u: int(n) for u, n in told.items()}


def _rate(path: Path, about: Any) -> int:
    rate = about.get("sample_rate") if isinstance(about, dict) else None
    if type(rate) is not int or rate < 1:
        raise PseError("names no sample rate", path, REMAKE)
    return rate


def _mapped(path: Path) -> np.ndarray:
    """The samples [T] int16 of an npy file, mapped into memory."""
    try:
        samples = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # Of many kinds: numpy parses the header with Python's own tokenizer.
        raise PseError(f"cannot be read as an array ({error})", path, REMAKE) from error
    if not isinstance(samples, np.ndarray) or samples.dtype != np.int16 or samples.ndim != 1:
        raise PseError("is no row of 16-bit samples", path, REMAKE)
    return samples


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


class JoinedCache:
    """Several caches of one rate, read as one. Raises PseError where they share an utterance or differ in rate."""

    def __init__(self, caches: Sequence[AudioCache]) -> None:
        self.directory, self.sample_rate = caches[0].directory, caches[0].sample_rate
        self.num_samples = {u: n for c in caches for u, n in c.num_samples.items()}
        self.speaker = {u: s for c in caches for u, s in c.speaker.items()}
        self.ids = [u for c in caches for u in c.ids]
        self._of = {u: c for c in caches for u in c.ids}
        if len(self._of) < len(self.ids) or any(c.sample_rate != self.sample_rate for c in caches):
            what = "sets of speech share utterances, or differ in rate"
            raise PseError(what, ", ".join(str(c.directory) for c in caches), REMAKE)

    def read(self, utt: str, start_samples: int = 0, num_samples: int | None = None) -> np.ndarray:
        """Samples [T] of an utterance as float32 in [-1, 1]."""
        return self._of[utt].read(utt, start_samples, num_samples)


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


def some_minutes(cache: AudioCache, ids: Sequence[str], minutes: float) -> list[str]:
    """Utterances of so many minutes in all, or all there are: always the same ones, in no order of length."""
    left = minutes * 60 * cache.sample_rate
    chosen: list[str] = []
    for number in np.random.default_rng(0).permutation(len(ids)):
        # The one that goes over the limit is taken if that comes closer to it.
        if chosen and left < cache.num_samples[ids[number]] / 2:
            break
        chosen.append(ids[number])
        left -= cache.num_samples[ids[number]]
    return sorted(chosen)
