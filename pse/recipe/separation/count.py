"""How many speakers there are, told from the embeddings: a part of stage enhance, with a confusion table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pse.recipe.options import Context
from pse.recipe.separation.layout import (
    System,
    cache_files,
    directory,
    gives_embeddings,
    model_of,
    systems,
    trained,
    valid_speech,
    voices,
)
from pse.recipe.stage import Task

# Values that a threshold is chosen from, on validation speech.
GRID = [round(0.01 * i, 2) for i in range(1, 61)]
READ_OFF: dict[str, Callable[[list[float], float], int]] = {
    "eigenvalues": lambda curve, threshold: max(1, sum(v >= threshold for v in curve)),
    "silhouette": lambda curve, threshold: 1 + max(range(len(curve)), key=lambda c: threshold if c == 0 else curve[c]),
}


def tasks(ctx: Context) -> list[Task]:
    """One task an embedding system, where estimators are named."""
    if not ctx.config.count.estimators:
        return []
    return [_task(ctx, s) for s in systems(ctx) if gives_embeddings(ctx, s) and s.seed is None]


def found_in(ctx: Context, system: System) -> Path:
    """Where the counts of a system lie."""
    return ctx.exp / "count" / f"{system.name}.json"


def _task(ctx: Context, system: System) -> Task:
    target = found_in(ctx, system)

    def run(config: Any) -> None:
        from pse.io.jsonl import write_json

        counted = {part: list(_counted(ctx, config, system, part)) for part in (valid_speech(ctx), "open")}
        made = {e: _confusion(counted[valid_speech(ctx)], counted["open"], e) for e in config.count.estimators}
        write_json(target, made)
        told = ", ".join(f"{name} {100 * m['accuracy']:.0f} %" for name, m in made.items())
        print(f"{system.name}: number of speakers is right for {told}, n = {len(counted['open'])}", flush=True)

    inputs = (*trained(ctx, system), *cache_files(ctx, valid_speech(ctx), "open"))
    mixing = ("mixture.seed", "mixture.spread_db", "mixture.max_duration_s")
    reads = ("count", *mixing, "sample_rate", model_of(ctx, system)[1])
    return Task(
        f"count.{system.name}", "enhance", reads, inputs, (target,), ctx.exp, run, made_by="pretrain",
        own_process=True, brief=True,
    )  # fmt: skip


def _counted(ctx: Context, config: Any, system: System, part: str) -> Iterator[tuple[int, dict[str, tuple[int, Any]]]]:
    """(true number, estimator -> (its number, its curve)) of mixtures of 1 to max_count speakers."""
    import torch

    from pse.clustering.count import count_sources
    from pse.data.speech_mixture import SpeakerSampler
    from pse.losses.activity import THRESHOLD_DB, activity, bins, points
    from pse.models.base import measure_level
    from pse.recipe.fitting import load

    net, spoken = load(model_of(ctx, system), directory(ctx, system)), voices(ctx, part)
    longest = round(config.mixture.max_duration_s * config.sample_rate)
    for count in range(1, config.count.max_count + 1):
        sampler = SpeakerSampler(
            spoken, longest, config.mixture.seed, f"count-{count}", (count,), spread_db=config.mixture.spread_db,
            whole=True,
        )  # fmt: skip
        for number in range(config.count.num_mixtures):
            mix = torch.from_numpy(sampler.render(number).sum(0))[None]
            spectrum = net.transform.stft(mix / measure_level(mix, net.normalize))
            active = activity(spectrum.abs()[:, None], spectrum.abs(), rule="mixture", threshold_db=THRESHOLD_DB)
            vectors, weights = points(net(mix).embeddings), bins(active).float()
            found = {}
            for name in config.count.estimators:
                told = count_sources(name, vectors, weights, config.count.max_count)
                found[name] = (int(told.count), told.curve[0].tolist())
            yield count, found


def _confusion(valid: list[Any], tested: list[Any], name: str) -> dict[str, Any]:
    """Confusion table (true -> how often each number was told) and accuracy, with a threshold chosen on `valid`."""
    threshold, read_off = None, READ_OFF.get(name)
    if read_off is not None:
        right = {t: sum(read_off(f[name][1], t) == c for c, f in valid) for t in GRID}
        best = [t for t in GRID if right[t] == max(right.values())]
        threshold = best[len(best) // 2]
    def told_right(mixtures: list[Any]) -> tuple[list[int], float]:
        told = [f[name][0] if read_off is None else read_off(f[name][1], threshold) for _, f in mixtures]
        return told, sum(t == c for t, (c, _) in zip(told, mixtures, strict=True)) / len(mixtures)

    counts = [c for c, _ in tested]
    told, accuracy = told_right(tested)
    pairs = Counter(zip(counts, told, strict=True))
    table = {str(c): [pairs[c, k] for k in range(1, max(*counts, *told) + 1)] for c in sorted(set(counts))}
    on_valid = told_right(valid)[1]
    return {"threshold": threshold, "accuracy": accuracy, "accuracy_on_validation": on_valid, "told": table}


def best_estimator(found: dict[str, Any]) -> dict[str, Any] | None:
    """The estimator that is right most often on validation, of what a task of this module wrote, and its threshold."""
    if not found:
        return None
    name = max(found, key=lambda e: found[e]["accuracy_on_validation"])
    return {"estimator": name, "threshold": found[name]["threshold"]}
