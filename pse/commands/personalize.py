"""`pse personalize NOISY_DIR -o MODEL_DIR`: a personal model out of one person's own noisy recordings."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from pse.inference.builtin import CHOICES, DEFAULTS, SIZES


def main(argv: Sequence[str]) -> int:
    """Look at the recordings, train on them, check the result against the base, pack it."""
    parser = argparse.ArgumentParser(prog="pse personalize", description=__doc__)
    parser.add_argument("noisy", type=Path, help="recordings of one person: a directory, a wav.scp, or one file")
    parser.add_argument("-o", "--output", type=Path, required=True, help="directory for the model")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--base", metavar="NAME|DIR", help=f"the model to start from: {CHOICES} "
                       f"(default: {DEFAULTS['enhance']})")  # fmt: skip
    start.add_argument("--size", type=int, choices=SIZES, help="a built-in one by its hidden units: a smaller one is "
                       "quicker, to make and to use")  # fmt: skip
    for name, task, what in (
        ("predictor", "snr_predictor", "the model that tells frame SNRs"),
        ("voice", "voice", "an encoder of voices that tells whether all is of one person; none: that is not looked at"),
    ):  # fmt: skip
        default = DEFAULTS[task]
        parser.add_argument(f"--{name}", default=default, metavar="NAME|DIR", help=f"{what} (default: {default})")
    parser.add_argument("--clean", type=Path, help="recordings of the same person without noise, likewise")
    parser.add_argument("--noise_dir", type=Path, help="noises; when not given, some are synthesised, others taken "
                        "from between the words")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=10.0, help="of training (default: 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ngpu", type=int, default=0)
    args = parser.parse_args(argv)

    from pse.personalize.pipeline import personalize

    made = personalize(
        args.noisy, args.output, base=args.base, size=args.size, predictor=args.predictor,
        voice=None if args.voice == "none" else args.voice, clean=args.clean, noise_dir=args.noise_dir,
        minutes=args.minutes, seed=args.seed, ngpu=args.ngpu,
        progress=lambda line: print(line, flush=True),
    )  # fmt: skip
    use = f"pse enhance IN -o OUT --model {shlex.quote(str(made.model))}"
    print(f"the model is in {made.model}; card.md says how it was made: {use}")
    sys.stdout.flush()
    return 0
