"""Stage enhance: every condition separates every test set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pse.recipe.options import Context
from pse.recipe.separation import count
from pse.recipe.separation.layout import (
    Condition,
    applies,
    cache_files,
    conditions,
    directory,
    gives_embeddings,
    method_of,
    model_of,
    stage_of,
    trained,
)
from pse.recipe.stage import Task

# Estimates [S, T] of a mixture: of its samples [T], its sources [S, T], its id and its utterances.
Separator = Callable[[Any, Any, Any], Any]


def tasks(ctx: Context) -> list[Task]:
    """One task a condition and test set; the number of speakers, where it is asked for."""
    made = []
    for test, wanted in ctx.config.mixture.tests.items():
        made += [_task(ctx, c, test, wanted.speech) for c in conditions(ctx) if applies(ctx, c, test)]
    return [*made, *count.tasks(ctx)]


def place_of(ctx: Context, condition: Condition, test: str) -> Path:
    """Where the separated speech of a condition on a set lies."""
    return ctx.exp / f"enhanced_{test}" / condition.name


def _task(ctx: Context, condition: Condition, test: str, speech: str) -> Task:
    place, system = place_of(ctx, condition, test), condition.system
    specs = ctx.dump / "mixtures" / test / "specs.jsonl"
    inputs = [*trained(ctx, system), specs, *cache_files(ctx, speech)]
    reads = [f"mixture.tests.{test}", "sample_rate"]
    if method_of(ctx, system).objective is not None:
        reads.append(model_of(ctx, system)[1])
    else:
        reads.append(f"{stage_of(ctx, system.method)}.methods.{system.method}.baseline")
        inputs += cache_files(ctx, "train")
    if condition.clustering is not None:
        reads.append(f"separate.clustering.{condition.clustering}")

    def run(config: Any) -> None:
        separate_set(ctx, config, condition, test)

    made_by = "features" if method_of(ctx, system).objective is None else stage_of(ctx, system.method)
    return Task(
        f"{test}.{condition.name}", "enhance", tuple(dict.fromkeys(reads)), tuple(inputs), (place / "spk1.scp",),
        ctx.exp, run, made_by=made_by, own_process=True, brief=True,
    )  # fmt: skip


def separate_set(ctx: Context, config: Any, condition: Condition, test: str) -> None:
    """Write exp/<tag>/enhanced_<set>/<condition>/{wav/<id>_<n>.wav, spk<n>.scp}: estimates in no order."""
    import time

    import torch

    from pse.data.fixed import FixedMixtures
    from pse.data.speech_mixture import render_sources
    from pse.io import audio
    from pse.io.atomic import write_text, writing_dir
    from pse.io.tables import render

    mixtures, target = FixedMixtures(ctx.dump, test), place_of(ctx, condition, test)
    num_speakers = ctx.config.mixture.tests[test].num_speakers
    split, start, audio_s = separator(ctx, config, condition, test), time.monotonic(), 0.0
    scp: list[dict[str, str]] = [{} for _ in range(num_speakers)]
    with writing_dir(target) as new, torch.inference_mode():
        for done, spec in enumerate(mixtures.specs, 1):
            wavs = split(spec, render_sources(spec, mixtures.sources.speech), num_speakers)
            for n, wav in enumerate(wavs):
                name = f"{spec.id}_{n + 1}.wav"
                audio.write(new / "wav" / name, wav, config.sample_rate)
                scp[n][spec.id] = str((target / "wav" / name).absolute())
            audio_s += spec.num_samples / config.sample_rate
            if done % 100 == 0:
                print(f"{condition.name} on {test}: {done}/{len(mixtures.specs)}", flush=True)
        for n, entries in enumerate(scp, 1):
            write_text(new / f"spk{n}.scp", render("wav.scp", entries))
    rate = audio_s / (time.monotonic() - start)
    print(f"{condition.name} on {test}: {len(mixtures.specs)} mixtures, {rate:.0f} times real time", flush=True)


def separator(ctx: Context, config: Any, condition: Condition, test: str) -> Separator:
    """What separates a mixture of a test set in this condition."""
    from pse.recipe.separation.separators import baseline_separator, model_separator

    method = method_of(ctx, condition.system)
    if method.baseline is not None:
        return baseline_separator(ctx, config, method.baseline, ctx.config.mixture.tests[test].speech)
    from pse.recipe.fitting import load

    net = load(model_of(ctx, condition.system), directory(ctx, condition.system))
    how = None if condition.clustering is None else ctx.config.separate.clustering[condition.clustering]
    return model_separator(ctx, net, how, gives_embeddings(ctx, condition.system))
