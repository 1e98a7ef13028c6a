"""WSJ0-mix as files: the published tree of mixtures and sources, written in parallel and resumed where it stopped."""

from __future__ import annotations

import functools
import io
import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from pse.corpora.base import Recording
from pse.data import wsj0_mix
from pse.data.wsj0_mix import Entry, Mixed
from pse.errors import PseError
from pse.io import sound
from pse.io.atomic import need_disk, write_many

# Mixtures that a process makes and writes at a time.
CHUNK = 16
REPORT_EVERY_S = 10.0
# Utterances whose level is measured to see whose microphone it was.
CHECKED = 20


@dataclass(frozen=True)
class Plan:
    """One set of the tree: part is tr, cv or tt."""

    num_speakers: int
    part: str
    sample_rate: int
    mode: str

    def paths(self, root: Path, entry: Entry) -> list[Path]:
        """Where the mixture and its sources go; the mixture, which is written last, comes first."""
        places = wsj0_mix.folders(self.num_speakers, self.sample_rate, self.mode, self.part)
        return [root / place / f"{entry.id}.wav" for place in places.values()]


# Root of the tree, set, mixture, and of each source the file and the published level.
Job = tuple[Path, Plan, Entry, tuple[tuple[str, float | None], ...]]


def write_tree(
    root: Path,
    plan: Plan,
    entries: Sequence[Entry],
    recordings: Mapping[str, Recording],
    levels: Mapping[str, float],
    num_jobs: int,
    tell: Callable[[str], None],
) -> int:
    """Write what is not there yet of a set; returns how many mixtures that was.

    recordings: by utterance; levels: active power at 8 kHz, as published. A mixture counts as there when
    its file has the right length; it is written after its sources. Raises PseError before the first one when
    the disk is too small, and for an utterance that cannot be read or is silent.
    """
    name = f"{plan.num_speakers} speakers, {plan.part}, {plan.sample_rate} Hz, {plan.mode}"
    waiting, num_bytes = to_write(root, plan, entries, recordings)
    if not waiting:
        tell(f"{name}: all {len(entries)} mixtures are there")
        return 0
    need_disk(root, num_bytes, f"{len(waiting)} mixtures ({name})")
    tell(f"{name}: {len(waiting)} of {len(entries)} mixtures to write, {num_bytes / 1e9:.2f} GB")
    begin = said = time.monotonic()
    for done, _ in enumerate(_written(root, plan, waiting, recordings, levels, num_jobs), 1):
        now = time.monotonic()
        if now - said > REPORT_EVERY_S or done == len(waiting):
            said, rate = now, done / max(now - begin, 1e-9)
            left_min = (len(waiting) - done) / rate / 60
            tell(f"{name}: {done}/{len(waiting)}, {rate:.0f} a second, {left_min:.1f} min left")
    return len(waiting)


def to_write(
    root: Path, plan: Plan, entries: Sequence[Entry], recordings: Mapping[str, Recording]
) -> tuple[list[Entry], int]:
    """The mixtures of a set that are not there yet, and how many bytes they take."""
    samples = {e.id: _length(e, plan, recordings) for e in entries}
    waiting = [e for e in entries if not _is_there(plan.paths(root, e)[0], samples[e.id])]
    return waiting, sum(2 * samples[e.id] * (1 + plan.num_speakers) for e in waiting)


def check_levels(recordings: Sequence[Recording], levels: Mapping[str, float], where: Path) -> None:
    """Measure some utterances: the other microphone's have other levels. Raises PseError when they do."""
    known = [r for r in recordings if r.id in levels]
    some = known[:: max(1, len(known) // CHECKED)]
    measured = {r.id: wsj0_mix.level(*sound.read(r.path)) for r in some}
    if fault := wsj0_mix.level_fault(measured, levels):
        raise PseError(fault, where, "copy the .wv1 files from the discs")


def _length(entry: Entry, plan: Plan, recordings: Mapping[str, Recording]) -> int:
    found = [recordings[u] for u in entry.utts]
    lengths = [-(-round(r.duration_s * r.sample_rate) * plan.sample_rate // r.sample_rate) for r in found]
    return (min if plan.mode == "min" else max)(lengths)


def _is_there(path: Path, num_samples: int) -> bool:
    try:
        return soundfile.info(str(path)).frames == num_samples
    except (soundfile.LibsndfileError, RuntimeError):
        return False


def _written(
    root: Path,
    plan: Plan,
    entries: Sequence[Entry],
    recordings: Mapping[str, Recording],
    levels: Mapping[str, float],
    num_jobs: int,
) -> Iterator[None]:
    """One item for each mixture that was written."""
    jobs = []
    for entry in entries:
        sources = tuple((str(recordings[u].path), levels.get(u)) for u in entry.utts)
        jobs.append((root, plan, entry, sources))
    chunks = [jobs[first : first + CHUNK] for first in range(0, len(jobs), CHUNK)]
    if num_jobs == 1:
        yield from itertools.chain.from_iterable(map(_write, chunks))
        return
    # Spawned, not forked: the caller may have threads.
    with ProcessPoolExecutor(num_jobs, multiprocessing.get_context("spawn")) as pool:
        yield from itertools.chain.from_iterable(pool.map(_write, chunks))


def _write(chunk: Sequence[Job]) -> list[None]:
    files: dict[Path, bytes] = {}
    for root, plan, entry, sources in chunk:
        made = _mixed(plan, entry, sources)
        mixture, *others = plan.paths(root, entry)
        # The mixture comes last: where it stands, all of it does.
        signals = {**dict(zip(others, made.sources, strict=True)), mixture: made.mix}
        files |= {path: _wav(signal, plan.sample_rate) for path, signal in signals.items()}
    write_many(files)
    return [None] * len(chunk)


def _wav(samples: np.ndarray, sample_rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _mixed(plan: Plan, entry: Entry, sources: tuple[tuple[str, float | None], ...]) -> Mixed:
    heard = [_read(path) for path, _ in sources]
    powers = [wsj0_mix.level(x, rate) if p is None else p for (x, rate), (_, p) in zip(heard, sources, strict=True)]
    signals, rates = zip(*heard, strict=True)
    return wsj0_mix.mix(signals, entry.gains_db, powers, from_hz=rates[0], to_hz=plan.sample_rate, mode=plan.mode)


# An utterance is used in several mixtures.
@functools.lru_cache(maxsize=256)
def _read(path: str) -> tuple[np.ndarray, int]:
    return sound.read(path)
