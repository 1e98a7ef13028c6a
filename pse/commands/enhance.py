"""`pse enhance in.wav ... -o out/`: clean recordings, with the built-in model or another one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pse.commands.files import BandNote, Done, ThereAlreadyError, add_arguments, jobs_of, work_through


def main(argv: Sequence[str]) -> int:
    """Enhance files, directories and lists; same rate, length and channel count come out."""
    parser = argparse.ArgumentParser(prog="pse enhance", description=__doc__)
    add_arguments(parser, "enhance")
    args = parser.parse_args(argv)
    jobs = jobs_of(args.input, args.output, args.overwrite)

    from pse.inference.loaded import load_model

    model = load_model(args.model)
    model.need_sound()

    def work(source: Path, target: Path) -> Done:
        if target.exists() and not args.overwrite:
            raise ThereAlreadyError(target, {"wav.scp": target})
        duration_s = enhance_file(model.network, source, target)
        note(source)
        return Done(str(target), duration_s, {"wav.scp": target})

    note = BandNote(model.network.sample_rate, "is not in the results")
    return work_through(jobs, work, args.output)


def enhance_file(model: object, source: Path, target: Path) -> float:
    """Enhance one file, all channels, in memory that does not grow with it; returns its duration in seconds."""
    from pse.commands.blockwise import convert
    from pse.inference.engine import in_blocks

    return convert(source, target, partial(in_blocks, model))
