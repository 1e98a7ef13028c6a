"""`pse separate MODEL in.wav ... -o out/`: the speakers of recordings, one file each, with a packed model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pse.commands.files import Done, add_arguments, jobs_of, need_free, work_through
from pse.errors import PseError


def main(argv: Sequence[str]) -> int:
    """Separate files and directories: <name>_1.wav, <name>_2.wav, .. at the rate and length of <name>."""
    parser = argparse.ArgumentParser(prog="pse separate", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--num_speakers", type=int, help="how many talk; when not given, they are counted")
    args = parser.parse_args(argv)
    if args.num_speakers is not None and args.num_speakers < 2:
        raise PseError(f"{args.num_speakers} cannot be separated", "--num_speakers", "give 2 or more, or leave it out")
    jobs = jobs_of(args.input, args.output, args.overwrite)

    from pse.inference.package import load_model

    model = load_model(args.model)

    def work(source: Path, target: Path) -> Done:
        return separate_file(model, source, target, args.num_speakers, args.overwrite)

    return work_through(jobs, work, args.output)


def separate_file(
    model: object, source: Path, target: Path, num_speakers: int | None, overwrite: bool = False
) -> Done:
    """Separate one file, its channels averaged. Raises PseError where results are there, unless overwrite."""
    from pse.commands.status import Progress
    from pse.inference.separation import separate_and_tell
    from pse.io import audio

    def place(number: int) -> Path:
        return target.with_name(f"{target.stem}_{number}.wav")

    need_free(place(1), overwrite=overwrite)
    samples, rate = audio.read(source)
    with Progress(source.name, len(samples) / rate) as progress:
        wavs, counted_by = separate_and_tell(model, samples, rate, num_speakers, progress=progress.done)
    places = [place(number) for number in range(1, 1 + len(wavs))]
    need_free(*places, overwrite=overwrite)
    for path, wav in zip(places, wavs, strict=True):
        audio.write(path, wav, rate)
    # Of an earlier run, which found more speakers.
    stale = len(wavs) + 1
    while overwrite and place(stale).exists():
        place(stale).unlink()
        stale += 1
    told = str(places[0]) + (f" .. _{len(wavs)}.wav" if len(wavs) > 1 else "")
    if counted_by is not None:
        told += f": {len(wavs)} speakers" if len(wavs) > 1 else ": one speaker"
        told += f", counted by {counted_by}"
    return Done(told, len(samples) / rate, {f"spk{n}.scp": path for n, path in enumerate(places, 1)})
