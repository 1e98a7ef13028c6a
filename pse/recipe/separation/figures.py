"""Figures of the paper's kind: embeddings beside the ideal mask, for pairs by sex and for three speakers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from pse.recipe.options import Context
from pse.recipe.separation.layout import Condition, directory, gives_embeddings, model_of, rows, trainings, voices

WANTED = ("FF", "FM", "MM")


def embeddings(ctx: Context, test: str, order: list[str]) -> list[Any]:
    """Pictures of the first mixture of each pair of sexes, by the best condition that no oracle helps."""
    from pse.recipe.separation.mixtures import TestSet
    from pse.scoring.report import Picture

    found = rows(ctx, test)
    usable = next((c for c in (found[n][0] for n in order) if _is_usable(ctx, c)), None)
    if usable is None:
        return []
    mixtures, spoken = TestSet(ctx, test), voices(ctx, ctx.config.mixture.tests[test].speech)
    chosen: dict[str, Any] = {}
    for spec in mixtures.specs:
        chosen.setdefault(spoken.sexes(spec), spec)
    many = ctx.config.mixture.tests[test].num_speakers > 2
    names = list(chosen)[:1] if many else [s for s in WANTED if s in chosen]
    pictures = []
    for name in names:
        path = ctx.exp / "images" / f"embeddings_{test}_{name}.png"
        title = f"{chosen[name].id}, speakers {name}, {usable.row}"
        png = _draw(ctx, usable, chosen[name], mixtures, title, path)
        pictures.append(Picture(png, f"Spectrogram, embeddings, ideal mask and clusters of {title}"))
    return pictures


def by_time(ctx: Context) -> list[Any]:
    """What the networks that are trained from the start separate of validation, against minutes of training.

    These are of its median speed: a training that stood still, or shared its processor for a while, was not slower.
    """
    from pse.io.jsonl import read_jsonl
    from pse.scoring.plots import trends
    from pse.scoring.report import Picture

    series: dict[str, list[tuple[float, float, None]]] = {}
    for system in trainings(ctx, "pretrain"):
        path = directory(ctx, system) / "metrics.jsonl"
        lines = read_jsonl(path) if path.is_file() else []
        lines = [x for x in lines if "valid_si_sdr_i_db" in x]
        if len(lines) > 1 and system.seed is None:
            gains = (x["valid_si_sdr_i_db"] for x in lines)
            series[system.name] = [(t, gain, None) for t, gain in zip(minutes(lines), gains, strict=True)]
    if not series:
        return []
    path = ctx.exp / "images" / "gain_by_time.png"
    png = trends(series, "minutes of training at its median speed", "SI-SDR improvement of validation (dB)", path=path)
    return [Picture(png, "SI-SDR improvement of validation against minutes of training")]


def minutes(lines: Sequence[Mapping[str, Any]]) -> list[float]:
    """When so many examples were seen, at the median speed of all stretches between two lines of a metrics.jsonl."""
    stretches = pairwise((x["examples"], x["seconds"]) for x in lines)
    speeds = [(t - s) / (b - a) for (a, s), (b, t) in stretches if b > a]
    return [median(speeds) * x["examples"] / 60 for x in lines]


def masks(estimates: Any, sources: Any, mix: Any, sample_rate: int, what: str) -> Any:
    """A picture of what part of a mixture each estimate [S, T] has, above that of each source [S, T]."""
    import numpy as np
    import torch

    from pse.dsp.stft import speech_stft
    from pse.scoring.plots import masks as drawn
    from pse.scoring.report import Picture

    transform = speech_stft(sample_rate)
    found = {"separated": estimates, "true": sources}
    rows = {k: transform.stft(torch.from_numpy(np.asarray(v, np.float32))).abs().numpy() for k, v in found.items()}
    mixture = transform.stft(torch.from_numpy(np.asarray(mix, np.float32)[None]))[0]
    levels = 20 * mixture.abs().clamp_min(1e-6).log10().numpy()
    png = drawn(rows, levels, np.shape(sources)[-1] / sample_rate, sample_rate / 2)
    return Picture(png, f"Masks: {what}, as separated and in truth")


def _is_usable(ctx: Context, condition: Condition) -> bool:
    way = condition.clustering
    if way is None or not gives_embeddings(ctx, condition.system):
        return False
    how = ctx.config.separate.clustering[way]
    return not how.needs_sources and how.count == "known" and _is_of_bins(ctx, condition)


def _is_of_bins(ctx: Context, condition: Condition) -> bool:
    """Whether there is an embedding a bin, so that it can be drawn beside the spectrogram."""
    from pse.models.base import build

    net = build(*model_of(ctx, condition.system))
    return net.node_shape == (1, 1) and not net.slots


def _draw(ctx: Context, condition: Condition, spec: Any, mixtures: Any, title: str, path: Any) -> bytes:
    import torch

    from pse.clustering.masks import permutations, permuted
    from pse.inference.clustering import cluster_masks
    from pse.losses.activity import activity, dominant_source
    from pse.models.base import measure_level
    from pse.recipe.fitting import load
    from pse.scoring.plots import embeddings as drawn

    net = load(model_of(ctx, condition.system), directory(ctx, condition.system))
    scene = mixtures.scene(spec)
    sources, mix = torch.from_numpy(scene.sources), torch.from_numpy(scene.mix)[None]
    with torch.inference_mode():
        spectra = net.transform.stft(torch.cat([mix, sources]) / measure_level(mix, net.normalize))[None]
        vectors = net(mix).embeddings
        how = ctx.config.separate.clustering[condition.clustering]
        masks = cluster_masks(vectors, spectra[:, 0], len(sources), how, [spec.id])
        masks = permuted(masks, permutations(masks, spectra[:, 0], spectra[:, 1:]))
        active = activity(spectra[:, 1:].abs())[0]
        ideal = dominant_source(spectra[:, 1:].abs())[0].argmax(0)
        labels = [torch.where(active, x, -1).numpy() for x in (ideal, masks[0].argmax(0))]
    levels = 20 * spectra[0, 0].abs().clamp_min(1e-6).log10().numpy()
    seconds, top_hz = spec.num_samples / mixtures.sample_rate, mixtures.sample_rate / 2
    return drawn(levels, *labels, vectors[0].double().numpy(), seconds, top_hz, title, path=path)
