"""Write a fixed set of mixtures of an experiment as WAV files, to hear them or to give them to other programs.

    .venv/bin/python tools/write_mixtures.py egs/librispeech_pse/dump/mini test gallery

makes gallery/noisy/<id>.wav and gallery/clean/<id>.wav, named like the results in exp/<tag>/enhanced_test.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pse.cli import guarded
from pse.commands.files import add_overwrite, need_free
from pse.data.fixed import FixedMixtures
from pse.io import audio


def main() -> int:
    """Write the mixtures and their clean speech."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dump", type=Path, help="dump/<corpus> of the recipe librispeech_pse")
    parser.add_argument("set", help="name of the set: test or valid")
    parser.add_argument("output", type=Path, help="directory for noisy/ and clean/")
    add_overwrite(parser)
    args = parser.parse_args()
    mixtures = FixedMixtures(args.dump, args.set)
    rate = mixtures.sources.speech.sample_rate
    for spec, mixture in mixtures.render():
        for kind, samples in (("noisy", mixture.mix), ("clean", mixture.speech)):
            path = args.output / kind / f"{spec.id}.wav"
            need_free(path, overwrite=args.overwrite)
            audio.write(path, samples, rate)
    print(f"{len(mixtures.specs)} mixtures in {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
