"""asteroid's Conv-TasNet becomes ours: same output as its definition, and as asteroid where that is installed."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pse.errors import PseError
from pse.inference.package import load_network
from pse.models.base import Model, build

TOOL = Path(__file__).parents[2] / "tools" / "convert_asteroid.py"
SPEC = importlib.util.spec_from_file_location("convert_asteroid", TOOL)
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)

SMALL = {
    "fb_name": "FreeFB", "n_filters": 12, "kernel_size": 16, "stride": 8, "sample_rate": 16000.0, "in_chan": 12,
    "out_chan": 12, "bn_chan": 4, "hid_chan": 6, "skip_chan": 5, "conv_kernel_size": 3, "n_blocks": 3,
    "n_repeats": 2, "n_src": 1, "norm_type": "gLN", "mask_act": "sigmoid", "causal": False,
    "encoder_activation": None,
}  # fmt: skip
CAUSAL = {"causal": True, "norm_type": "cgLN"}
VARIANTS = {
    "one source": {}, "causal": CAUSAL, "three sources": {"n_src": 3}, "longer filters": {"kernel_size": 24},
    "wider convolutions": {"conv_kernel_size": 5}, "one channel": {"bn_chan": 1, "skip_chan": 1},
    "relu": {"mask_act": "relu"},
}  # fmt: skip
INFOS = {"software_versions": {"torch_version": torch.__version__}}
# Of the papers: bottleneck and hidden channels.
SIZES = {"tiny": (8, 32), "small": (16, 64), "medium": (32, 128), "large": (64, 256)}


def numbers(*shape: int, generator: torch.Generator) -> Tensor:
    return 0.5 * torch.randn(*shape, generator=generator)


def synthetic(args: dict[str, Any]) -> dict[str, Tensor]:
    """A state dict with asteroid's names and shapes, and random numbers."""
    g, n, h, b = torch.Generator().manual_seed(0), args["n_filters"], args["hid_chan"], args["bn_chan"]
    sizes = {"encoder.filterbank._filters": (n, 1, args["kernel_size"]), "masker.mask_net.0.weight": (1,)}
    sizes["decoder.filterbank._filters"] = sizes["encoder.filterbank._filters"]
    linear = {"masker.bottleneck.1": (b, n), "masker.mask_net.1": (args["n_src"] * n, args["skip_chan"])}
    norms = {"masker.bottleneck.0": n}
    for i in range(args["n_blocks"] * args["n_repeats"]):
        block = f"masker.TCN.{i}"
        linear |= {
            f"{block}.shared_block.0": (h, b), f"{block}.res_conv": (b, h), f"{block}.skip_conv": (args["skip_chan"], h)
        }  # fmt: skip
        norms |= {f"{block}.shared_block.2": h, f"{block}.shared_block.5": h}
        conv = f"{block}.shared_block.3" + ".0" * args["causal"]
        sizes |= {f"{block}.shared_block.1.weight": (1,), f"{block}.shared_block.4.weight": (1,)}
        sizes |= {f"{conv}.weight": (h, 1, args["conv_kernel_size"]), f"{conv}.bias": (h,)}
    for name, (rows, columns) in linear.items():
        sizes |= {f"{name}.weight": (rows, columns, 1), f"{name}.bias": (rows,)}
    sizes |= {f"{name}.{leaf}": (size,) for name, size in norms.items() for leaf in ("gamma", "beta")}
    return {name: numbers(*shape, generator=g) for name, shape in sizes.items()}


def normalised(x: Tensor, state: dict[str, Tensor], name: str, causal: bool) -> Tensor:
    spans = [x[..., : f + 1] for f in range(x.shape[2])] if causal else [x]
    mean = torch.stack([s.mean((1, 2)) for s in spans], -1)[:, None]
    var = torch.stack([s.var((1, 2), correction=0) for s in spans], -1)[:, None]
    return (x - mean) / (var + 1e-8).sqrt() * state[f"{name}.gamma"][:, None] + state[f"{name}.beta"][:, None]


def definition(state: dict[str, Tensor], args: dict[str, Any], mix: Tensor) -> Tensor:
    """Conv-TasNet of mix: [B, T] by asteroid's own names, layer by layer (Luo & Mesgarani 2019)."""
    causal, reach, total = args["causal"], args["conv_kernel_size"] - 1, 0.0

    def conv(x: Tensor, name: str, **how: Any) -> Tensor:
        return functional.conv1d(x, state[f"{name}.weight"], state[f"{name}.bias"], **how)

    encoded = functional.conv1d(mix[:, None], state["encoder.filterbank._filters"], stride=args["stride"])
    x = conv(normalised(encoded, state, "masker.bottleneck.0", causal), "masker.bottleneck.1")
    for i in range(args["n_blocks"] * args["n_repeats"]):
        block, dilation = f"masker.TCN.{i}", 2 ** (i % args["n_blocks"])
        h = functional.prelu(conv(x, f"{block}.shared_block.0"), state[f"{block}.shared_block.1.weight"])
        h = normalised(h, state, f"{block}.shared_block.2", causal)
        sides = (reach * dilation, 0) if causal else (reach * dilation // 2,) * 2
        name = f"{block}.shared_block.3" + ".0" * causal
        h = conv(functional.pad(h, sides), name, dilation=dilation, groups=h.shape[1])
        h = functional.prelu(h, state[f"{block}.shared_block.4.weight"])
        h = normalised(h, state, f"{block}.shared_block.5", causal)
        x, total = x + conv(h, f"{block}.res_conv"), total + conv(h, f"{block}.skip_conv")
    score = conv(functional.prelu(total, state["masker.mask_net.0.weight"]), "masker.mask_net.1")
    mask = score.sigmoid() if args["mask_act"] == "sigmoid" else score.relu()
    masked = mask.unflatten(1, (args["n_src"], -1)) * encoded[:, None]
    wavs = functional.conv_transpose1d(
        masked.flatten(0, 1), state["decoder.filterbank._filters"], stride=args["stride"]
    )
    return wavs.reshape(len(mix), args["n_src"], -1)


def converted(state: dict[str, Tensor], args: dict[str, Any]) -> Model:
    config = tool.arguments(args, "x.pth")
    model = build(config, "x.pth")
    model.load_state_dict(tool.weights(state, config, "x.pth"))
    return model.eval()


@pytest.mark.parametrize("extra", VARIANTS.values(), ids=VARIANTS)
def test_the_converted_network_computes_what_the_names_of_asteroid_define(extra: dict[str, Any]) -> None:
    args = {**SMALL, **extra}
    state = synthetic(args)
    gap, peak = tool.largest_difference(
        lambda mix: definition(state, args, mix), converted(state, args), frames=(1, 2, 3, 50)
    )
    assert peak > 0.1 and gap < 1e-5 * peak


@pytest.mark.parametrize("name", ["masker.TCN.4.shared_block.5.beta", "decoder.filterbank._filters"])
def test_a_network_that_differs_in_one_tensor_is_not_equal(name: str) -> None:
    state = synthetic(SMALL)
    other = {**state, name: state[name] + 0.01}
    gap, peak = tool.largest_difference(lambda mix: definition(state, SMALL, mix), converted(other, SMALL), (50,))
    assert gap > tool.TOLERANCE * max(1.0, peak)


def test_a_difference_that_is_no_number_is_passed_by_no_tolerance() -> None:
    ours = converted(synthetic(SMALL), SMALL)
    gap, _ = tool.largest_difference(lambda mix: mix[:, None] * float("nan"), ours, (1, 9))
    assert not gap <= tool.TOLERANCE


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"mask_act": "softmax"}, "mask_act is 'softmax'"),
        ({"norm_type": "cLN"}, "norm_type is 'cLN'"),
        ({"norm_type": "cgLN"}, "norm_type is 'cgLN'"),
        ({"causal": True}, "norm_type is 'gLN'"),
        ({"causal": True, "norm_type": "cLN"}, "norm_type is 'cLN'"),
        ({"encoder_activation": "relu"}, "encoder_activation is 'relu'"),
        ({"fb_name": "STFTFB"}, "fb_name is 'STFTFB'"),
        ({"out_chan": 6}, "out_chan is 6"),
        ({"skip_chan": 0}, "skip_channels must be"),
        ({"kernel_size": 20}, "stride must divide"),
        ({"n_freqs": 3}, "n_freqs is 3"),
        ({"stride": torch.ones(2)}, "stride of model_args"),
        ({"sample_rate": None}, "--sample_rate 8000"),
        ({"sample_rate": 44.5}, "sample_rate is 44.5"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_its_name(extra: dict[str, Any], message: str) -> None:
    with pytest.raises(PseError, match=message) as caught:
        build(tool.arguments({**SMALL, **extra}, "x.pth"), "x.pth")
    assert str(caught.value).startswith("x.pth") and "\n" not in str(caught.value)


def test_a_missing_argument_and_a_given_rate_are_heeded() -> None:
    with pytest.raises(PseError, match="model_args has no bn_chan"):
        tool.arguments({k: v for k, v in SMALL.items() if k != "bn_chan"}, "x.pth")
    assert tool.arguments({**SMALL, "sample_rate": None}, "x.pth", sample_rate=8000)["sample_rate"] == 8000


def test_tensors_that_do_not_fit_are_refused_by_their_name() -> None:
    config, state = tool.arguments(SMALL, "x.pth"), synthetic(SMALL)
    name = "masker.TCN.2.res_conv.weight"
    for damaged, message in [
        ({k: v for k, v in state.items() if k != name}, f"lacks {name}"),
        ({**state, "masker.extra": torch.ones(1)}, "holds masker.extra"),
        ({**state, name: state[name].transpose(0, 1)}, f"{name} is .* does not fit"),
    ]:
        with pytest.raises(PseError, match=message):
            tool.weights(damaged, config, "x.pth")


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"model_name": "ConvTasNet", "model_args": SMALL, "state_dict": {"a": Hostile()}}, tmp_path / "a.pth")
    with pytest.raises(PseError, match="names .*mkdir, more than tensors"):
        tool.read(tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_is_read_with_the_notes_that_asteroid_leaves(tmp_path: Path) -> None:
    whole = {"model_name": "ConvTasNet", "model_args": SMALL, "state_dict": synthetic(SMALL), "infos": INFOS}
    torch.save(whole, tmp_path / "a.pth")
    found = tool.read(tmp_path / "a.pth")
    assert found["model_args"] == SMALL
    assert all(torch.equal(value, whole["state_dict"][name]) for name, value in found["state_dict"].items())


def test_what_is_no_checkpoint_of_a_conv_tasnet_is_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.pth", {"model_name": "ConvTasNet", "model_args": SMALL, "state_dict": {}}
    with pytest.raises(PseError, match="no such file"):
        tool.read(path)
    for content, message in [
        (torch.ones(3), "has no model_name"),
        ({**whole, "model_args": None}, "has no model_args"),
        ({"model_name": "ConvTasNet", "model_args": SMALL}, "has no state_dict"),
        # The name of a function that asteroid would call.
        ({**whole, "model_name": "save_publishable"}, "only ConvTasNet"),
    ]:
        torch.save(content, path)
        with pytest.raises(PseError, match=message):
            tool.read(path)
    path.write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(PseError, match="no whole checkpoint"):
        tool.read(path)


def of_asteroid(**args: Any) -> Any:
    models = pytest.importorskip("asteroid.models")
    torch.manual_seed(0)
    theirs = models.ConvTasNet(**args).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_((0.3 if parameter.dim() == 1 else 0.02) * torch.randn_like(parameter))
    return theirs


def save(theirs: Any, path: Path) -> None:
    # What serialize() gives, which would import a package more.
    parts = {"model_args": theirs.get_model_args(), "state_dict": theirs.state_dict(), "infos": INFOS}
    torch.save({"model_name": "ConvTasNet", **parts}, path)


@pytest.mark.parametrize("causal", [False, True], ids=["gLN", "cgLN"])
@pytest.mark.parametrize("size", SIZES)
def test_every_published_size_equals_asteroid(size: str, causal: bool, tmp_path: Path) -> None:
    bottleneck, hidden = SIZES[size]
    extra = CAUSAL if causal else {}
    theirs = of_asteroid(
        n_src=1, bn_chan=bottleneck, hid_chan=hidden, n_blocks=7, n_repeats=2, sample_rate=16000, **extra
    )
    save(theirs, tmp_path / "best_model.pth")
    assert tool.main([str(tmp_path / "best_model.pth"), str(tmp_path / "package")]) == 0
    ours = load_network(tmp_path / "package")
    assert ours.sample_rate == 16000 and ours.causal is causal
    gap, _ = tool.largest_difference(theirs, ours, (1, 7, 300))
    assert gap < 1e-5
    # Between whole frames asteroid leaves the end out; ours is asteroid's for the padded signal.
    mix = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (1, 4001)).astype(np.float32))
    with torch.no_grad():
        expected = theirs(functional.pad(mix, (0, 7)))[..., :4001]
    assert (ours(mix).wavs - expected).abs().max() < 1e-5


def test_asteroid_s_own_wish_for_a_causal_network_is_refused_by_name(tmp_path: Path, capsys: Any) -> None:
    with pytest.warns(UserWarning, match="cLN"):
        theirs = of_asteroid(n_src=2, n_blocks=2, n_repeats=1, causal=True)
    save(theirs, tmp_path / "m.pth")
    assert tool.main([str(tmp_path / "m.pth"), str(tmp_path / "package")]) == 1
    assert "norm_type is 'cLN'" in capsys.readouterr().err and not (tmp_path / "package").exists()


def test_a_directory_that_exists_is_left_alone(tmp_path: Path, capsys: Any) -> None:
    theirs = of_asteroid(n_src=2, n_blocks=2, n_repeats=1, n_filters=16, bn_chan=4, hid_chan=4, skip_chan=4)
    save(theirs, tmp_path / "m.pth")
    command = [str(tmp_path / "m.pth"), str(tmp_path / "package")]
    assert tool.main(command) == 0 and tool.main(command) == 1
    assert "exists" in capsys.readouterr().err
