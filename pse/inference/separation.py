"""Separate audio of any rate and length: as many signals come out as there are speakers.

Embeddings of a long recording do not fit into memory, so it is worked on in chunks: a first pass keeps
some active bins of each, which are clustered once for all, and a second one assigns every bin to the
nearest centroid. So a speaker stays the same one from the first minute to the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pse.clustering.count import MAX_COUNT, count_sources
from pse.clustering.kmeans import assign, drawn, enough, fit, generator
from pse.clustering.masks import binary_masks
from pse.errors import PseError
from pse.inference.clustering import masked
from pse.io.audio import resample
from pse.losses.activity import THRESHOLD_DB, bins, points, unflattened
from pse.losses.pit import pit, reordered
from pse.models.base import device_of, measure_level

# Of a chunk; the context on each side is for the network alone, and lets it begin anew.
CHUNK_S, CONTEXT_S = 30.0, 1.0
# Bins of all chunks together that the centroids are made of.
MOST_BINS = 200_000
ESTIMATOR = "silhouette"
Tell = Callable[[float], None]


class Chunk(NamedTuple):
    """A stretch of the level-normalised signal: where it starts, and which samples of it are kept."""

    mix: Tensor
    start: int
    first: int
    last: int


@torch.inference_mode()
def separate(
    model: Any,
    samples: np.ndarray,
    sample_rate: int,
    num_speakers: int | None = None,
    estimator: str | None = None,
    progress: Tell | None = None,
) -> np.ndarray:
    """The speakers [S, T] of a recording [T] at sample_rate Hz; num_speakers None: counted from the embeddings.

    estimator: of pse.clustering.count; None: what the model's package names, with the threshold that was best
    for it, or the silhouette. progress: is told the part that is done, after every 30 s of audio.
    A model with masks of its own gives as many signals as it was trained on; where it has embeddings too, it
    separates other numbers by clusters of these. Raises PseError for another number of axes, NaN or
    infinity, fewer than two speakers, and a model that cannot give as many.
    """
    _check(samples, num_speakers)
    if not len(samples):
        return np.zeros((num_speakers or 1, 0), np.float32)
    inside = torch.from_numpy(resample(samples.astype(np.float32, copy=False), sample_rate, model.sample_rate))
    inside = inside.to(device_of(model))
    level = measure_level(inside[None], model.normalize)[0, 0]
    chunks = list(_chunks(model, inside / level))
    tried = model(chunks[0].mix[None, : model.sample_rate])
    tell = progress or (lambda done: None)
    if tried.embeddings is None or (tried.wavs is not None and num_speakers in (None, tried.wavs.shape[1])):
        parts = _waves(model, chunks, num_speakers, tell)
    else:
        parts = _clustered(model, chunks, num_speakers, estimator, tell)
    whole = (level * torch.cat(parts, 1)).cpu()
    back = np.stack([resample(s, model.sample_rate, sample_rate) for s in whole.numpy()])
    return np.pad(back, ((0, 0), (0, max(0, len(samples) - back.shape[1]))))[:, : len(samples)]


def _check(samples: np.ndarray, num_speakers: int | None) -> None:
    if samples.ndim != 1:
        raise PseError(f"audio of shape {samples.shape} was given, [T] is needed", "separate", "mix it to mono")
    if not np.isfinite(samples).all():
        raise PseError("the audio holds NaN or infinite samples", "separate", "export it again")
    if num_speakers is not None and num_speakers < 2:
        fix = "give 2 or more, or none to count them"
        raise PseError(f"{num_speakers} speaker cannot be separated", "separate", fix)


def _chunks(model: Any, samples: Tensor) -> Iterator[Chunk]:
    """Chunks of whole hops, with context."""
    hop = model.transform.hop if hasattr(model, "transform") else 1
    size, context = (round(s * model.sample_rate / hop) * hop for s in (CHUNK_S, CONTEXT_S))
    for begin in range(0, len(samples), size):
        start, end = max(0, begin - context), min(len(samples), begin + size)
        yield Chunk(samples[start : end + context], start, begin - start, end - start)


def _told(chunks: list[Chunk], tell: Tell, passes: int = 1, number: int = 0) -> Iterator[tuple[int, Chunk]]:
    """The chunks of one pass of several, by number; what is done is told after each."""
    for n, chunk in enumerate(chunks):
        yield n, chunk
        tell((number + (n + 1) / len(chunks)) / passes)


def _waves(model: Any, chunks: list[Chunk], num_speakers: int | None, tell: Tell) -> list[Tensor]:
    """What a model of masks gives; the signals of a chunk come in the order that goes on best."""
    parts: list[Tensor] = []
    before = chunks[0].mix
    for number, chunk in _told(chunks, tell):
        wavs = model(chunk.mix[None]).wavs[0].float()
        if num_speakers not in (None, len(wavs)):
            what = f"{num_speakers} speakers are asked of a model of {len(wavs)}"
            raise PseError(what, "separate", "leave the number out, or take a model of embeddings")
        if number:
            # The two chunks overlap by their context.
            tail = before[:, chunk.start - chunks[number - 1].start :]
            cost = (wavs[:, None, : tail.shape[1]] - tail).square().mean(-1)
            wavs = reordered(wavs[None], pit(cost[None])[1])[0]
        before = wavs
        parts.append(wavs[:, chunk.first : chunk.last])
    return parts


def _clustered(
    model: Any, chunks: list[Chunk], num_speakers: int | None, estimator: str | None, tell: Tell
) -> list[Tensor]:
    """Masked mixtures, by centroids of bins of the whole recording."""
    loudest = max(float(model.transform.stft(c.mix[None]).abs().max()) for c in chunks)
    threshold, share = loudest * 10 ** (THRESHOLD_DB / 20), MOST_BINS // len(chunks) + 1
    least = num_speakers or MAX_COUNT
    found = [_some_bins(model, c, threshold, generator(0, str(n)), share, least) for n, c in _told(chunks, tell, 2)]
    vectors, weights = (torch.cat(x)[None] for x in zip(*found, strict=True))
    weights = enough(weights, least)
    count = num_speakers or _counted(model, vectors, weights, estimator)
    centroids = fit(vectors, count, weights)
    return [_masked_by(model, c, centroids)[:, c.first : c.last] for _, c in _told(chunks, tell, 2, 1)]


def _counted(model: Any, vectors: Tensor, weights: Tensor, estimator: str | None) -> int:
    named = None if estimator else getattr(model, "counting", None)
    found = named or {"estimator": estimator or ESTIMATOR, "threshold": None}
    return int(count_sources(found["estimator"], vectors, weights, threshold=found["threshold"]).count)


def _some_bins(
    model: Any, chunk: Chunk, threshold: float, random: torch.Generator, most: int, least: int
) -> tuple[Tensor, Tensor]:
    """At most so many embeddings [N, D] of active bins of a chunk, and weights [N] of 1.

    Of a chunk with fewer than `least` active bins, so many bins, of which the quiet ones have weight 0.
    """
    vectors = points(model(chunk.mix[None]).embeddings)[0]
    active = bins(model.transform.stft(chunk.mix[None]).abs() > threshold)[0]
    rows = active.nonzero().squeeze(1)
    if len(rows) < least:
        return vectors[:least], active[:least].float()
    rows = drawn(rows, most, random)
    return vectors[rows], vectors.new_ones(len(rows))


def _masked_by(model: Any, chunk: Chunk, centroids: Tensor) -> Tensor:
    """Signals [S, T] of a chunk, each bin of the speaker with the nearest centroid."""
    spectrum = model.transform.stft(chunk.mix[None])
    labels = unflattened(assign(points(model(chunk.mix[None]).embeddings), centroids), spectrum.shape[1])
    masks = binary_masks(labels, centroids.shape[1])
    return masked(spectrum, masks, model.transform, len(chunk.mix))[0]

