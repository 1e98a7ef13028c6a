"""Random 4 s crops a second from WAV, FLAC, Kaldi ark and one memory map, in one process, warm.

Why the audio cache is a memory map: training draws crops at random positions, and a batch of 32
mixtures needs 64 to 96 of them in every step. Run: python benchmarks/audio_cache.py
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from pse.data.cache import AudioCache
from pse.data.cache_build import build
from pse.io import datadir
from pse.io.ark import Archive, write_ark

RATE, CROP, FILES, SECONDS, ROUNDS = 16000, 4 * 16000, 40, 14, 7


def prepare(root: Path) -> list[str]:
    """40 recordings of 14 s of speech-like noise in every format."""
    rng = np.random.default_rng(0)
    ids = [f"a{i:03d}" for i in range(FILES)]
    signals = {}
    for utt in ids:
        envelope = np.repeat(rng.uniform(0.01, 0.3, SECONDS * 8), RATE // 8)
        signals[utt] = (envelope * rng.standard_normal(SECONDS * RATE)).clip(-1, 1).astype(np.float32)
        for ending in ("wav", "flac"):
            soundfile.write(root / f"{utt}.{ending}", signals[utt], RATE)
    scp = {u: str(root / f"{u}.wav") for u in ids}
    tables = {"wav.scp": scp, "utt2spk": {u: u for u in ids}, "utt2dur": dict.fromkeys(ids, str(SECONDS))}
    datadir.write(root / "data", tables)
    build(root / "data", root / "cache", RATE, 2, lambda line: None)
    write_ark(root / "raw.scp", root / "raw.ark", ((u, x[:, None]) for u, x in signals.items()))
    return ids


def rate_of(read: Callable[[str, int], np.ndarray], ids: list[str]) -> float:
    """Crops a second: the median of several rounds of 200."""
    rng, rates = np.random.default_rng(1), []
    for _ in range(ROUNDS):
        which, where = rng.integers(FILES, size=200), rng.integers(10 * RATE, size=200)
        draws = [(ids[i], int(s)) for i, s in zip(which, where, strict=True)]
        start = time.perf_counter()
        for utt, first in draws:
            assert len(read(utt, first)) == CROP
        rates.append(len(draws) / (time.perf_counter() - start))
    return statistics.median(rates)


def file_reader(root: Path, ending: str) -> Callable[[str, int], np.ndarray]:
    """Open, seek, decode."""

    def read(utt: str, first: int) -> np.ndarray:
        with soundfile.SoundFile(root / f"{utt}.{ending}") as file:
            file.seek(first)
            return file.read(CROP, dtype="float32")

    return read


def main() -> None:
    """Print crops a second and the ratio to WAV."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        ids = prepare(root)
        cache, ark = AudioCache(root / "cache"), Archive(root / "raw.scp")
        readers = {
            "WAV, soundfile": file_reader(root, "wav"),
            "FLAC, soundfile": file_reader(root, "flac"),
            "Kaldi ark, kaldiio": lambda utt, first: ark[utt][first : first + CROP, 0],
            "memory map (pse)": lambda utt, first: cache.read(utt, first, CROP),
        }
        rates = {label: rate_of(read, ids) for label, read in readers.items()}
    print(f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}; random 4 s crops at 16 kHz, warm")
    for label, rate in rates.items():
        print(f"{label:<20} {rate:10,.0f} crops/s   {rate / rates['WAV, soundfile']:6.2f} x WAV")


if __name__ == "__main__":
    main()
