"""What is looked at before a package is used, which may be somebody else's: its files, its sums, its sizes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
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
# Sixteen times as many as of any transform of a recipe's models; a frame for every sample would take hours.
MOST_FRAMES_A_SECOND = 2000
# Of weights, by the names of safetensors.
FLOATING, WHOLE = ("F16", "BF16", "F32", "F64"), ("I8", "I16", "I32", "I64", "U8", "BOOL")
# Calls of torch that build a model: 6 for each tensor at most, of those that pse has.
CALLS, CALLS_A_TENSOR = 1000, 100
AGAIN = "pack the model again"


def check_files(directory: Path) -> None:
    """Raise PseError when a file of a package is missing, a link, too large or not the one that was packed.

    What else lies in the directory is not looked at.
    """
    # Path.is_dir raises OSError for a name that no file can have.
    if not os.path.isdir(directory):
        raise PseError("is no model directory", directory, "pse models lists the built-in ones")
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


def weight_shapes(directory: Path) -> dict[str, str]:
    """The shapes of a package's weights, and whether they are whole numbers, in words, by their header alone.

    Raises PseError where the header is broken, claims other sizes than the file has, or other numbers than models have.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(directory / WEIGHTS, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            types = {name: values.get_dtype() for name, values in slices.items()}
            shapes = {name: values.get_shape() for name, values in slices.items()}
    except (SafetensorError, OSError, OverflowError) as error:
        what = f"are no whole weights ({str(error).splitlines()[0]})"
        raise PseError(what, directory / WEIGHTS, "copy or pack the model again") from error
    if others := sorted({kind for kind in types.values() if kind not in FLOATING + WHOLE}):
        raise PseError(f"holds numbers of type {first_three(others)}", directory / WEIGHTS, AGAIN)
    return {name: _in_words(shape, types[name] in WHOLE) for name, shape in shapes.items()}


def _in_words(shape: Iterable[int], whole: bool) -> str:
    return f"{list(shape)}{' of whole numbers' if whole else ''}"


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
    made = {name: _in_words(x.shape, not x.is_floating_point()) for name, x in model.state_dict().items()}
    if others := sorted(name for name in made.keys() | given.keys() if made.get(name) != given.get(name)):
        shapes = " and ".join(x.get(others[0], "none") for x in (given, made))
        reason = f"{first_three(others)}: of {others[0]} there is {shapes} in the config"
        raise PseError(f"the weights do not fit the config ({reason})", directory, AGAIN)
    _check_reach(model, where)
    _check_frames(model, where)


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


def _check_frames(model: Any, where: str) -> None:
    """Refuse transforms, of the model or of one inside it, with a hop that no weights are to be compared with."""
    from pse.dsp.stft import STFT

    inside = [item for part in model.modules() for item in vars(part).items()]
    # Those of ESPnet are modules.
    hops = [value.hop if isinstance(value, STFT) else value for name, value in inside
            if isinstance(value, STFT) or name == "hop_length"]  # fmt: skip
    least = -(-model.sample_rate // MOST_FRAMES_A_SECOND)
    if hops and min(hops) < least:
        what = f"hop: {min(hops)} samples are fewer than any model has ({least} at {model.sample_rate} Hz)"
        raise PseError(what, where, AGAIN)


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
