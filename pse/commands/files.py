"""What the verbs on recordings share: which files go in, where results go, and going on after a bad one."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pse.errors import PseError, first_three
from pse.inference.builtin import CHOICES, DEFAULTS
from pse.io.atomic import write_text
from pse.io.tables import read_table, render
from pse.memory import keep_freed_memory

REPLACE = "add --overwrite, or choose another place"


class ThereAlreadyError(PseError):
    """The result of a recording that is there, whole, and may not be replaced; written: as in `Done`."""

    def __init__(self, target: Path, written: Mapping[str, Path]) -> None:
        super().__init__("is there already", target, REPLACE)
        self.written = written


class BandNote:
    """Tells once of a call that recordings have a wider band than the model; rest: what becomes of what is above."""

    def __init__(self, rate_hz: int, rest: str) -> None:
        self.rate_hz, self.rest, self._told = rate_hz, rest, False

    def __call__(self, source: Path) -> None:
        """Look at one recording."""
        from pse.io import audio

        if not self._told and (rate_hz := audio.probe(source).sample_rate) > self.rate_hz:
            self._told = True
            above = f"what is above {self.rate_hz / 2000:g} kHz {self.rest}"
            told = f"{source} has {rate_hz:,} Hz, the model works at {self.rate_hz:,} Hz: {above}"
            print(f"note: {told}", file=sys.stderr, flush=True)


class Job(NamedTuple):
    """A recording, the file that its result goes to, or is named after, and its id in a wav.scp."""

    source: Path
    target: Path
    id: str | None = None


class Done(NamedTuple):
    """A recording that was worked on: what to tell, its duration, and what was written, by the list it belongs to."""

    told: str
    duration_s: float
    written: Mapping[str, Path]


def add_arguments(parser: argparse.ArgumentParser, task: str) -> None:
    """The recordings, the directory of the results, and the model, by default the built-in one of a task."""
    parser.add_argument("input", type=Path, nargs="+", help="audio files, directories of them, or a wav.scp")
    parser.add_argument("-o", "--output", type=Path, required=True, help="directory for the results")
    add_model(parser, task)
    add_overwrite(parser)


def add_model(parser: argparse.ArgumentParser, task: str) -> None:
    """The model, by default the built-in one of a task."""
    default = DEFAULTS[task]
    parser.add_argument("--model", default=default, metavar="NAME|DIR", help=f"{CHOICES} (default: {default})")


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """The permission to replace results that are there."""
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there already")


def need_free(*targets: Path, overwrite: bool) -> None:
    """Raise PseError for the first file that is there and may not be replaced."""
    for target in targets:
        if target.exists() and not overwrite:
            raise PseError("is there already", target, REPLACE)


def jobs_of(
    inputs: Sequence[Path], output: Path, overwrite: bool, written: Callable[[Path], Iterable[Path]] = lambda t: [t]
) -> list[Job]:
    """What is to be done for files, directories and lists; written: the files that a target may become.

    Raises PseError where two results would be one, or a result would take the place of a recording.
    """
    if output.exists() and not output.is_dir():
        raise PseError("is a file, a directory is needed", output, "choose another --output")
    jobs = [job for path in inputs for job in _jobs(path, output)]
    by_target: dict[Path, list[Path]] = {}
    for job in jobs:
        by_target.setdefault(job.target, []).append(job.source)
    for target, sources in by_target.items():
        if len(sources) > 1:
            fix = "give them in calls of their own, each with another --output"
            raise PseError(f"would be the result of {first_three(sources)}", target, fix)
    _check_sources(jobs, written)
    _check_lists(inputs, {job.id for job in jobs if job.id}, output, overwrite)
    return jobs


def names_of(paths: Iterable[Path]) -> dict[Path, str]:
    """What each of some files is called: its path without the ending, but with it where several would be called so."""
    paths, whole = list(paths), set[Path]()
    while True:
        names = {path: str(path if path in whole else path.with_suffix("")) for path in paths}
        times = Counter(names.values())
        # The longer name of talk.mp3 may be the shorter one of talk.mp3.wav.
        more = {path for path, name in names.items() if times[name] > 1} - whole
        if not more:
            return names
        whole |= more


def audio_below(directory: Path, others: Sequence[Path] = ()) -> list[Path]:
    """The audio files below a directory, in order; `others` inside it are left out.

    Formats that are not read are told. Raises PseError where there is no file that is.
    """
    from pse.corpora.base import walk
    from pse.corpora.folder import FOREIGN_FORMATS, FORMATS

    inside = [other.resolve() for other in others if directory.resolve() in other.resolve().parents]
    every = [path for path in walk(directory) if not any(other in path.resolve().parents for other in inside)]
    foreign = [str(path.relative_to(directory)) for path in every if path.suffix.lower() in FOREIGN_FORMATS]
    if foreign:
        told = f"{len(foreign)} files are of formats that are not read here: {first_three(foreign)}"
        print(f"note: {directory}: {told}; convert them (ffmpeg -i x.m4a x.wav)", file=sys.stderr, flush=True)
    found = [path for path in every if path.suffix.lower() in FORMATS]
    if not found:
        raise PseError("holds no audio files", directory, f"endings: {' '.join(sorted(FORMATS))}")
    return found


def _jobs(path: Path, output: Path) -> list[Job]:
    if path.is_dir():
        # Results of an earlier call may lie below what they were made of.
        names = names_of(p.relative_to(path) for p in audio_below(path, [output]))
        return [Job(path / p, output / f"{name}.wav") for p, name in names.items()]
    if path.suffix == ".scp":
        return [Job(Path(place), output / f"{key}.wav", key) for key, place in read_table(path).items()]
    return [Job(path, output / f"{path.stem}.wav")]


def _check_sources(jobs: Sequence[Job], written: Callable[[Path], Iterable[Path]]) -> None:
    """Refuse to replace a recording, which may not have been read yet, even where results may be replaced."""

    def known(path: Path) -> tuple[int, int]:
        found = path.stat()
        return found.st_dev, found.st_ino

    sources = {known(job.source): job.source for job in jobs if job.source.exists()}
    for job in jobs:
        for place in written(job.target):
            if place.exists() and (source := sources.get(known(place))):
                whose = "its own result" if source == job.source else f"the result of {job.source}"
                raise PseError(f"would be overwritten by {whose}", source, "choose another --output")


def _check_lists(inputs: Sequence[Path], ids: set[str], output: Path, overwrite: bool) -> None:
    """Refuse to change what a list in the output directory says of other recordings."""
    for table in output.glob("*.scp") if ids else ():
        if any(path.exists() and path.samefile(table) for path in inputs):
            raise PseError("would be overwritten by the list of results", table, "choose another --output")
        here = Path(os.path.abspath(output))
        other = [k for k, place in read_table(table).items() if k in ids and Path(place).parent != here]
        if other and not overwrite:
            raise PseError(f"has other recordings of {len(other)} ids: {first_three(sorted(other))}", table, REPLACE)


def work_through(jobs: Sequence[Job], work: Callable[[Path, Path], Done], output: Path) -> int:
    """Do `work` on the source and the target of every job; the exit code.

    A recording that cannot be worked on is told, and the others are done; of several recordings those whose results
    are there already are left alone: that is how a call goes on that was stopped. What was made of the recordings of a
    wav.scp is listed in the output directory, after what its lists have already.
    """
    keep_freed_memory()
    failed = left = 0
    lists: dict[str, dict[str, str]] = {}

    def add(job: Job, written: Mapping[str, Path]) -> None:
        for name, path in written.items() if job.id else ():
            lists.setdefault(name, {})[job.id] = os.path.abspath(path)

    try:
        for job in jobs:
            start = time.monotonic()
            try:
                done = work(job.source, job.target)
            except PseError as error:
                if isinstance(error, ThereAlreadyError) and len(jobs) > 1:
                    left += 1
                    add(job, error.written)
                    continue
                print(f"error: {error}", file=sys.stderr, flush=True)
                failed += 1
                continue
            factor = done.duration_s / max(1e-9, time.monotonic() - start)
            print(f"{done.told}  ({done.duration_s:.1f} s, {factor:.0f} times real time)", flush=True)
            add(job, done.written)
    finally:
        # Also after Ctrl-C: a result that is there will not be made, and listed, again.
        for name, entries in lists.items():
            before = read_table(output / name) if (output / name).exists() else {}
            write_text(output / name, render(name, {**before, **entries}))
    if left:
        told = f"{left} of {len(jobs)} results are there already and are left as they are; --overwrite makes them again"
        print(f"note: {told}", file=sys.stderr, flush=True)
    if failed and len(jobs) > 1:
        rest = ", the others are done" if failed < len(jobs) else ""
        print(f"{failed} of {len(jobs)} files failed{rest}", file=sys.stderr, flush=True)
    return 1 if failed else 0
