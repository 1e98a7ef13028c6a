"""Audio at one rate in one memory-mapped file, for fast random access during training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pse.errors import PseError, StageMissingError, first_three
from pse.io import audio, datadir
from pse.io.atomic import need_disk, writing_dir

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


def build(source: Path, target: Path, sample_rate: int, nj: int, progress: Callable[[str], None]) -> None:
    """Make dump/<set> from data/<set>: cache, one-rate wav.scp, lengths, levels, sparsity.

    A recording with another rate or several channels is converted once, into target/flac; others
    are left where they are. Every unusable recording is named in one error, none is dropped.
    """
    tables = datadir.read(source)
    ids = sorted(tables["wav.scp"])
    durations = [float(tables["utt2dur"][u]) for u in ids]
    need_disk(target, int(2.2 * sum(durations) * sample_rate), f"the audio cache of {source.name}")
    with writing_dir(target) as new:
        counts, levels, sparsity, scp, faults = {}, {}, {}, {}, []
        content = hashlib.sha256()
        with open(new / "audio.raw", "wb") as raw:
            for utt, result in _decoded(ids, tables["wav.scp"], sample_rate, nj, progress, source.name):
                if isinstance(result, str):
                    faults.append(result)
                    continue
                samples, native = result
                quantised = np.clip(np.round(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype("<i2")
                raw.write(quantised.tobytes())
                content.update(quantised.tobytes())
                counts[utt] = str(len(quantised))
                levels[utt] = f"{audio.level_dbfs(samples):.2f}"
                sparsity[utt] = f"{gini_index(samples):.4f}"
                scp[utt] = tables["wav.scp"][utt]
                if not native:
                    audio.write(new / "flac" / f"{utt}.flac", quantised / FULL_SCALE, sample_rate)
                    scp[utt] = str((target / "flac" / f"{utt}.flac").absolute())
        if faults:
            raise PseError(
                f"{len(faults)} of {len(ids)} recordings cannot be used: {first_three(faults)}", source / "wav.scp",
                "mend or remove these files and run the data stage again",
            )
        _raw_to_npy(new / "audio.raw", new / "audio.npy")
        (new / "cache.json").write_text(json.dumps({"sample_rate": sample_rate, "sha256": content.hexdigest()}) + "\n")
        kept = {k: tables[k] for k in ("utt2spk", "utt2dur", "utt2category") if k in tables}
        datadir.write_into(new, kept | {
            "wav.scp": scp, "utt2num_samples": counts, "utt2level": levels, "utt2sparsity": sparsity,
        })


def _decoded(
    ids: Sequence[str], paths: dict[str, str], sample_rate: int, nj: int, progress: Callable[[str], None], name: str
) -> Iterator[tuple[str, tuple[np.ndarray, bool] | str]]:
    def one(utt: str) -> tuple[str, tuple[np.ndarray, bool] | str]:
        path = paths[utt]
        try:
            info = audio.probe(path)
            samples, _ = audio.read(path, sample_rate)
            found = [f for f in audio.faults(samples) if not f.startswith("is clipped")]
            if found:
                return utt, f"{path} {found[0]}"
        except PseError as error:
            return utt, str(error)
        return utt, (samples, info.sample_rate == sample_rate and info.num_channels == 1)

    # Decoding releases the interpreter lock, so threads are enough; a window bounds the memory.
    with ThreadPoolExecutor(max(1, nj)) as pool:
        for i in range(0, len(ids), 64):
            yield from pool.map(one, ids[i : i + 64])
            progress(f"{name}: {min(i + 64, len(ids))}/{len(ids)} recordings")


def _raw_to_npy(raw: Path, npy: Path) -> None:
    """Put an npy header in front of raw little-endian int16 samples, without holding them in memory."""
    count = raw.stat().st_size // 2
    with open(npy, "wb") as out:
        np.lib.format.write_array_header_1_0(out, {"descr": "<i2", "fortran_order": False, "shape": (count,)})
        with open(raw, "rb") as file:
            while block := file.read(1 << 22):
                out.write(block)
    raw.unlink()


def gini_index(samples: np.ndarray, frame_samples: int = 256) -> float:
    """Sparsity of the frame energies in [0, 1]: 0 for a steady signal, near 1 for a few short bursts.

    The Gini index (Hurley and Rickard, IEEE Trans. Inf. Theory 2009) of [T]'s frame energies.
    """
    whole = len(samples) // frame_samples * frame_samples
    if whole == 0:
        return 0.0
    energy = np.sort(np.square(samples[:whole], dtype=np.float64).reshape(-1, frame_samples).sum(1))
    total = energy.sum()
    if total <= 0:
        return 0.0
    n = len(energy)
    return float(1.0 - 2.0 * np.sum(energy / total * (n - np.arange(1, n + 1) + 0.5) / n))


def select(cache: AudioCache, speakers: Iterable[str] | None) -> list[str]:
    """Utterances of the given speakers (all when None), in order. Raises PseError when none is left."""
    wanted = None if speakers is None else set(speakers)
    ids = [u for u in cache.ids if wanted is None or cache.speaker[u] in wanted]
    if not ids:
        raise PseError(f"no utterance of speaker {first_three(sorted(wanted or ()))}", cache.directory)
    return ids
