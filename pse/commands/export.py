"""`pse export MODEL -o model.onnx --onnx`: a packed model as one file that runs without pse."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pse.commands.files import add_overwrite, need_free
from pse.errors import PseError
from pse.inference.builtin import CHOICES

# What the ending of a name promises.
FORMS = {".onnx": "onnx", ".pt": "torchscript", ".pth": "torchscript"}

if TYPE_CHECKING:
    from pse.inference.export import Exported, Format
    from pse.inference.loaded import LoadedModel


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
    add_overwrite(parser)
    args = parser.parse_args(argv)
    made = export(args.model, args.output, form=args.form, streaming=args.streaming, overwrite=args.overwrite)
    print(f"{args.output}  {len(made.content) / 1e6:.2f} MB, {', '.join(f'{k} {v}' for k, v in made.facts.items())}")
    lengths = made.lengths_samples
    print(
        f"largest difference {made.difference:.1e} of the peak, "
        f"{len(lengths)} signals of {min(lengths)} to {max(lengths)} samples"
    )
    for title, shapes in (("inputs", made.inputs), ("outputs", made.outputs)):
        print(f"{title:<8}" + ", ".join(f"{name} {shape}".replace("'", "") for name, shape in shapes.items()))
    return 0


def export(
    model: str | Path | LoadedModel, output: str | Path, *, form: Format = "onnx", streaming: bool = False,
    overwrite: bool = False,
) -> Exported:  # fmt: skip
    """Write a model as an ONNX or TorchScript file whose output was compared with the model's.

    model: built-in name, package directory, hub address, or a loaded one. streaming: one block and the states instead
    of a whole signal. Returns what was written, with its largest difference from the model. Raises PseError for a model
    that has no such graph, or whose graph differs, for an ending of the other form, and for a file that is there unless
    `overwrite`: nothing is written; EnvironmentFault without the packages.
    """
    from pse.inference.export import export as graph
    from pse.inference.loaded import LoadedModel, load_model
    from pse.io.atomic import writing

    output = Path(output)
    if output.is_dir():
        raise PseError("is a directory, a file is needed", output, "name a file for the output")
    if form not in ("onnx", "torchscript"):
        raise PseError(f"{form!r} is no form of a file", "form", "give 'onnx' or 'torchscript'")
    if (promised := FORMS.get(output.suffix.lower(), form)) != form:
        fix = f"choose another ending, or --{promised}"
        raise PseError(f"is the name of a file of {promised}, and {form} would be in it", output, fix)
    need_free(output, overwrite=overwrite)
    made = graph((model if isinstance(model, LoadedModel) else load_model(model)).network, form, streaming)
    with writing(output, "wb") as file:
        file.write(made.content)
    return made
