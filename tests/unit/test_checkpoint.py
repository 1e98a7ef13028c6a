"""Checkpoints are whole, or recognised as broken and passed over."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pse.errors import PseError, StageMissingError
from pse.training import checkpoint
from pse.training.checkpoint import FORMAT_VERSION

IDENTITY = {"training.lr": 0.001, "seed": 1}
FILES = ["model.safetensors", "optimizer.safetensors", "state.json", "SHA256SUMS", "DONE"]


def _model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def _save(directory: Path, examples: int, best: int | None = None, resumable: bool = True) -> nn.Module:
    """Write a checkpoint whose weights follow from `examples`."""
    model = _model(examples)
    progress = {"best_examples": examples if best is None else best, "examples": examples}
    state = {"examples": examples, "progress": progress, "identity": IDENTITY}
    optimizer = {"step:0.weight": torch.tensor(float(examples))} if resumable else None
    checkpoint.write(checkpoint.place(directory, examples), model.state_dict(), optimizer, state)
    return model


def _newest(directory: Path, notes: list[str] | None = None) -> Any:
    return checkpoint.newest(directory, IDENTITY, [].append if notes is None else notes.append)


def test_what_is_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    model = _save(tmp_path, 12)
    found = checkpoint.load_checkpoint(tmp_path, "step-12")
    other = _model(99)
    checkpoint.put(found, other)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value) and found.tensors[name].dtype == value.dtype
    assert found.examples == 12 and found.path.name == "step-00000012"
    assert sorted(p.name for p in found.path.iterdir()) == sorted(FILES)


def test_files_have_ordinary_permissions(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    (tmp_path / "other").touch()
    modes = {stat.S_IMODE(p.stat().st_mode) for p in checkpoint.place(tmp_path, 1).iterdir()}
    assert modes == {stat.S_IMODE((tmp_path / "other").stat().st_mode)}


def test_adam_state_survives_the_round_trip(tmp_path: Path) -> None:
    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(torch.arange(12.0).view(4, 3)).square().sum().backward()
        optimizer.step()

    model, copy = _model(), _model()
    optimizer, other = (torch.optim.Adam(m.parameters()) for m in (model, copy))
    step(model, optimizer)
    tensors = checkpoint.optimizer_tensors(model, optimizer)
    checkpoint.write(tmp_path / "c", model.state_dict(), tensors, {"examples": 1})
    copy.load_state_dict(model.state_dict())
    checkpoint.restore_optimizer(copy, other, tmp_path / "c")
    step(model, optimizer)
    step(copy, other)
    for name, value in model.state_dict().items():
        assert torch.equal(copy.state_dict()[name], value)


@pytest.mark.parametrize("file", FILES)
def test_truncation_at_any_of_twenty_places_is_found(tmp_path: Path, file: str) -> None:
    _save(tmp_path, 8)
    path = checkpoint.place(tmp_path, 8) / file
    whole = path.read_bytes()
    # The newline that ends DONE says nothing, all else does.
    end = len(whole.rstrip())
    for length in {i * end // 20 for i in range(20)}:
        path.write_bytes(whole[:length])
        assert checkpoint.find_fault(path.parent) is not None, length
    path.write_bytes(whole)
    assert checkpoint.find_fault(path.parent) is None


@pytest.mark.parametrize("file", FILES)
def test_one_flipped_bit_is_found(tmp_path: Path, file: str) -> None:
    _save(tmp_path, 8)
    path = checkpoint.place(tmp_path, 8) / file
    whole = path.read_bytes()
    end = len(whole.rstrip())
    for at in range(0, end, max(1, end // 20)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert checkpoint.find_fault(path.parent) is not None, at


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    _save(tmp_path, 8)
    (checkpoint.place(tmp_path, 8) / file).unlink()
    assert checkpoint.find_fault(checkpoint.place(tmp_path, 8)) == f"{file} is missing"


@pytest.mark.parametrize("file", FILES)
def test_a_broken_newest_falls_back_and_says_so_in_one_line(tmp_path: Path, file: str) -> None:
    _save(tmp_path, 4)
    _save(tmp_path, 8)
    (checkpoint.place(tmp_path, 8) / file).write_bytes(b"")
    notes: list[str] = []
    assert _newest(tmp_path, notes).examples == 4
    assert len(notes) == 1 and "step-00000008" in notes[0] and "step-00000004" in notes[0]


def test_a_checkpoint_without_its_best_weights_is_passed_over(tmp_path: Path) -> None:
    _save(tmp_path, 4)
    _save(tmp_path, 6, resumable=False)
    _save(tmp_path, 8, best=6)
    assert _newest(tmp_path).examples == 8
    (checkpoint.place(tmp_path, 6) / "model.safetensors").write_bytes(b"x")
    assert _newest(tmp_path).examples == 4


def test_nothing_resumes_from_weights_alone(tmp_path: Path) -> None:
    assert _newest(tmp_path) is None
    _save(tmp_path, 6, resumable=False)
    assert _newest(tmp_path) is None


def test_all_broken_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    for examples in (4, 8):
        _save(tmp_path, examples)
        (checkpoint.place(tmp_path, examples) / "DONE").unlink()
    with pytest.raises(PseError, match="no checkpoint is whole.*remove the directory"):
        _newest(tmp_path)


def _reseal(path: Path, **changes: object) -> None:
    """Change state.json and make the sums agree, as another version of pse would have."""
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**state, **changes}))
    names = [n for n in FILES[:3] if (path / n).exists()]
    sums = "".join(f"{checkpoint._sha256(path / n)}  {n}\n" for n in names)
    (path / "SHA256SUMS").write_text(sums)
    (path / "DONE").write_text(checkpoint._sha256(path / "SHA256SUMS"))


def test_a_newer_format_is_refused_not_passed_over(tmp_path: Path) -> None:
    _save(tmp_path, 4)
    _save(tmp_path, 8)
    _reseal(checkpoint.place(tmp_path, 8), format_version=FORMAT_VERSION + 1, pse_version="9.9")
    with pytest.raises(PseError, match="use pse 9.9 or newer"):
        _newest(tmp_path)
    with pytest.raises(PseError, match="use pse 9.9 or newer"):
        checkpoint.load_checkpoint(tmp_path, "last")


def test_another_config_is_refused_naming_the_keys(tmp_path: Path) -> None:
    _save(tmp_path, 4)
    with pytest.raises(PseError, match=r"training.lr 0.001 -> 0.1; choose another --tag") as caught:
        checkpoint.newest(tmp_path, {"training.lr": 0.1, "seed": 1}, print)
    assert "seed" not in str(caught.value)


def test_prune_keeps_the_newest_and_the_best_of_each(tmp_path: Path) -> None:
    _save(tmp_path, 2)
    _save(tmp_path, 4, resumable=False)
    for examples, best in ((6, 4), (8, 2), (10, 4), (12, 12)):
        _save(tmp_path, examples, best=best)
    checkpoint.prune(tmp_path, keep=2)
    assert list(checkpoint.steps(tmp_path)) == [4, 10, 12]
    checkpoint.prune(tmp_path, keep=1)
    assert list(checkpoint.steps(tmp_path)) == [12]


def test_forgetting_removes_the_abandoned_future_and_unfinished_writes(tmp_path: Path) -> None:
    for examples in (2, 4, 6):
        _save(tmp_path, examples)
    unfinished = tmp_path / "checkpoint" / ".step-00000008.tmp-1"
    unfinished.mkdir()
    checkpoint.forget_after(tmp_path, 4)
    assert list(checkpoint.steps(tmp_path)) == [2, 4] and not unfinished.exists()


def test_best_is_found_by_its_file(tmp_path: Path) -> None:
    for examples in (2, 4, 6):
        _save(tmp_path, examples)
    checkpoint.write_best(tmp_path, 4, "snr_db", 1.5)
    model = _model(77)
    assert checkpoint.load_best(tmp_path, model).examples == 4
    assert torch.equal(model[0].weight, _model(4)[0].weight)
    assert checkpoint.load_checkpoint(tmp_path, "last").examples == 6


@pytest.mark.parametrize("which", ["best", "last", "step-7"])
def test_a_missing_checkpoint_is_an_earlier_stage_missing(tmp_path: Path, which: str) -> None:
    with pytest.raises(StageMissingError):
        checkpoint.load_checkpoint(tmp_path, which)


def test_wrong_names_damage_and_other_models_are_refused(tmp_path: Path) -> None:
    _save(tmp_path, 4)
    with pytest.raises(PseError, match="choose best, last or step-N"):
        checkpoint.load_checkpoint(tmp_path, "../../etc")
    with pytest.raises(PseError, match="does not fit this model"):
        checkpoint.put(checkpoint.load_checkpoint(tmp_path, "last"), nn.Linear(2, 2))
    (checkpoint.place(tmp_path, 4) / "state.json").write_text("{}")
    with pytest.raises(PseError, match="state.json is damaged"):
        checkpoint.load_checkpoint(tmp_path, "last")
