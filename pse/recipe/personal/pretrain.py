"""Stage pretrain: generalists on all training speakers, specialists on one person's noisy speech."""

from __future__ import annotations

from typing import Any

from pse.errors import PseError
from pse.recipe.options import Context
from pse.recipe.personal import predictor
from pse.recipe.personal.layout import MIXING, System, cache_files, finished, pretrained
from pse.recipe.stage import Task

# Which caches and which fixed set a method is trained and validated on, by whose speech it hears.
SETS = {
    "all": ({"speech": "train", "noise": "noise_train"}, "valid"),
    "target": (
        {"speech": "target_pretrain", "noise": "noise_train", "premixture_noise": "premix_{user_noise}"},
        "preval",
    ),
}


def tasks(ctx: Context) -> list[Task]:
    """One training a system: the longest (generalists) first."""
    systems = sorted(pretrained(ctx), key=lambda s: s.speaker is not None)
    return [_training(ctx, s) for s in systems]


def sources_of(ctx: Context, system: System) -> tuple[dict[str, str], str]:
    """Names of the caches, by role, and of the validation set of a pretrained system."""
    method = ctx.config.pretrain.methods[system.method]
    roles, valid = SETS[method.speech]
    names = {role: name.format(user_noise=ctx.config.data.user_noise) for role, name in roles.items()}
    if method.objective.get("name") == "supervised" and method.speech == "target":
        # The clean-target bound: no surroundings are mixed in, and validation is clean as well.
        names.pop("premixture_noise")
        valid = "val"
    return names, valid


def needs_predictor(ctx: Context, system: System) -> bool:
    """Whether this method asks the SNR predictor for weights."""
    return ctx.config.pretrain.methods[system.method].objective.get("purification") == "predictor"


def _training(ctx: Context, system: System) -> Task:
    place, (names, valid) = system.directory(ctx), sources_of(ctx, system)
    inputs = (*cache_files(ctx, *names.values()), ctx.dump / "mixtures" / valid / "specs.jsonl")
    reads = ["seed", "sample_rate", *MIXING, "pretrain.model", f"pretrain.methods.{system.method}"]
    shared = system.speaker is None and ctx.config.pretrain.all_training is not None
    reads.append("pretrain.all_training" if shared else "pretrain.training")
    if needs_predictor(ctx, system):
        if not ctx.config.snr_predictor.model:
            raise PseError(
                f"method {system.method} weights its frames by the SNR predictor, and there is none",
                "snr_predictor.model", "name a model, e.g. conf/models/snr_predictor_small.yaml",
            )
        inputs = (*inputs, predictor.directory(ctx) / "best.json", *finished(ctx, "snr_predictor", "train"))
        reads.append("snr_predictor.model")

    def run(config: Any) -> None:
        train_system(ctx, config, system, names, valid)

    return Task(
        system.name, "pretrain", tuple(reads), inputs, (place / "best.json",), ctx.exp, run,
        made_by="snr_predictor" if needs_predictor(ctx, system) else "features", facts={"sources": names},
        own_process=True, place=place,
    )


def train_system(ctx: Context, config: Any, system: System, names: dict[str, str], valid: str) -> None:
    """Train one system in its directory."""
    from pse.data.cache import select
    from pse.data.fixed import FixedMixtures, open_sources
    from pse.recipe.personal.training import fit, make_objective, make_sampler

    # A view shows single methods only, so the method is asked for by name.
    method = getattr(config.pretrain.methods, system.method)
    sources = open_sources(ctx.dump, names)
    ids = select(sources.speech, None if system.speaker is None else [system.speaker])
    fixed = FixedMixtures(ctx.dump, valid)
    specs = fixed.specs if system.speaker is None else fixed.of_speaker(system.speaker)
    frozen = predictor.load_predictor(ctx, config.snr_predictor.model) if needs_predictor(ctx, system) else None
    objective = make_objective(
        method.objective, f"pretrain.methods.{system.method}", make_sampler(config, sources, ids, "pretrain"),
        fixed.render(specs), frozen,
    )
    shared = system.speaker is None and ctx.config.pretrain.all_training is not None
    training = config.pretrain.all_training if shared else config.pretrain.training
    fit(ctx, config, config.pretrain.model, objective, training, system.directory(ctx), method.objective)
