"""Checkpoints: directories of safetensors and JSON that are there whole, or recognised as broken.

    checkpoint/step-00012800/  model.safetensors  optimizer.safetensors  state.json  SHA256SUMS  DONE
    best.json                  names the best one (a file, so that it survives any copy)

A directory is filled beside its place and renamed. SHA256SUMS covers the files, DONE is written
last and covers SHA256SUMS. The best weights may stand in a directory without an optimizer: they
were the best at a validation after which training went on before the next checkpoint was due.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pse import __version__
from pse.errors import PseError, StageMissingError, first_three
from pse.io.atomic import writing_dir
from pse.io.jsonl import read_json, write_json
from pse.io.tensors import write_tensors

FORMAT_VERSION = 1
_NAME = re.compile(r"step-(\d{8,12})")
AGAIN = "remove the directory and train again"


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: `state` as it was written, the model's `tensors` by name."""

    path: Path
    state: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def examples(self) -> int:
        """How many examples the weights have seen."""
        return int(self.state["examples"])


def place(directory: Path, examples: int) -> Path:
    """Where the checkpoint after so many examples stands in an experiment's directory."""
    return directory / "checkpoint" / f"step-{examples:08d}"


def write(
    path: Path, model: Mapping[str, Tensor], optimizer: Mapping[str, Tensor] | None, state: Mapping[str, Any]
) -> None:
    """Write a checkpoint, whole or not at all, and read it back.

    Without `optimizer` it holds weights only: nothing resumes from it. Raises PseError when the disk
    is full or does not give back what was written.
    """
    with writing_dir(path) as part:
        write_tensors(part / "model.safetensors", model)
        if optimizer is not None:
            write_tensors(part / "optimizer.safetensors", optimizer)
        version = {"format_version": FORMAT_VERSION, "pse_version": __version__}
        write_json(part / "state.json", {**state, **version, "resumable": optimizer is not None})
        names = sorted(p.name for p in part.iterdir())
        sums = "".join(f"{_sha256(part / n)}  {n}\n" for n in names)
        (part / "SHA256SUMS").write_text(sums, encoding="utf-8")
        (part / "DONE").write_text(_sha256(part / "SHA256SUMS") + "\n", encoding="utf-8")
    if (fault := find_fault(path)) is not None:
        raise PseError(f"what was written cannot be read back ({fault})", path, "check the disk")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def find_fault(path: Path) -> str | None:
    """What is wrong with a checkpoint directory, or None when every byte is as it was written."""
    try:
        if not (path / "DONE").is_file():
            return "DONE is missing"
        if (path / "DONE").read_text(encoding="utf-8").strip() != _sha256(path / "SHA256SUMS"):
            return "SHA256SUMS is damaged"
        for line in (path / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
            digest, _, name = line.partition("  ")
            if _sha256(path / name) != digest:
                return f"{name} is damaged"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, UnicodeDecodeError) as error:
        return str(error)
    return None


def steps(directory: Path) -> dict[int, Path]:
    """All checkpoint directories of an experiment, whole or broken, oldest first."""
    root = directory / "checkpoint"
    paths = root.iterdir() if root.is_dir() else ()
    return dict(sorted((int(m[1]), p) for p in paths if (m := _NAME.fullmatch(p.name))))


def newest(directory: Path, identity: Mapping[str, Any], note: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint that can be resumed; None where nothing was trained yet.

    A broken one is passed over with one line to `note`. Raises PseError when all are broken, or when
    it was made by another configuration (`identity`) or by a newer pse.
    """
    broken: list[str] = []
    for path in reversed(steps(directory).values()):
        if (fault := find_fault(path)) is None:
            state = _state(path)
            if not state["resumable"]:
                continue
            best = place(directory, state["progress"]["best_examples"])
            fault = find_fault(best) and f"its best weights, {best.name}, are broken: {find_fault(best)}"
        if fault is None:
            _refuse_other(state, identity, path, directory)
            if broken:
                note(f"{first_three(broken)}: passed over, going on from {path.name}")
            return Checkpoint(path, state, load_file(path / "model.safetensors"))
        broken.append(f"{path.name} ({fault})")
    if broken:
        raise PseError(f"no checkpoint is whole: {first_three(broken)}", directory / "checkpoint", AGAIN)
    return None


def _state(path: Path) -> dict[str, Any]:
    state = read_json(path / "state.json")
    if state["format_version"] > FORMAT_VERSION:
        raise PseError(
            f"has format version {state['format_version']}, this pse {__version__} reads {FORMAT_VERSION}",
            path,
            f"use pse {state['pse_version']} or newer, or {AGAIN}",
        )
    return state


def _refuse_other(
    state: Mapping[str, Any], identity: Mapping[str, Any], path: Path, directory: Path
) -> None:
    before, now = state["identity"], dict(identity)
    keys = [k for k in sorted({*before, *now}) if before.get(k) != now.get(k)]
    if keys:
        changes = first_three(f"{k} {before.get(k)!r} -> {now.get(k)!r}" for k in keys)
        fix = f"choose another --tag, or remove {directory} to train afresh"
        raise PseError(f"was trained with another config: {changes}", path, fix)


def load_checkpoint(directory: str | Path, which: str = "best") -> Checkpoint:
    """A verified checkpoint of an experiment; `which`: best, last or step-N.

    Raises StageMissingError when there is none, PseError when it is broken or from a newer pse.
    """
    directory = Path(directory)
    found = steps(directory)
    if which == "last" and found:
        path = list(found.values())[-1]
    elif which == "best" and (directory / "best.json").is_file():
        path = place(directory, int(read_json(directory / "best.json")["examples"]))
    elif re.fullmatch(r"step-\d+", which):
        path = place(directory, int(which.removeprefix("step-")))
    elif which in ("best", "last"):
        raise StageMissingError(f"no {which} checkpoint is here", directory, "train first")
    else:
        raise PseError(f"no checkpoint is named {which!r}", directory, "choose best, last or step-N")
    if not path.is_dir():
        have = first_three(p.name for p in found.values()) or "none"
        raise StageMissingError("no such checkpoint", path, f"train first, or choose one of: {have}")
    if (fault := find_fault(path)) is not None:
        raise PseError(f"is broken ({fault})", path, "run the training command again, it mends or explains")
    return Checkpoint(path, _state(path), load_file(path / "model.safetensors"))


def load_best(directory: str | Path, model: nn.Module) -> Checkpoint:
    """Put the best weights of an experiment into `model`. Raises as `load_checkpoint` does."""
    checkpoint = load_checkpoint(directory, "best")
    put(checkpoint, model)
    return checkpoint


def put(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Copy a checkpoint's weights into `model`. Raises PseError when names or shapes differ."""
    try:
        model.load_state_dict(checkpoint.tensors)
    except RuntimeError as error:
        fix = "use the model config it was trained with"
        raise PseError("does not fit this model", checkpoint.path, fix) from error


def write_best(directory: Path, examples: int, headline: str, value: float | None) -> None:
    """Name the best checkpoint in best.json."""
    name = f"checkpoint/{place(directory, examples).name}"
    best = {"checkpoint": name, "examples": examples, "headline": headline, "value": value}
    write_json(directory / "best.json", best)


def prune(directory: Path, keep: int) -> None:
    """Remove all but the newest `keep` that can be resumed and the best of each of these."""
    needed: set[int] = set()
    resumable = 0
    for examples, path in reversed(steps(directory).items()):
        state = read_json(path / "state.json") if resumable < keep and (path / "DONE").is_file() else {}
        if state.get("resumable"):
            resumable += 1
            needed |= {examples, int(state["progress"]["best_examples"])}
    remove(p for e, p in steps(directory).items() if e not in needed)


def forget_after(directory: Path, examples: int) -> None:
    """Remove what a run that now goes on from `examples` will make again, and unfinished writes."""
    remove(p for e, p in steps(directory).items() if e > examples)
    remove((directory / "checkpoint").glob(".step-*"))


def remove(paths: Iterable[Path]) -> None:
    """Remove checkpoint directories."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and step counts by parameter name: `exp_avg:encoder.weight`, ..."""
    out: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                out[f"{key}:{name}"] = value
    return out


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Put back what `optimizer_tensors` named. `path`: the checkpoint's directory."""
    parameters = dict(model.named_parameters())
    for full, tensor in load_file(path / "optimizer.safetensors").items():
        key, _, name = full.partition(":")
        parameter = parameters[name]
        # The step count lives on the processor, the moments with their parameter.
        optimizer.state[parameter][key] = tensor if key == "step" else tensor.to(parameter.device)
