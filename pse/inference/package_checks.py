"""What is looked at before a package is used, which may be somebody else's: its files, its sums, its sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pse.errors import PseError, first_three

WEIGHTS, SUMS = "model.safetensors", "SHA256SUMS"
FILES = ("config.json", WEIGHTS, "card.md")
MAX_TEXT_BYTES = 1_000_000
# No model has a size near this, and beyond it a list of layers alone would fill the memory.
MOST_SIZE = 1_000_000
# Of what costs time or memory and has no weights to be compared with.
MOST_ROUNDS, ROUNDS = 1000, ("restarts", "iterations")
MOST_REACH_S = 3600.0
# Calls of torch that build a model: 6 for each tensor at most, of those that pse has.
CALLS, CALLS_A_TENSOR = 1000, 100
AGAIN = "pack the model again"


def check_files(directory: Path) -> None:
    """Raise PseError when a file of a package is missing, a link, too large or not the one that was packed.

    What else lies in the directory is not looked at.
    """
    if not directory.is_dir():
        raise PseError("no such model directory", directory, "stage pack makes one: exp/<tag>/package/<system>")
    missing = [n for n in (*FILES, SUMS) if not (directory / n).is_file()]
    if missing:
        raise PseError(f"is no complete model: {', '.join(missing)} missing", directory, "copy it again")
    for place in (directory / name for name in (*FILES, SUMS)):
        if place.is_symlink():
            raise PseError("is a symbolic link, which may lead anywhere", place, "put the file itself there")
        if place.name != WEIGHTS and place.stat().st_size > MAX_TEXT_BYTES:
            raise PseError(f"is larger than {MAX_TEXT_BYTES} bytes", place, "copy the model again")
    sums = {}
    for line in (directory / SUMS).read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        sums[name] = digest
    for name in FILES:
        if sums.get(name) != sha256(directory / name):
            raise PseError("does not match its sum in SHA256SUMS", directory / name, "copy the model again")


def check_heard(heard: Any, where: str) -> None:
    """Refuse what a config says of the speakers heard in training, unless it is lists of ids by corpus, or nothing."""
    lists = heard.values() if isinstance(heard, dict) else [None]
    if heard is not None and not all(isinstance(x, list) and all(isinstance(s, str) for s in x) for x in lists):
        raise PseError("heard: must be lists of speakers by corpus", where, AGAIN)


def sha256(path: Path) -> str:
    """The sum of a file, which is read in pieces."""
    made = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            made.update(piece)
    return made.hexdigest()


def weight_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a package's weights, by their header alone.

    Raises PseError where the header is broken, or claims other sizes than the file has.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(directory / WEIGHTS, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, OverflowError) as error:
        what = f"are no whole weights ({str(error).splitlines()[0]})"
        raise PseError(what, directory / WEIGHTS, "copy or pack the model again") from error


def rehearse(mapping: Mapping[str, Any], directory: Path, build: Callable[..., Any]) -> None:
    """Build a package's model without memory, and compare it with the weights that are there.

    Raises PseError where it would have other weights, so that a config can ask for no more than what the file holds,
    and where it would reach over more than an hour. A model whose constructor needs the values of its tensors cannot
    be built so, and is not looked at; none of pse's is such a one.
    """
    import torch

    where, given = str(directory / "config.json"), weight_shapes(directory)
    _check_numbers(mapping, where)
    try:
        with torch.device("meta"), _counted(CALLS + CALLS_A_TENSOR * len(given), where):
            model = build(mapping, where)
    except (PseError, ImportError):
        raise
    except Exception as error:  # Sizes that no tensor can have are refused in many ways.
        if isinstance(error, NotImplementedError) or "meta tensor" in str(error):
            return
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise PseError(f"names a model that cannot be built ({reason})", where, AGAIN) from error
    made = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if others := sorted(name for name in made.keys() | given.keys() if made.get(name) != given.get(name)):
        shapes = " and ".join(str(list(x[others[0]])) if others[0] in x else "none" for x in (given, made))
        reason = f"{first_three(others)}: of {others[0]} there is {shapes} in the config"
        raise PseError(f"the weights do not fit the config ({reason})", directory, AGAIN)
    _check_reach(model, where)


def _check_numbers(value: Any, where: str, name: str = "") -> None:
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else ((name, item) for item in value):
            _check_numbers(item, where, str(key))
    elif isinstance(value, int) and abs(value) > (most := MOST_ROUNDS if name in ROUNDS else MOST_SIZE):
        raise PseError(f"{name}: {value:,} is more than any model has ({most:,})", where, AGAIN)


def _check_reach(model: Any, where: str) -> None:
    """Refuse rates that no recording has, and layers that would fill the memory with zeros around it."""
    from pse.io.audio import MAX_RATE_HZ, MIN_RATE_HZ

    if not MIN_RATE_HZ <= model.sample_rate <= MAX_RATE_HZ:
        raise PseError(f"has a sample rate of {model.sample_rate} Hz", where, AGAIN)
    field = model.receptive_field_samples()
    if field is not None and field > MOST_REACH_S * model.sample_rate:
        raise PseError(f"names a model that hears {field / model.sample_rate / 3600:.3g} hours at once", where, AGAIN)


def _counted(most: int, where: str) -> Any:
    """A context in which torch can be called so many times; one more raises PseError."""
    from torch.overrides import TorchFunctionMode

    class Counted(TorchFunctionMode):
        left = most

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.left -= 1
            if self.left < 0:
                raise PseError("names a model with far more layers than its weights", where, AGAIN)
            return func(*args, **(kwargs or {}))

    return Counted()
