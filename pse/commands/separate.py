"""`pse separate MODEL in.wav ... -o out/`: the speakers of recordings, one file each, with a packed model."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pse.commands.files import add_arguments, pairs, work_through
from pse.errors import PseError

PROGRESS_EVERY_S = 10.0


def main(argv: Sequence[str]) -> int:
    """Separate files and directories: <name>_1.wav, <name>_2.wav, .. at the rate and length of <name>."""
    parser = argparse.ArgumentParser(prog="pse separate", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--num_speakers", type=int, help="how many talk; when not given, they are counted")
    args = parser.parse_args(argv)
    if args.num_speakers is not None and args.num_speakers < 2:
        raise PseError(f"{args.num_speakers} cannot be separated", "--num_speakers", "give 2 or more, or leave it out")
    files = pairs(args.input, args.output)

    from pse.inference.package import load_model

    model = load_model(args.model)
    return work_through(files, lambda source, target: separate_file(model, source, target, args.num_speakers))


def separate_file(model: object, source: Path, target: Path, num_speakers: int | None) -> tuple[str, float]:
    """Separate one file, its channels averaged; returns what was written and the file's duration in seconds."""
    from pse.inference.separation import separate_and_tell
    from pse.io import audio

    samples, rate = audio.read(source)
    told_at = time.monotonic()

    def progress(done: float) -> None:
        nonlocal told_at
        if time.monotonic() - told_at > PROGRESS_EVERY_S and done < 1:
            told_at = time.monotonic()
            print(f"{source.name}: {100 * done:.0f} %", file=sys.stderr, flush=True)

    wavs, counted_by = separate_and_tell(model, samples, rate, num_speakers, progress=progress)
    for number, wav in enumerate(wavs, 1):
        audio.write(target.with_name(f"{target.stem}_{number}.wav"), wav, rate)
    told = f"{target.with_suffix('')}_1.wav" + (f" .. _{len(wavs)}.wav" if len(wavs) > 1 else "")
    if counted_by is not None:
        told += f": {len(wavs)} speakers" if len(wavs) > 1 else ": one speaker"
        told += f", counted by {counted_by}"
    return told, len(samples) / rate
