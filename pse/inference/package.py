"""A model as a directory that can be handed on: config.json, model.safetensors, card.md, SHA256SUMS.

Nothing in it is executed: the config names a model of the registry and its arguments, the weights
are plain tensors, and every file is checked against its sum before it is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pse.errors import PseError
from pse.io.atomic import writing_dir
from pse.io.jsonl import read_json

FORMAT = 1
FILES = ("config.json", "model.safetensors", "card.md")


def save_package(
    directory: Path,
    model: Any,
    model_config: Mapping[str, Any],
    card: str,
    counting: Mapping[str, Any] | None = None,
) -> None:
    """Write a package directory, whole or not at all.

    counting: how speakers are counted with a model of embeddings, as `pse.inference.counting.Counting` has it:
    `estimator` and `threshold`, or `options` and `soft` of communities.
    """
    from pse.io.tensors import write_tensors

    with writing_dir(directory) as new:
        write_tensors(new / "model.safetensors", model.state_dict())
        config = {"format": FORMAT, "model": dict(model_config)} | ({"counting": dict(counting)} if counting else {})
        (new / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        (new / "card.md").write_text(card, encoding="utf-8")
        sums = [f"{_sha256(new / name)}  {name}" for name in FILES]
        (new / "SHA256SUMS").write_text("\n".join(sums) + "\n", encoding="utf-8")


def load_model(path: str | Path) -> Any:
    """The model of a package directory, ready to use (evaluation mode, no gradients).

    Raises PseError in one line when a file is missing, was changed or does not fit the config.
    """
    from pse.inference.counting import counting_of
    from pse.models.base import build

    directory = Path(path)
    _check_sums(directory)
    config = _config(directory)
    if config.get("counting") is not None:
        counting_of(config["counting"], f"{directory / 'config.json'}: counting")
    model = build(config["model"], str(directory / "config.json"))
    load_weights(directory, model)
    model.counting = config.get("counting")
    return model.eval().requires_grad_(False)


def packaged_config(path: str | Path) -> dict[str, Any]:
    """The mapping that a packaged model is built from. Raises PseError where there is no package."""
    directory = Path(path)
    _check_sums(directory)
    return _config(directory)["model"]


def is_package(directory: Path) -> bool:
    """Whether this is a package, and no training."""
    return (directory / "SHA256SUMS").is_file()


def load_weights(directory: Path, model: Any) -> None:
    """Put a package's weights into a model of its config. Raises PseError when they do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(directory / "model.safetensors")
        model.load_state_dict(weights)
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise PseError(f"the weights do not fit the config ({reason})", directory, "pack the model again") from error


def _config(directory: Path) -> dict[str, Any]:
    config = read_json(directory / "config.json")
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise PseError("names no model", directory / "config.json", "pack the model again")
    if config.get("format") != FORMAT:
        raise PseError(f"has format {config.get('format')!r}, this pse reads {FORMAT}", directory, "update pse")
    return config


def _check_sums(directory: Path) -> None:
    if not directory.is_dir():
        raise PseError("no such model directory", directory, "stage pack makes one: exp/<tag>/package/<system>")
    missing = [n for n in (*FILES, "SHA256SUMS") if not (directory / n).is_file()]
    if missing:
        raise PseError(f"is no complete model: {', '.join(missing)} missing", directory, "copy it again")
    sums = {}
    for line in (directory / "SHA256SUMS").read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        sums[name] = digest
    for name in FILES:
        if sums.get(name) != _sha256(directory / name):
            raise PseError("does not match its sum in SHA256SUMS", directory / name, "copy the model again")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
