"""Packages made to do harm, with right sums: each is refused in one line, before anything is run or allocated."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pse.config import read_yaml
from pse.errors import PseError
from pse.inference import package_checks
from pse.inference.package import load_network
from pse.models.base import build, num_parameters
from tests.packages import GRU, PREDICTOR, TASNET, pack

ROOT = Path(__file__).resolve().parents[2]
FRAMES = {"name": "frame_encoder", "channels": 4, "num_layers": 2, "embedding_size": 4, "projection_size": 4}
EMBEDDING = {"name": "blstm_embedding", "hidden_size": 4, "num_layers": 1, "embedding_size": 4}
UNFOLDED = {"name": "unfolded_clustering", "net": EMBEDDING, "hidden_size": 4}
# A pickle that makes a file when it is loaded.
PICKLE = b"cos\nsystem\n(S'touch executed'\ntR."


def sum_again(directory: Path) -> None:
    names = ("config.json", "model.safetensors", "card.md")
    sums = [f"{hashlib.sha256((directory / n).read_bytes()).hexdigest()}  {n}" for n in names]
    (directory / "SHA256SUMS").write_text("\n".join(sums) + "\n")


def refused(directory: Path, told: str) -> None:
    with pytest.raises(PseError, match=told) as caught:
        load_network(directory)
    assert "\n" not in str(caught.value)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return pack(tmp_path / "model", GRU)


@pytest.mark.parametrize("path", sorted(ROOT.glob("egs/*/conf/models/*.yaml")), ids=lambda p: p.stem)
def test_every_model_is_built_without_memory_and_without_moving_a_generator(path: Path) -> None:
    mapping = read_yaml(path)
    if mapping["name"] == "espnet":
        pytest.importorskip("espnet2")
    before = torch.get_rng_state()
    calls = package_checks._counted(10**9, "test")
    with torch.device("meta"), calls:
        model = build(mapping, path)
    allocated = sum(p.numel() for p in model.parameters() if not p.is_meta)
    if mapping["name"] == "espnet":
        # It makes the gains of its norms in a way that no context changes.
        assert allocated <= 0.1 * num_parameters(model)
    else:
        assert not allocated and torch.equal(before, torch.get_rng_state())
    used = 10**9 - calls.left
    assert used < (package_checks.CALLS + package_checks.CALLS_A_TENSOR * len(model.state_dict())) / 4


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_truncated_weights_are_refused(package: Path, kept: int) -> None:
    weights = package / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    sum_again(package)
    refused(package, r"model\.safetensors: are no whole weights")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float, package: Path) -> None:
    weights = load_file(package / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] = value
    save_file(weights, package / "model.safetensors")
    sum_again(package)
    refused(package, "1 weights are not finite")


@pytest.mark.parametrize(
    "header",
    [
        {"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}},
        {"x": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F32", "shape": [2**63, 2], "data_offsets": [0, 0]}},
        {"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}},
        {"x": {"dtype": "O", "shape": [1], "data_offsets": [0, 4]}},
        [], "text", 7,
    ],
)  # fmt: skip
def test_a_header_that_claims_what_is_not_there_is_refused(package: Path, header: object) -> None:
    content = json.dumps(header).encode()
    (package / "model.safetensors").write_bytes(len(content).to_bytes(8, "little") + content + bytes(4))
    sum_again(package)
    refused(package, "are no whole weights")


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**12, 0])
def test_a_header_of_an_absurd_length_is_refused(package: Path, length: int) -> None:
    (package / "model.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}")
    sum_again(package)
    refused(package, "are no whole weights")


@pytest.mark.parametrize(
    ("mapping", "change", "told"),
    [
        (GRU, {"hidden_size": 900_000}, "do not fit the config"),
        (GRU, {"hidden_size": 10**12}, "more than any model has"),
        (GRU, {"num_layers": 1_000_000}, "far more layers than its weights"),
        (GRU, {"n_fft": 999_998, "hop": 1}, "do not fit the config"),
        (GRU, {"sample_rate": 999_999}, "has a sample rate of 999999 Hz"),
        (GRU, {"hop": 10**30}, "more than any model has"),
        (TASNET, {"num_blocks": 1_000_000}, "far more layers than its weights"),
        (TASNET, {"num_repeats": 999_999, "num_blocks": 999_999}, "cannot be built|far more layers"),
        (FRAMES, {"frame": 999_998, "hop": 1}, "do not fit the config|hours at once"),
        (FRAMES, {"num_layers": 10**12}, "more than any model has"),
        (EMBEDDING, {"num_masks": 999_999}, "do not fit the config"),
        (GRU, {"hop": 1}, r"hop: 1 samples are fewer than any model has \(8 at 16000 Hz\)"),
        (GRU, {"sample_rate": 384_000}, "hop: 128 samples are fewer"),
        (EMBEDDING, {"hop": 3}, "hop: 3 samples are fewer"), (PREDICTOR, {"hop": 7}, "hop: 7 samples are fewer"),
        (FRAMES, {"hop": 1}, "hop: 1 samples are fewer"),
        (UNFOLDED, {"net": EMBEDDING | {"hop": 1}}, "hop: 1 samples are fewer"),
        (UNFOLDED, {"iterations": 1001}, "iterations: 1,001 is more than any model has"),
        (UNFOLDED, {"net": EMBEDDING | {"hidden_size": 10**9}}, "hidden_size: 1,000,000,000 is more than any"),
    ],
)
def test_a_config_that_would_fill_the_memory_is_refused_before_anything_is_built(
    mapping: dict[str, Any], change: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = pack(tmp_path / "model", mapping)
    (directory / "config.json").write_text(json.dumps({"format": 1, "model": mapping | change}))
    sum_again(directory)
    monkeypatch.setattr("pse.inference.package.load_weights", lambda *rest: pytest.fail("was built"))
    refused(directory, told)


def test_layers_that_hear_years_at_once_are_refused(tmp_path: Path) -> None:
    mapping = TASNET | {"num_blocks": 40}
    refused(pack(tmp_path / "model", mapping), "hours at once")


def test_a_hop_of_every_sample_is_refused_in_a_network_of_espnet(tmp_path: Path) -> None:
    for needed in ("espnet2", "torch_complex", "typeguard", "librosa"):
        pytest.importorskip(needed)
    front = {"n_fft": 64, "hop_length": 1}
    net = {"name": "espnet", "separator": "rnn", "separator_conf": {"layer": 1, "unit": 8}, "encoder": "stft"}
    refused(pack(tmp_path / "model", net | {"encoder_conf": front}), "hop: 1 samples are fewer")
    load_network(pack(tmp_path / "other", net | {"encoder_conf": front | {"hop_length": 16}}))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (torch.complex64, "holds numbers of type C64"), (torch.float8_e4m3fn, "holds numbers of type F8_E4M3"),
        (torch.int32, r"there is \[.*\] of whole numbers and \[.*\] in the config"),
        (torch.bool, "of whole numbers"), (torch.float16, None), (torch.bfloat16, None), (torch.float64, None),
    ],
)  # fmt: skip
def test_weights_of_another_kind_of_numbers_are_refused(kind: torch.dtype, told: str | None, package: Path) -> None:
    weights = load_file(package / "model.safetensors")
    name = sorted(weights)[0]
    save_file(weights | {name: weights[name].to(kind)}, package / "model.safetensors")
    sum_again(package)
    if told is None:
        assert load_network(package).state_dict()[name].dtype == torch.float32
    else:
        refused(package, told)


@pytest.mark.parametrize("name", ["os", "pickle", "base", "../base", "pse.models.base", "", None, 7, ["gru_mask"]])
def test_a_model_that_is_not_in_the_registry_is_refused(package: Path, name: object) -> None:
    (package / "config.json").write_text(json.dumps({"format": 1, "model": GRU | {"name": name}}))
    sum_again(package)
    refused(package, "no model is named|'name' is missing")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "card.md", "SHA256SUMS"])
@pytest.mark.parametrize("inside", [True, False])
def test_a_link_in_the_place_of_a_file_is_refused(package: Path, name: str, inside: bool) -> None:
    target = (package if inside else package.parent) / "elsewhere"
    (package / name).rename(target)
    (package / name).symlink_to(target)
    refused(package, f"{name}: is a symbolic link")


@pytest.mark.parametrize("name", ["config.json", "card.md", "SHA256SUMS"])
def test_a_text_that_would_fill_the_memory_is_refused(package: Path, name: str) -> None:
    with open(package / name, "ab") as file:
        file.truncate(1 << 40)
    refused(package, f"{name}: is larger than")


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(package: Path) -> None:
    (package / "card.md").unlink()
    os.mkfifo(package / "card.md")
    refused(package, "card.md missing")


OPENED: list[str] = []


def test_pickles_beside_the_files_are_not_opened(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(package)
    others = ["pytorch_model.bin", "model.pkl", "model.pt", "config.yaml", "setup.py", "__init__.py", "weights.npy"]
    for name in others:
        (package / name).write_bytes(PICKLE)
    # A hook cannot be taken away again: it only writes down.
    sys.addaudithook(lambda event, given: OPENED.append(str(given[0])) if event == "open" else None)
    load_network(package)
    opened = {Path(path).name for path in OPENED}
    assert {"config.json", "SHA256SUMS"} <= opened and not opened & set(others)
    assert not (package / "executed").exists()
