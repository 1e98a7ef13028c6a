"""What the verbs on recordings share: which files go in, where results go, and going on after a bad one."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pse.errors import PseError
from pse.memory import keep_freed_memory

ENDINGS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".au")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the recordings and the directory of the results."""
    parser.add_argument("model", type=Path, help="directory that stage pack made: exp/<tag>/package/<system>")
    parser.add_argument("input", type=Path, nargs="+", help="audio files, or directories of them")
    parser.add_argument("-o", "--output", type=Path, required=True, help="directory for the results")


def pairs(inputs: Sequence[Path], output: Path) -> list[tuple[Path, Path]]:
    """Each recording with the file that its result goes to, or is named after. Raises PseError where two are one."""
    if output.exists() and not output.is_dir():
        raise PseError("is a file, a directory is needed", output, "choose another --output")
    found_all: list[tuple[Path, Path]] = []
    for path in inputs:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in ENDINGS)
            if not found:
                raise PseError("holds no audio files", path, f"endings: {' '.join(ENDINGS)}")
            found_all += [(p, (output / p.relative_to(path)).with_suffix(".wav")) for p in found]
        else:
            found_all.append((path, output / f"{path.stem}.wav"))
    targets = [t for _, t in found_all]
    twice = sorted({str(t) for t in targets if targets.count(t) > 1})
    if twice:
        raise PseError(f"two inputs would be written to {twice[0]}", "--output", "take one directory at a time")
    same = [s for s, t in found_all if t.exists() and s.exists() and s.samefile(t)]
    if same:
        raise PseError("would be overwritten by its own result", same[0], "choose another --output")
    return found_all


def work_through(files: Sequence[tuple[Path, Path]], work: Callable[[Path, Path], tuple[str, float]]) -> int:
    """Do `work` on every pair, which returns what it wrote and the seconds of audio; the exit code.

    A recording that cannot be worked on is told, and the others are done.
    """
    keep_freed_memory()
    failed = 0
    for source, target in files:
        start = time.monotonic()
        try:
            told, seconds = work(source, target)
        except PseError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            failed += 1
            continue
        factor = seconds / max(1e-9, time.monotonic() - start)
        print(f"{told}  ({seconds:.1f} s, {factor:.0f} times real time)", flush=True)
    if failed and len(files) > 1:
        print(f"{failed} of {len(files)} files failed, the others are done", file=sys.stderr, flush=True)
    return 1 if failed else 0
