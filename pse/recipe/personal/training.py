"""What the training stages of this recipe share: objectives from config, samplers, one training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pse.config import bind
from pse.data.mixture import Mixture, MixtureSampler, MixtureSpec, Sources
from pse.errors import PseError
from pse.recipe.options import Context
from pse.registry import find
from pse.training.config import TrainingConfig


def split_objective(mapping: dict[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """(name, options) of an objective in a config."""
    if "name" not in mapping:
        raise PseError("the objective has no name", where, "write e.g. objective: {name: pseudo_se}")
    return mapping["name"], {k: v for k, v in mapping.items() if k != "name"}


def check(config: Any) -> None:
    """Build every model and bind every objective of a config, so that a typo is told at once."""
    import torch

    from pse.models.base import build

    where = {"pretrain.model": config.pretrain.model, "snr_predictor.model": config.snr_predictor.model}
    with torch.device("meta"):
        for place, model in where.items():
            if model or place == "pretrain.model":
                build(model, place)
    objectives = {f"pretrain.methods.{n}": m.objective for n, m in config.pretrain.methods.items()}
    for place, mapping in (objectives | {"finetune.objective": config.finetune.objective}).items():
        name, options = split_objective(mapping, place)
        bind(find("objective", name, place).Options, options, place)


def make_objective(
    mapping: dict[str, Any],
    where: str,
    sampler: MixtureSampler,
    valid: Iterable[tuple[MixtureSpec, Mixture]],
    predictor: Any = None,
) -> Any:
    """Build an enhancement objective from its config mapping; unknown names and options are refused."""
    name, options = split_objective(mapping, where)
    plugin = find("objective", name, where)
    return plugin(sampler, valid, bind(plugin.Options, options, where), predictor)


def make_sampler(
    config: Any, sources: Sources, ids: Sequence[str], stream: str, max_samples: int | None = None
) -> MixtureSampler:
    """Mixtures of the recipe's length and ranges; `max_samples` shortens them to what there is."""
    num_samples = round(config.mixture.duration_s * config.sample_rate)
    if max_samples is not None:
        num_samples = min(num_samples, max_samples)
    mixture = config.mixture
    return MixtureSampler(
        sources, ids, num_samples, config.seed, stream, mixture.snr_db, mixture.premixture_snr_db
    )


def fit(
    ctx: Context,
    config: Any,
    model_config: dict[str, Any],
    objective: Any,
    training: TrainingConfig,
    place: Path,
    loss: dict[str, Any],
    start_from: Path | None = None,
) -> None:
    """Build the model from the seed, or from the best weights of another training, and train it.

    `loss` is the config of the objective: with the model it tells one training from another.
    """
    import torch

    from pse.models.base import build
    from pse.training.checkpoint import load_best
    from pse.training.loop import train

    torch.manual_seed(config.seed)
    model = build(model_config, "pretrain.model")
    if start_from is not None:
        load_best(start_from, model)
    told = {"model": model_config, "objective": loss}
    train(model, objective, training, place, config.seed, min(1, ctx.ngpu), about=told)
