"""A model as a directory that can be handed on: config.json, model.safetensors, card.md, SHA256SUMS.

Nothing in it is executed: the config names a model of the registry and its arguments, the weights
are plain tensors, every file is checked against its sum before it is used, and a model is built only where it
would have the very weights that are there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pse.errors import PseError, first_three
from pse.inference.package_checks import FILES, SUMS, WEIGHTS, check_files, check_heard, rehearse, sha256
from pse.io.atomic import writing_dir
from pse.io.jsonl import read_json

FORMAT = 1


def save_package(
    directory: str | Path,
    model: Any,
    model_config: Mapping[str, Any],
    card: str,
    counting: Mapping[str, Any] | None = None,
    heard: Mapping[str, list[str]] | None = None,
) -> None:
    """Write a package directory, whole or not at all.

    counting: how speakers are counted with a model of embeddings, as `pse.inference.counting.Counting` has it:
    `estimator` and `calibration`, or `options`, `soft`, `ratio` and `threshold_db` of communities. heard: corpus -> the
    speakers trained on.
    """
    from pse.io.tensors import write_tensors

    with writing_dir(Path(directory)) as new:
        write_tensors(new / WEIGHTS, model.state_dict())
        config = {"format": FORMAT, "model": dict(model_config)} | ({"counting": dict(counting)} if counting else {})
        config |= {"heard": dict(heard)} if heard else {}
        (new / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        (new / "card.md").write_text(card, encoding="utf-8")
        sums = [f"{sha256(new / name)}  {name}" for name in FILES]
        (new / SUMS).write_text("\n".join(sums) + "\n", encoding="utf-8")


def load_network(path: str | Path) -> Any:
    """The network of a package directory, a torch module ready to use (evaluation mode, no gradients).

    Raises PseError in one line when a file is missing, a link, was changed or does not fit the config.
    """
    from pse.inference.counting import counting_of
    from pse.models.base import build

    directory = Path(path)
    check_files(directory)
    config = _config(directory)
    if config.get("counting") is not None:
        counting_of(config["counting"], f"{directory / 'config.json'}: counting")
    rehearse(config["model"], directory, build)
    model = build(config["model"], str(directory / "config.json"))
    load_weights(directory, model)
    model.counting = config.get("counting")
    return model.eval().requires_grad_(False)


def packaged_config(path: str | Path) -> dict[str, Any]:
    """The mapping that a packaged model is built from. Raises PseError where there is no package."""
    directory = Path(path)
    check_files(directory)
    return _config(directory)["model"]


def heard_in(path: str | Path) -> dict[str, list[str]] | None:
    """Corpus -> whom of it a packaged model has heard in training; None where the package does not tell."""
    directory = Path(path)
    check_files(directory)
    return _config(directory).get("heard")


def card_of(path: str | Path) -> str:
    """The card of a package. Raises PseError where there is no package."""
    check_files(Path(path))
    return (Path(path) / "card.md").read_text(encoding="utf-8", errors="replace")


def licence_in(card: str) -> str | None:
    """The paragraph of a card that names the licence of the weights; None where it names none."""
    found = re.search(r"^Licence:.*?(?=\n\s*\n|\Z)", card, re.M | re.S)
    return found and found[0].rstrip()


def is_package(directory: Path) -> bool:
    """Whether this is a package, and no training."""
    return (directory / SUMS).is_file()


def load_weights(directory: Path, model: Any) -> None:
    """Put a package's weights into a model of its config. Raises PseError when they do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(directory / WEIGHTS)
        model.load_state_dict(weights)
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise PseError(f"the weights do not fit the config ({reason})", directory, "pack the model again") from error
    broken = sorted(name for name, values in weights.items() if not values.isfinite().all())
    if broken:
        raise PseError(f"{len(broken)} weights are not finite: {first_three(broken)}", directory, "pack another model")


def _config(directory: Path) -> dict[str, Any]:
    config = read_json(directory / "config.json")
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise PseError("names no model", directory / "config.json", "pack the model again")
    if config.get("format") != FORMAT:
        raise PseError(f"has format {config.get('format')!r}, this pse reads {FORMAT}", directory, "update pse")
    check_heard(config.get("heard"), str(directory / "config.json"))
    return config
