"""Stage pretrain: generalists on all training speakers, specialists on one person's noisy speech."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pse.errors import PseError
from pse.recipe.fitting import own_training
from pse.recipe.options import Context
from pse.recipe.personal import predictor
from pse.recipe.personal.config import MethodConfig
from pse.recipe.personal.layout import (
    MIXING,
    System,
    cache_files,
    is_trained,
    method_of,
    model_of,
    pretrained,
    seed_of,
    trained,
)
from pse.recipe.stage import Task
from pse.training.config import TrainingConfig

# Which caches and which fixed set a method is trained and validated on, by whose speech it hears.
SETS = {
    "all": ({"speech": "train", "noise": "noise_train"}, "valid"),
    "target": (
        {"speech": "target_pretrain", "noise": "noise_train", "premixture_noise": "premix_{user_noise}"},
        "preval",
    ),
}


def tasks(ctx: Context) -> list[Task]:
    """One training a system: the longest (generalists) first, students after their teachers."""
    systems = sorted(pretrained(ctx), key=lambda s: s.speaker is not None)
    return [_training(ctx, s) for s in systems if is_trained(ctx, s)]


def sources_of(ctx: Context, method: MethodConfig) -> tuple[dict[str, str], str]:
    """Names of the caches, by role, and of the validation set of a pretraining method."""
    roles, valid = SETS[method.speech]
    names = {role: name.format(user_noise=ctx.config.data.user_noise) for role, name in roles.items()}
    if method.objective["name"] == "supervised" and method.speech == "target":
        # The clean-target bound: no surroundings are mixed in, and validation is clean as well.
        names.pop("premixture_noise")
        valid = "val"
    return names, valid


def needs_predictor(method: MethodConfig) -> bool:
    """Whether this method asks the SNR predictor for weights."""
    return method.objective.get("purification") == "predictor"


def teacher_of(ctx: Context, system: System) -> System | None:
    """The system whose estimates are this one's targets; None where there is none."""
    name = method_of(ctx, system).objective.get("teacher")
    if name is None:
        return None
    teacher = ctx.config.pretrain.methods[name]
    own = teacher.speech == "target" and teacher.objective is not None
    return System(name, system.speaker if own else None, seed=system.seed if teacher.objective is not None else None)


def training_of(ctx: Context, system: System) -> tuple[TrainingConfig, list[str]]:
    """How a system is trained, and the keys of the stage's section that decide it."""
    method, section = method_of(ctx, system), ctx.config.pretrain
    shared = method.speech == "all" and section.all_training is not None
    key = "all_training" if shared else "training"
    where = f"pretrain.methods.{system.method}.training"
    return own_training(getattr(section, key), method.training, f"pretrain.{key}", where)


def _training(ctx: Context, system: System) -> Task:
    place, method, teacher = system.directory(ctx), method_of(ctx, system), teacher_of(ctx, system)
    names, valid = sources_of(ctx, method)
    inputs = [*cache_files(ctx, *names.values()), ctx.dump / "mixtures" / valid / "specs.jsonl"]
    reads = ["seed", "sample_rate", *MIXING, model_of(ctx, system)[1], f"pretrain.methods.{system.method}"]
    reads += training_of(ctx, system)[1]
    if needs_predictor(method):
        if not ctx.config.snr_predictor.model:
            raise PseError(
                f"method {system.method} weights its frames by the SNR predictor, and there is none",
                "snr_predictor.model", "name a model, e.g. conf/models/snr_predictor_small.yaml",
            )
        inputs += predictor.trained(ctx)
        reads.append("snr_predictor.model")
    if teacher is not None:
        inputs += trained(ctx, teacher)
        reads.append(model_of(ctx, teacher)[1])

    def run(config: Any) -> None:
        train_system(ctx, config, system, names, valid)

    def cost_s() -> float:
        from pse.recipe.personal.training import cost_s

        return cost_s(ctx, system, training_of(ctx, system)[0])

    facts = {"sources": names} | ({} if system.seed is None else {"seed of this training": system.seed})
    return Task(
        system.name, "pretrain", tuple(reads), tuple(inputs), (place / "best.json",), ctx.exp, run,
        made_by="snr_predictor" if needs_predictor(method) else "features", facts=facts,
        wave=0 if teacher is None else 1, own_process=True, place=place, cost_s=cost_s,
    )


def train_system(ctx: Context, config: Any, system: System, names: dict[str, str], valid: str) -> None:
    """Train one system in its directory."""
    from pse.data.cache import select, some_minutes
    from pse.data.fixed import FixedMixtures, open_sources
    from pse.data.speed import SpeedCache
    from pse.recipe.personal.training import fit, make_objective, make_sampler

    method, where = method_of(ctx, system), f"pretrain.methods.{system.method}"
    sources = open_sources(ctx.dump, names)
    if method.speeds != [1.0]:
        sources = replace(sources, speech=SpeedCache(sources.speech, method.speeds))
    ids = select(sources.speech, None if system.speaker is None else [system.speaker])
    if method.minutes is not None:
        ids = some_minutes(sources.speech, ids, method.minutes)
    fixed = FixedMixtures(ctx.dump, valid)
    specs = fixed.specs if system.speaker is None else fixed.of_speaker(system.speaker)
    sampler = make_sampler(
        config, sources, ids, "pretrain", seed_of(ctx, system), premixture_snr_db=method.premixture_snr_db
    )
    objective = make_objective(method.objective, where, sampler, fixed.render(specs), _helper(ctx, config, system))
    fit(ctx, system, objective, training_of(ctx, system)[0], method.objective)


def _helper(ctx: Context, config: Any, system: System) -> Any:
    """The frozen network that the objective asks, where there is one."""
    from pse.recipe.personal.training import load_system

    if needs_predictor(method_of(ctx, system)):
        return predictor.load_predictor(ctx, config.snr_predictor.model)
    teacher = teacher_of(ctx, system)
    return None if teacher is None else load_system(ctx, teacher)
