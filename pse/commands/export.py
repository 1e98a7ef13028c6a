"""`pse export MODEL -o model.onnx --onnx`: a packed model as one file that runs without pse."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pse.errors import PseError
from pse.inference.builtin import CHOICES, package


def main(argv: Sequence[str]) -> int:
    """Write an ONNX or TorchScript file whose output was compared with the model's."""
    parser = argparse.ArgumentParser(prog="pse export", description=__doc__)
    parser.add_argument("model", help=CHOICES)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file to write")
    form = parser.add_mutually_exclusive_group(required=True)
    form.add_argument("--onnx", action="store_const", dest="form", const="onnx", help="for ONNX Runtime and others")
    form.add_argument("--torchscript", action="store_const", dest="form", const="torchscript", help="for libtorch")
    parser.add_argument(
        "--streaming", action="store_true", help="one block and the states instead of a whole signal: causal models"
    )
    args = parser.parse_args(argv)
    if args.output.is_dir():
        raise PseError("is a directory, a file is needed", args.output, "choose another --output")

    from pse.inference.export import export
    from pse.inference.package import load_network
    from pse.io.atomic import writing

    made = export(load_network(package(args.model)), args.form, args.streaming)
    with writing(args.output, "wb") as file:
        file.write(made.content)
    print(f"{args.output}  {len(made.content) / 1e6:.2f} MB, {', '.join(f'{k} {v}' for k, v in made.facts.items())}")
    lengths = made.lengths_samples
    print(
        f"largest difference {made.difference:.1e} of the peak, "
        f"{len(lengths)} signals of {min(lengths)} to {max(lengths)} samples"
    )
    for title, shapes in (("inputs", made.inputs), ("outputs", made.outputs)):
        print(f"{title:<8}" + ", ".join(f"{name} {shape}".replace("'", "") for name, shape in shapes.items()))
    return 0
