"""Stage enhance: every condition separates every test set."""

from __future__ import annotations

from collections import defaultdict
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
    is_clustered,
    method_of,
    model_of,
    noise_files,
    stage_of,
    trained,
)
from pse.recipe.stage import Task

# (description, scene, number of speakers) -> estimates [S, T], and what is known of the clusters beside them.
Separator = Callable[[Any, Any, int], Any]


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
    inputs += noise_files(ctx, ctx.config.mixture.tests[test].conditions, "noise_test")
    reads = [f"mixture.tests.{test}", "sample_rate"]
    if method_of(ctx, system).baseline is None:
        reads.append(model_of(ctx, system)[1])
    else:
        reads.append(f"{stage_of(ctx, system.method)}.methods.{system.method}.baseline")
        inputs += cache_files(ctx, "train")
    if condition.clustering is not None:
        reads.append(f"separate.clustering.{condition.clustering}")
    if count.decides(ctx, condition):
        inputs.append(count.found_in(ctx, count.counted_by(ctx, system)))

    def run(config: Any) -> None:
        separate_set(ctx, config, condition, test)

    made_by = "features" if method_of(ctx, system).objective is None else stage_of(ctx, system.method)
    return Task(
        f"{test}.{condition.name}", "enhance", tuple(dict.fromkeys(reads)), tuple(inputs), (place / "spk1.scp",),
        ctx.exp, run, made_by=made_by, wave=1, own_process=True, brief=True,
    )  # fmt: skip


def separate_set(ctx: Context, config: Any, condition: Condition, test: str) -> None:
    """Write exp/<tag>/enhanced_<set>/<condition>/{wav/<id>_<n>.wav, spk<n>.scp}: estimates in no order.

    clusters.jsonl says what is known of a mixture's clusters, where there are any.
    """
    import time

    import torch

    from pse.io import audio
    from pse.io.atomic import write_text, writing_dir
    from pse.io.jsonl import write_jsonl
    from pse.io.tables import render
    from pse.recipe.separation.mixtures import TestSet

    mixtures, target = TestSet(ctx, test), place_of(ctx, condition, test)
    num_speakers = ctx.config.mixture.tests[test].num_speakers
    split, start, audio_s = separator(ctx, config, condition, test), time.monotonic(), 0.0
    scp: dict[int, dict[str, str]] = defaultdict(dict)
    clusters = []
    with writing_dir(target) as new, torch.inference_mode():
        for done, (spec, scene) in enumerate(mixtures.scenes(), 1):
            wavs, told = split(spec, scene, num_speakers)
            for n, wav in enumerate(wavs, 1):
                name = f"{spec.id}_{n}.wav"
                audio.write(new / "wav" / name, wav, config.sample_rate)
                scp[n][spec.id] = str((target / "wav" / name).absolute())
            if told:
                clusters.append({"id": spec.id, **told})
            audio_s += spec.num_samples / config.sample_rate
            if done % 100 == 0:
                print(f"{condition.name} on {test}: {done}/{len(mixtures.specs)}", flush=True)
        for n, entries in scp.items():
            write_text(new / f"spk{n}.scp", render("wav.scp", entries))
        if clusters:
            write_jsonl(new / "clusters.jsonl", clusters)
    rate = audio_s / (time.monotonic() - start)
    print(f"{condition.name} on {test}: {len(mixtures.specs)} mixtures, {rate:.0f} times real time", flush=True)
    if more := sum("note" in told for told in clusters):
        told = f"{more} of them have a note in clusters.jsonl, e.g. {next(t['note'] for t in clusters if 'note' in t)}"
        print(f"{condition.name} on {test}: {told}", flush=True)


def separator(ctx: Context, config: Any, condition: Condition, test: str) -> Separator:
    """What separates a mixture of a test set in this condition."""
    from pse.recipe.separation.separators import baseline_separator, model_separator

    method = method_of(ctx, condition.system)
    if method.baseline is not None:
        return baseline_separator(ctx, config, method.baseline, ctx.config.mixture.tests[test].speech)
    from pse.recipe.fitting import load

    net = load(model_of(ctx, condition.system), directory(ctx, condition.system))
    how = None if condition.clustering is None else count.calibrated(ctx, condition)
    return model_separator(ctx, net, how, is_clustered(ctx, condition.system))
