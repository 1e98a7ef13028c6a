"""The embedded corpus `mini`: synthesised voices and noises, laid out as the real corpora are.

`make` writes LibriSpeech/, FSD50K/ and musan/ below one directory, so that the code which prepares
the real ones runs on it unchanged. Equal parameters give equal bytes, whatever the number of jobs.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

from pse.corpora import espeak, mini_tables
from pse.corpora.mini_parts import (
    TRAIN_IDS,
    UTTERANCE_S,
    Clip,
    Plan,
    Speaker,
    clips,
    speakers,
    write_clip,
    write_speaker,
)
from pse.errors import PseError, from_os_error
from pse.io.atomic import need_disk, sole_writer
from pse.io.jsonl import read_json, write_json

VERSION = 1
TREES = ("LibriSpeech", "FSD50K", "musan")
MAX_SPEAKERS = len(TRAIN_IDS)
AGAIN = "run the same command again: it continues where it stopped"
Progress = Callable[[str], None]


def make(
    root: str | Path,
    seed: int = 0,
    num_speakers: int = 40,
    seconds_per_speaker: float = 120,
    num_jobs: int = 2,
    progress: Progress | None = None,
    *,
    target_seconds: float = 300,
    noise_share: float = 1.0,
) -> None:
    """Make the corpus below `root`, or finish a half-made one; a complete one is left alone.

    The test readers speak `target_seconds` each, all others `seconds_per_speaker`. `noise_share`
    scales the number of noise clips (48 + 24 in MUSAN, 60 + 30 in FSD50K). A corpus with other
    parameters that this function made is replaced. Raises PseError for impossible parameters, a
    directory that holds something else, or a full disk; EnvironmentFault without the synthesiser.
    """
    plan = Plan(seed, num_speakers, float(seconds_per_speaker), float(target_seconds), float(noise_share))
    _check(plan, num_jobs)
    root, tell = Path(root), progress or (lambda line: None)
    if _is_complete(root, plan):
        tell(f"mini corpus: complete in {root}")
        return
    made_with = {"espeak-ng": espeak.version(), "numpy": np.__version__}
    with sole_writer(root):
        _claim(root, plan, tell)
        everyone, noise = speakers(plan), clips(plan)
        _work(root, plan, [*everyone, *noise], num_jobs, tell)
        mini_tables.write(root, plan, everyone, noise)
        _sweep(root)
        marker = {"parameters": _parameters(plan), "counts": _counts(root), "made_with": made_with}
        write_json(root / ".complete", marker)
        (root / ".making").unlink()
    tell(f"mini corpus: complete in {root}, {marker['counts']['bytes'] / 1e6:.0f} MB")


def _check(plan: Plan, num_jobs: int) -> None:
    if not 3 <= plan.num_speakers <= MAX_SPEAKERS:
        raise PseError(f"mini has 3 to {MAX_SPEAKERS} speakers, not {plan.num_speakers}", fix="change it")
    if plan.seed < 0:
        raise PseError(f"the seed {plan.seed} is negative", fix="choose a seed of 0 or more")
    if not (1 <= plan.seconds_per_speaker <= 7200 and 1 <= plan.target_seconds <= 7200):
        raise PseError("a speaker speaks for 1 to 7200 s", fix="change seconds_per_speaker or target_seconds")
    if not 0 < plan.noise_share <= 10:
        raise PseError(f"noise_share is above 0 and at most 10, not {plan.noise_share}", fix="change it")
    if num_jobs < 1:
        raise PseError(f"the number of jobs is {num_jobs}", fix="choose 1 or more")


def _parameters(plan: Plan) -> dict[str, Any]:
    return {"version": VERSION, **asdict(plan)}


def _read_marker(path: Path) -> dict[str, Any]:
    """A marker's content; empty when it is missing or broken, which means: make anew."""
    try:
        content = read_json(path)
    except PseError:
        return {}
    return content if isinstance(content, dict) else {}


def _counts(root: Path) -> dict[str, int]:
    """How many audio files there are and how large all files are: what a complete corpus is checked by."""
    counts = {"flac": 0, "wav": 0, "bytes": 0}
    for tree in TREES:
        for directory, _, names in os.walk(root / tree):
            for name in names:
                counts["bytes"] += os.stat(os.path.join(directory, name)).st_size
                kind = name.rpartition(".")[2]
                if kind in ("flac", "wav"):
                    counts[kind] += 1
    return counts


def _is_complete(root: Path, plan: Plan) -> bool:
    marker = _read_marker(root / ".complete")
    counts = marker.get("counts")
    if marker.get("parameters") != _parameters(plan) or not isinstance(counts, dict):
        return False
    found = _counts(root)
    return all(number >= counts.get(kind, 0) for kind, number in found.items())


def _claim(root: Path, plan: Plan, tell: Progress) -> None:
    """Make sure that what stands in `root` is ours and of this plan; take away what is not of this plan."""
    making, complete = root / ".making", root / ".complete"
    standing = [tree for tree in TREES if (root / tree).exists()]
    if standing and not making.exists() and not complete.exists():
        raise PseError(f"holds a {standing[0]} that is not of mini", root, "choose an empty directory")
    if complete.exists() or _read_marker(making).get("parameters") != _parameters(plan):
        if standing:
            tell("mini corpus: what is there is damaged or has other parameters, so it is made anew")
        # First void the claim: interrupted while removing, it must not pass for half-made.
        write_json(making, {"parameters": None})
        try:
            complete.unlink(missing_ok=True)
            for tree in standing:
                shutil.rmtree(root / tree)
        except OSError as error:
            raise from_os_error(error) from error
        write_json(making, {"parameters": _parameters(plan)})


def _sweep(root: Path) -> None:
    """Remove what writers that were killed left beside their targets."""
    for leftover in [p for tree in TREES for p in (root / tree).rglob(".*.tmp-*")]:
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _estimate(parts: Sequence[Speaker | Clip]) -> int:
    """Bytes the parts take at most: speech is compressed to two thirds, noise is not."""
    spoken_s = sum(p.seconds + UTTERANCE_S[1] for p in parts if isinstance(p, Speaker))
    return int(0.8 * 32000 * spoken_s + sum(2 * p.sample_rate * p.seconds for p in parts if isinstance(p, Clip)))


def _work(root: Path, plan: Plan, whole: Sequence[Speaker | Clip], num_jobs: int, tell: Progress) -> None:
    """Write the parts that are not there yet, the long ones first, in worker processes."""
    parts = [p for p in whole if not (root / p.path).exists()]
    if not parts:
        return
    need_disk(root, _estimate(parts), "the mini corpus")
    parts.sort(key=lambda part: -part.seconds)
    total_s, done_s, begin, said = sum(p.seconds for p in parts), 0.0, time.monotonic(), 0.0
    # Spawned, not forked: the synthesiser keeps global state, and the caller may have threads.
    pool = ProcessPoolExecutor(min(num_jobs, len(parts)), multiprocessing.get_context("spawn"), _start_worker)
    try:
        futures = {pool.submit(_write, root, plan, part): part for part in parts}
        for number, future in enumerate(as_completed(futures), 1):
            future.result()
            done_s += futures[future].seconds
            spent = time.monotonic() - begin
            if spent - said > 1 or number == len(parts):
                said, left = spent, spent * (total_s / done_s - 1)
                tell(f"mini corpus: {number} of {len(parts)} parts in {spent:.0f} s, about {left:.0f} s left")
    except BrokenProcessPool as error:
        raise PseError("a worker process ended before its time (out of memory?)", root, AGAIN) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _write(root: Path, plan: Plan, part: Speaker | Clip) -> None:
    if isinstance(part, Speaker):
        write_speaker(root, plan, part)
    else:
        write_clip(root, plan, part)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it: an orphan would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    with contextlib.suppress(OSError):
        wait([sentinel])
    os._exit(1)
