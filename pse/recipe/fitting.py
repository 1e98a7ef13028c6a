"""What every training stage does at its end: a model out of the config, its first weights, the training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pse.config import bind, plain
from pse.errors import PseError

if TYPE_CHECKING:
    from pse.models.base import Model
    from pse.training.config import TrainingConfig
    from pse.training.objectives.base import Objective


def split_objective(mapping: dict[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """(name, options) of an objective in a config."""
    if "name" not in mapping:
        raise PseError("the objective has no name", where, "write e.g. objective: {name: pseudo_se}")
    return mapping["name"], {k: v for k, v in mapping.items() if k != "name"}


def own_training(
    base: TrainingConfig, own: dict[str, Any], section: str, where: str
) -> tuple[TrainingConfig, list[str]]:
    """The training keys of a method, and those of the section that decide them: what it sets itself does not.

    base: the keys of the section. own: those that the method sets at `where`. Raises PseError for ones that are none.
    """
    training = bind(type(base), plain(base) | own, where) if own else base
    return training, [f"{section}.{f.name}" for f in fields(base) if f.name not in own]


def fit(
    place: Path,
    model: tuple[dict[str, Any], str],
    objective: Objective,
    training: TrainingConfig,
    *,
    seed: int,
    devices: int,
    told: dict[str, Any],
    start: Path | None = None,
    prepare: Callable[[Model], None] | None = None,
) -> None:
    """Build the model (a mapping and where it stands) from the seed and train it in the directory `place`.

    start: another training's directory, or a package, whose best weights are the first ones. prepare: what is done to
    a model that starts from the seed. `told` is the config of the objective: with the model it tells one
    training from another.
    """
    import torch

    from pse.models.base import build
    from pse.training.loop import train

    torch.manual_seed(seed)
    net = build(*model)
    if start is not None:
        put_best(start, net.started_from())
    elif prepare is not None:
        prepare(net)
    train(net, objective, training, place, seed, devices, about={"model": model[0], "objective": told})


def put_best(place: Path, net: Any) -> None:
    """The best weights of a training, or those of a package, into a model. Raises PseError when they do not fit."""
    from pse.inference.package import is_package, load_weights
    from pse.training.checkpoint import load_best

    load_weights(place, net) if is_package(place) else load_best(place, net)


def load(model: tuple[dict[str, Any], str], place: Path | None) -> Any:
    """The model with the best weights of the training in `place`, or as it comes (None), for inference."""
    from pse.models.base import build

    net = build(*model)
    if place is not None:
        put_best(place, net)
    return net.eval().requires_grad_(False)
