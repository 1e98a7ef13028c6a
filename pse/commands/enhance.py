"""`pse enhance MODEL in.wav ... -o out/`: clean recordings with a packed model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pse.commands.files import add_arguments, pairs, work_through


def main(argv: Sequence[str]) -> int:
    """Enhance files and directories; same rate, length and channel count come out."""
    parser = argparse.ArgumentParser(prog="pse enhance", description=__doc__)
    add_arguments(parser)
    args = parser.parse_args(argv)
    files = pairs(args.input, args.output)

    from pse.inference.package import load_model

    model = load_model(args.model)
    return work_through(files, lambda source, target: (str(target), enhance_file(model, source, target)))


def enhance_file(model: object, source: Path, target: Path) -> float:
    """Enhance one file, all channels; returns its duration in seconds."""
    import numpy as np

    from pse.inference.engine import enhance
    from pse.io import audio

    samples, rate = audio.read_channels(source)
    out = enhance(model, samples, rate)
    audio.write(target, np.ascontiguousarray(out), rate)
    return samples.shape[-1] / rate
