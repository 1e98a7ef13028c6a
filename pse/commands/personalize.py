"""`pse personalize NOISY_DIR -o MODEL_DIR`: a personal model out of one person's own noisy recordings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str]) -> int:
    """Look at the recordings, train on them, check the result against the base, pack it."""
    parser = argparse.ArgumentParser(prog="pse personalize", description=__doc__)
    parser.add_argument("noisy", type=Path, help="directory of recordings of one person, or one recording")
    parser.add_argument("-o", "--output", type=Path, required=True, help="directory for the model")
    parser.add_argument("--base", required=True, help="the model to start from: a built-in name, or a directory")
    parser.add_argument("--predictor", required=True, help="a model of frame SNR: a built-in name, or a directory")
    parser.add_argument("--voice", help="an encoder of voices that tells whether all is of one person")
    parser.add_argument("--clean", type=Path, help="recordings of the same person without noise, file or directory")
    parser.add_argument("--noise_dir", type=Path, help="noises; when not given, some are synthesised, others taken "
                        "from between the words")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=10.0, help="of training (default: 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ngpu", type=int, default=0)
    args = parser.parse_args(argv)

    from pse.inference.builtin import package
    from pse.personalize.pipeline import personalize

    made = personalize(
        args.noisy, args.output, base=package(args.base), predictor=package(args.predictor),
        voice=None if args.voice is None else package(args.voice), clean=args.clean, noise_dir=args.noise_dir,
        minutes=args.minutes, seed=args.seed, ngpu=args.ngpu,
        progress=lambda line: print(line, flush=True),
    )  # fmt: skip
    print(f"the model is in {made.model}; card.md says how it was made: pse enhance {made.model} IN -o OUT")
    sys.stdout.flush()
    return 0
