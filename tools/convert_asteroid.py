"""Turn an asteroid Conv-TasNet into a model directory of pse, and prove that both give the same output.

It runs in an environment that has asteroid, with pse on its path (docs/asteroid.md):
`PYTHONPATH=. asteroid_env/bin/python tools/convert_asteroid.py best_model.pth my_model`
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pse.errors import EnvironmentFault, PseError, first_three
from pse.inference.package import save_package
from pse.models.base import Model, build

# asteroid's argument -> ours. What decides between more than one network stands in `arguments`.
RENAMED = {
    "n_filters": "num_filters", "kernel_size": "filter_length", "stride": "stride", "bn_chan": "bottleneck_channels",
    "hid_chan": "hidden_channels", "skip_chan": "skip_channels", "conv_kernel_size": "kernel_size",
    "n_blocks": "num_blocks", "n_repeats": "num_repeats", "n_src": "num_sources",
}  # fmt: skip
# What asteroid calls the activation of the masks -> the arguments that give it here.
MASKS: dict[str, dict[str, Any]] = {"sigmoid": {}, "relu": {"mask_activation": "relu"}}
# Our modules -> asteroid's: of the whole network, and of each block.
MODULES = {
    "encoder": "encoder.filterbank._filters", "decoder": "decoder.filterbank._filters",
    "norm": "masker.bottleneck.0", "bottleneck": "masker.bottleneck.1",
    "activation": "masker.mask_net.0", "mask": "masker.mask_net.1",
}  # fmt: skip
LAYERS = {
    "expand": "shared_block.0", "activation_in": "shared_block.1", "norm_in": "shared_block.2",
    "depthwise": "shared_block.3", "activation_out": "shared_block.4", "norm_out": "shared_block.5",
    "residual": "res_conv", "skip": "skip_conv",
}  # fmt: skip
NORM = {"weight": "gamma", "bias": "beta"}
# Before 2.6 a checkpoint could run code although only weights were asked for (CVE-2025-32434).
SAFE_TORCH = (2, 6)
# Largest difference of two samples, relative to the largest sample where that is above 1.
TOLERANCE = 1e-5
FRAMES = (1, 2, 63, 1000, 4000)


def arguments(theirs: Mapping[str, Any], where: str | Path, sample_rate: int | None = None) -> dict[str, Any]:
    """Our model mapping for asteroid's model_args. Raises PseError naming the first that has no counterpart."""
    given = {"causal": False, "encoder_activation": None, **theirs}
    stored = given.pop("sample_rate", None)
    rate = stored if sample_rate is None else sample_rate
    if odd := [name for name, value in given.items() if not isinstance(value, int | float | str | None)]:
        raise PseError(f"{odd[0]} of model_args is no plain value", where)
    if missing := [name for name in (*RENAMED, "norm_type", "mask_act") if name not in given]:
        raise PseError(f"model_args has no {missing[0]}", where, "save it with asteroid's model.serialize()")
    size, causal = given["n_filters"], bool(given["causal"])
    choices = {
        "fb_name": ("FreeFB", "free"), "in_chan": (size, None), "out_chan": (size, None), "causal": (False, True),
        "norm_type": ("cgLN",) if causal else ("gLN",), "mask_act": tuple(MASKS),
        "encoder_activation": (None, "linear"),
    }  # fmt: skip
    for name, value in given.items():
        if name not in RENAMED and name not in choices:
            raise PseError(f"{name} is {value!r}, the Conv-TasNet of pse has no such argument", where)
        if name in choices and value not in choices[name]:
            kind = "causal Conv-TasNet" if causal else "Conv-TasNet"
            raise PseError(f"{name} is {value!r}, the {kind} of pse has {choices[name][0]!r}", where)
    if not isinstance(rate, int | float) or rate < 1 or rate % 1:
        raise PseError(f"sample_rate is {rate!r}", where, "say it with --sample_rate, e.g. --sample_rate 8000")
    sizes = {ours: given[name] for name, ours in RENAMED.items()}
    common = {"causal": causal, "sample_rate": int(rate), "normalize": "none"}
    return {"name": "conv_tasnet", **sizes, **common, **MASKS[given["mask_act"]]}


def name_of(key: str, causal: bool) -> str:
    """asteroid's name of our tensor `key`."""
    head, *rest = key.split(".")
    if head == "blocks":
        number, layer, leaf = rest
        # asteroid cuts the end of a causal convolution off, in a module of its own.
        inner = ".0" if causal and layer == "depthwise" else ""
        return f"masker.TCN.{number}.{LAYERS[layer]}{inner}.{NORM[leaf] if 'norm' in layer else leaf}"
    leaf = "".join(f".{NORM[part] if head == 'norm' else part}" for part in rest)
    return MODULES[head] + leaf


def weights(state: Mapping[str, Tensor], config: Mapping[str, Any], where: str | Path) -> dict[str, Tensor]:
    """Our tensors of asteroid's state dict. Raises PseError when a tensor is missing, left over or misshapen."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in build(config, where).state_dict().items()}
    names = {key: name_of(key, config["causal"]) for key in shapes}
    if lacks := [name for name in names.values() if name not in state]:
        raise PseError(f"state_dict lacks {first_three(lacks)}", where)
    if others := [name for name in state if name not in names.values() or not isinstance(state[name], Tensor)]:
        raise PseError(f"state_dict holds {first_three(others)}, which the Conv-TasNet of pse has not", where)
    found = {}
    for key, shape in shapes.items():
        tensor = state[names[key]]
        # The decoder is one product from filters to samples here; convolutions over one sample are matrices.
        tensor = tensor.squeeze(1).mT if key == "decoder" and tensor.dim() == 3 else tensor
        if [n for n in tensor.shape if n != 1] != [n for n in shape if n != 1]:
            raise PseError(f"{names[key]} is {list(state[names[key]].shape)}, which does not fit model_args", where)
        found[key] = tensor.reshape(shape).float().contiguous()
    return found


def largest_difference(theirs: Callable[[Tensor], Tensor], ours: Model, frames: Sequence[int]) -> tuple[float, float]:
    """Largest difference and largest sample of two networks' outputs for noise of so many whole frames."""
    generator, length = torch.Generator().manual_seed(0), ours.encoder.shape[1]
    gaps, peaks = [], []
    for number in frames:
        mix = 0.1 * torch.randn(2, length + (number - 1) * ours.stride, generator=generator)
        with torch.inference_mode():
            expected, got = theirs(mix), ours(mix).wavs
        gaps.append((expected - got).abs().max())
        peaks.append(expected.abs().max())
    # torch's maximum of anything and NaN is NaN, which no tolerance passes.
    return float(torch.stack(gaps).max()), float(torch.stack(peaks).max())


def read(path: Path) -> dict[str, Any]:
    """The mapping that asteroid's `serialize()` made; constructs nothing but tensors and plain values."""
    version = tuple(int(n) for n in torch.__version__.split(".")[:2])
    if version < SAFE_TORCH:
        fix = "install torch>=2.6 in this environment"
        raise EnvironmentFault(f"torch {torch.__version__} cannot read a checkpoint safely", path, fix)
    if not path.is_file():
        raise PseError("no such file", path)
    try:
        # asteroid notes the version of torch, which is a kind of string.
        with torch.serialization.safe_globals([torch.torch_version.TorchVersion]):
            found = torch.serialization.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"names {named[1]}, more than tensors and plain values" if named else "is no whole checkpoint"
        fix = "save the model itself with asteroid: torch.save(model.serialize(), path)"
        raise PseError(what, path, fix) from error
    parts = {"model_name": str, "model_args": dict, "state_dict": dict}
    for name, kind in parts.items():
        if not isinstance(found, dict) or not isinstance(found.get(name), kind):
            raise PseError(f"has no {name}", path, "take the file that holds what asteroid's model.serialize() gave")
    # asteroid calls whatever it has of this name; only the one that is asked for gets that far.
    if found["model_name"] != "ConvTasNet":
        raise PseError(f"model_name is {found['model_name']!r}, only ConvTasNet can be converted", path)
    return found


def convert(path: Path, directory: Path, sample_rate: int | None) -> str:
    """Convert a checkpoint, compare, write the model directory; returns what was compared, as a line."""
    try:
        from asteroid.models import ConvTasNet
    except (ImportError, OSError) as error:
        fix = "run it in asteroid's environment, see docs/asteroid.md"
        raise EnvironmentFault(f"asteroid cannot be imported ({error})", "convert_asteroid", fix) from error
    if directory.exists():
        raise PseError("exists", directory, "choose another directory, or remove it")
    found = read(path)
    config = arguments(found["model_args"], path, sample_rate)
    ours = build(config, path)
    ours.load_state_dict(weights(found["state_dict"], config, path))
    theirs = ConvTasNet.from_pretrained(found, sample_rate=config["sample_rate"]).eval()
    gap, peak = largest_difference(theirs, ours.eval(), FRAMES)
    if not gap <= TOLERANCE * max(1.0, peak):
        raise PseError(f"the outputs differ by up to {gap:.1e} (largest sample {peak:.2g})", path)
    card = f"# Conv-TasNet from asteroid\nConverted from `{path.name}`, whose licence holds on. Outputs differ from\n"
    card += f"asteroid's by at most {gap:.1e} (largest sample {peak:.2g}).\n"
    save_package(directory, ours, config, card)
    return f"{directory}: differs from asteroid by at most {gap:.1e} (largest sample {peak:.2g}, {len(FRAMES)} lengths)"


def main(argv: Sequence[str] | None = None) -> int:
    """Convert one checkpoint; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="file that asteroid's recipes call best_model.pth")
    parser.add_argument("directory", type=Path, help="model directory to make, for pse enhance")
    parser.add_argument("--sample_rate", type=int, help="rate in Hz, where the checkpoint does not say it")
    args = parser.parse_args(argv)
    try:
        print(convert(args.checkpoint, args.directory, args.sample_rate))
    except PseError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
