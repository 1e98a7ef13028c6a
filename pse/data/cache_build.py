"""Making an audio cache: decode everything once, refuse what cannot be used, say what was changed."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from pse.data.cache import FULL_SCALE
from pse.dsp.trim import sound_extent
from pse.errors import PseError, first_three
from pse.io import audio, datadir, sound
from pse.io.atomic import need_disk, writing_dir

# Recordings decoded at a time: bounds the memory.
WINDOW = 64
TOLD_EVERY_S = 5.0


@dataclass(frozen=True)
class Decoded:
    """A recording [T] at the cache's rate, or its fault; notes say what was done to it."""

    utt: str
    samples: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    notes: tuple[str, ...] = ()
    fault: str = ""

    @property
    def as_it_was(self) -> bool:
        """Whether the original file holds the same samples."""
        return not any(n != CLIPPED for n in self.notes)


CLIPPED = "clipped when recorded"


# Samples [T] at one rate in Hz as samples at another.
Resample = Callable[[np.ndarray, int, int], np.ndarray]


def build(
    source: Path,
    target: Path,
    sample_rate: int,
    nj: int,
    progress: Callable[[str], None],
    resample: Resample = audio.resample,
    trim_db: float | None = None,
) -> None:
    """Make dump/<set> from data/<set>: cache, one-rate wav.scp, lengths, levels, sparsity.

    trim_db: both ends of a recording are cut where they stay so far below its loudest moment (see
    `sound_extent`); None leaves them. A recording with another rate or several channels, or that is cut,
    is written once, into target/flac; others are left where they are. What was done is told; every unusable
    recording is named in one error, none is dropped.
    """
    tables = datadir.read(source)
    paths = dict(sorted(tables["wav.scp"].items()))
    seconds = sum(float(d) for d in tables["utt2dur"].values())
    need_disk(target, int(2.2 * seconds * sample_rate), f"the audio cache of {source.name}")
    with writing_dir(target) as new:
        made: dict[str, dict[str, str]] = {"utt2num_samples": {}, "utt2level": {}, "utt2sparsity": {}}
        scp, faults, notes, content = {}, [], Counter(), hashlib.sha256()
        with open(new / "audio.raw", "wb") as raw:
            work = partial(_decode_item, sample_rate=sample_rate, resample=resample, trim_db=trim_db)
            for done in _decode_all(paths, nj, work, lambda line: progress(f"{source.name}: {line}")):
                if done.fault:
                    faults.append(done.fault)
                    continue
                # Lossless for what was 16-bit audio at this rate.
                quantised = np.minimum(np.round(done.samples * FULL_SCALE), FULL_SCALE - 1).astype("<i2")
                raw.write(quantised.tobytes())
                content.update(quantised.tobytes())
                made["utt2num_samples"][done.utt] = str(len(quantised))
                made["utt2level"][done.utt] = f"{audio.level_dbfs(done.samples):.2f}"
                made["utt2sparsity"][done.utt] = f"{gini_index(done.samples):.4f}"
                scp[done.utt] = paths[done.utt]
                notes.update(done.notes)
                if not done.as_it_was:
                    audio.write(new / "flac" / f"{done.utt}.flac", quantised / FULL_SCALE, sample_rate)
                    scp[done.utt] = str((target / "flac" / f"{done.utt}.flac").absolute())
        if faults:
            raise PseError(
                f"{len(faults)} of {len(paths)} recordings cannot be used: {first_three(faults)}", source / "wav.scp",
                "mend or remove these files and run the data stage again",
            )
        for note, count in sorted(notes.items()):
            progress(f"{source.name}: {count} of {len(paths)} recordings {note}")
        _raw_to_npy(new / "audio.raw", new / "audio.npy")
        (new / "cache.json").write_text(json.dumps({"sample_rate": sample_rate, "sha256": content.hexdigest()}) + "\n")
        kept = {k: tables[k] for k in ("utt2spk", "utt2dur", "utt2category") if k in tables}
        if trim_db is not None:
            kept["utt2dur"] = {u: f"{int(n) / sample_rate:.6f}" for u, n in made["utt2num_samples"].items()}
        datadir.write_into(new, kept | made | {"wav.scp": scp})


def _decode_all(
    paths: dict[str, str], nj: int, work: Callable[[tuple[str, str]], Decoded], progress: Callable[[str], None]
) -> Iterator[Decoded]:
    items: Sequence[tuple[str, str]] = list(paths.items())
    # Decoding releases the interpreter lock, so threads are enough.
    told_at = time.monotonic()
    with ThreadPoolExecutor(max(1, nj)) as pool:
        for i in range(0, len(items), WINDOW):
            yield from pool.map(work, items[i : i + WINDOW])
            done = min(i + WINDOW, len(items))
            if done == len(items) or time.monotonic() - told_at > TOLD_EVERY_S:
                told_at = time.monotonic()
                progress(f"{done}/{len(items)} recordings")


def _decode_item(item: tuple[str, str], sample_rate: int, resample: Resample, trim_db: float | None) -> Decoded:
    return decode(*item, sample_rate, resample, trim_db)


def decode(
    utt: str, path: str, sample_rate: int, resample: Resample = audio.resample, trim_db: float | None = None
) -> Decoded:
    """Decode one recording to mono at `sample_rate`, within full scale, its ends cut where asked."""
    try:
        info = sound.probe(path)
        samples, rate = sound.read(path)
    except PseError as error:
        return Decoded(utt, fault=str(error))
    # At the recording's own rate: another one bends the flat tops of what is clipped.
    found = audio.faults(samples)
    if rate != sample_rate:
        samples = resample(samples, rate, sample_rate).astype(np.float32, copy=False)
    notes = []
    if info.sample_rate != sample_rate:
        notes.append(f"resampled from {info.sample_rate} to {sample_rate} Hz")
    if info.num_channels > 1:
        notes.append(f"averaged over {info.num_channels} channels")
    if any(f.startswith("is clipped") for f in found):
        notes.append(CLIPPED)
    elif found:
        return Decoded(utt, fault=f"{path} {found[0]}")
    peak = float(np.abs(samples).max())
    if peak > 1.0:
        samples = samples / np.float32(peak)
        notes.append("turned down to full scale")
    if trim_db is not None:
        there = sound_extent(samples, sample_rate, trim_db)
        if there.stop - there.start < len(samples):
            samples = samples[there]
            notes.append("cut at the ends")
    return Decoded(utt, samples, tuple(notes))


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
