"""`pse separate in.wav ... -o out/`: the speakers of recordings, one file each, and what is left."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from pse.clustering.options import MOST_SPEAKERS
from pse.commands.files import BandNote, Done, ThereAlreadyError, add_arguments, jobs_of, need_free, work_through
from pse.errors import PseError

# Of a number that was counted: of 28 readers alone in noise at 5 to 15 dB 22 were told as several.
SURER = "--num_speakers is surer, above all in noise"


def main(argv: Sequence[str]) -> int:
    """Separate files and directories: <name>_1.wav, .. and <name>_residual.wav at the rate and length of <name>."""
    parser = argparse.ArgumentParser(prog="pse separate", description=__doc__)
    add_arguments(parser, "separate")
    parser.add_argument("--num_speakers", default="auto", metavar="N|auto", help="how many talk (default: counted)")
    args = parser.parse_args(argv)
    num_speakers = _number(args.num_speakers)
    jobs = jobs_of(args.input, args.output, args.overwrite, _written)

    from pse.inference.loaded import load_model

    model = load_model(args.model)
    model.need_separation()

    def work(source: Path, target: Path) -> Done:
        done = separate_file(model.network, source, target, num_speakers, args.overwrite)
        # One speaker is the recording as it is, and has no residual.
        if len(done.written) > 2:
            note(source)
        return done

    note = BandNote(model.network.sample_rate, "is in the residual")
    return work_through(jobs, work, args.output)


def _number(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or not 2 <= int(text) <= MOST_SPEAKERS:
        raise PseError(f"{text} speakers cannot be separated", "--num_speakers", f"give 2 to {MOST_SPEAKERS}, or auto")
    return int(text)


def _place(target: Path, part: int | str) -> Path:
    """Where a speaker, by number, or the residual of a target goes."""
    return target.with_name(f"{target.stem}_{part}.wav")


def _written(target: Path) -> list[Path]:
    """All files that may be made of a target, or removed."""
    return [_place(target, part) for part in (*range(1, 1 + MOST_SPEAKERS), "residual")]


def separate_file(
    model: object, source: Path, target: Path, num_speakers: int | None, overwrite: bool = False
) -> Done:
    """Separate one file, its channels averaged; what the speakers do not add up to is <name>_residual.wav.

    All are as fine as the file. Raises PseError where results are there, unless overwrite.
    """
    from pse.commands.status import Progress
    from pse.inference.separation import separate
    from pse.io import audio

    rest = _place(target, "residual")
    # It is written last: where both are there, all are.
    if rest.exists() and _place(target, 1).exists() and not overwrite:
        here = itertools.takewhile(Path.exists, (_place(target, n) for n in range(1, 1 + MOST_SPEAKERS)))
        raise ThereAlreadyError(rest, _lists(here, rest))
    need_free(_place(target, 1), rest, overwrite=overwrite)
    subtype = audio.probe(source).result_subtype
    samples, rate = audio.read(source)
    with Progress(source.name, len(samples) / rate) as progress:
        wavs, counted_by, note = separate(model, samples, rate, num_speakers, progress=progress.done)
    places = [_place(target, number) for number in range(1, 1 + len(wavs))]
    need_free(*places, overwrite=overwrite)
    for path, wav in zip(places, wavs, strict=True):
        audio.write(path, wav, rate, subtype)
    audio.write(rest, samples - wavs.sum(0), rate, subtype)
    # Of an earlier run, which found more speakers.
    stale = len(wavs) + 1
    while overwrite and _place(target, stale).exists():
        _place(target, stale).unlink()
        stale += 1
    told = str(places[0]) + (f" .. _{len(wavs)}.wav" if len(wavs) > 1 else "")
    if counted_by is not None:
        told += f": {len(wavs)} speakers" if len(wavs) > 1 else ": one speaker"
        told += f", counted by {counted_by}" + (f"; {note}" if note else f"; {SURER}")
    return Done(told, len(samples) / rate, _lists(places, rest))


def _lists(places: Iterable[Path], rest: Path) -> dict[str, Path]:
    """The list that each file of a recording belongs to."""
    return {f"spk{n}.scp": path for n, path in enumerate(places, 1)} | {"residual.scp": rest}
