"""Stage finetune: few-shot supervised training with D seconds of the speaker's clean speech."""

from __future__ import annotations

from typing import Any

from pse.recipe.options import Context
from pse.recipe.personal.layout import (
    MIXING,
    System,
    cache_files,
    finetuned,
    model_of,
    seed_of,
    start_of,
    trained,
)
from pse.recipe.stage import Task


def tasks(ctx: Context) -> list[Task]:
    """One short training for every start, speaker and number of seconds."""
    return [_training(ctx, s) for s in finetuned(ctx)]


def _training(ctx: Context, system: System) -> Task:
    place, start = system.directory(ctx), start_of(ctx, system)
    caches = cache_files(ctx, "target_train", "target_val", "noise_train", "noise_valid")
    inputs = (*(trained(ctx, start) if start else ()), *caches)

    def run(config: Any) -> None:
        train_system(ctx, config, system)

    def cost_s() -> float:
        from pse.recipe.personal.training import cost_s

        return cost_s(ctx, system, ctx.config.finetune.training)

    reads = (
        "seed", "sample_rate", *MIXING, "mixture.num_valid", model_of(ctx, system)[1], "finetune.objective",
        "finetune.training",
    )  # fmt: skip
    return Task(
        system.name, "finetune", reads, inputs, (place / "best.json",), ctx.exp, run, made_by="pretrain",
        facts={} if system.seed is None else {"seed of this training": system.seed}, own_process=True, place=place,
        cost_s=cost_s,
    )


def train_system(ctx: Context, config: Any, system: System) -> None:
    """Fine-tune one system; what selects the model is also at most D seconds of clean speech."""
    from pse.data.cache import AudioCache, first_seconds
    from pse.data.mixture import Sources
    from pse.recipe.personal.training import fit, make_objective, make_sampler

    given = {}
    for role, speech, noise in (("train", "target_train", "noise_train"), ("val", "target_val", "noise_valid")):
        cache = AudioCache(ctx.dump / speech)
        # The published rule: validation speech is cut to D seconds too, there is no more of it.
        clip = first_seconds(cache, system.speaker, system.clean_s)
        sources = Sources(clip, AudioCache(ctx.dump / noise))
        longest = clip.num_samples[clip.ids[0]]
        # What selects the model is the same for every seed.
        seed = seed_of(ctx, system) if role == "train" else config.seed
        given[role] = make_sampler(config, sources, clip.ids, f"finetune-{role}", seed, longest)
        if role == "train" and longest < system.clean_s * cache.sample_rate:
            print(f"{system.name}: all {longest / cache.sample_rate:.1f} s of clean speech are used", flush=True)
    valid = ((given["val"].spec(i), given["val"].render(i)) for i in range(config.mixture.num_valid))
    objective = make_objective(config.finetune.objective, "finetune.objective", given["train"], valid)
    fit(ctx, system, objective, config.finetune.training, config.finetune.objective, start_of(ctx, system))
