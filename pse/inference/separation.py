"""Separate audio of any rate and length: as many signals come out as there are speakers.

Embeddings of a long recording do not fit into memory, so it is worked on in chunks: a first pass keeps
some active nodes of each, which are clustered once for all, and a second one gives every node to its speaker.
So a speaker stays the same one from the first minute to the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pse.clustering.count import MAX_COUNT
from pse.clustering.options import MOST_SPEAKERS
from pse.errors import PseError
from pse.inference.counting import Counting, counting_of
from pse.inference.recording import Chunk, as_counted, as_known, embedding_net, sampled, separated
from pse.io.audio import resample
from pse.losses.activity import THRESHOLD_DB
from pse.losses.pit import pit, reordered
from pse.models.base import device_of, measure_level

# Of a chunk; the context on each side is for the network alone, and lets it begin anew.
CHUNK_S, CONTEXT_S = 30.0, 1.0
Tell = Callable[[float], None]


class Separated(NamedTuple):
    """Signals [S, T], and what told how many speakers there are; None where that was given.

    note: what is to be said of the number, e.g. that there may be more.
    """

    wavs: np.ndarray
    counted_by: str | None
    note: str | None = None


@torch.inference_mode()
def separate(
    model: Any,
    samples: np.ndarray,
    sample_rate: int,
    num_speakers: int | Literal["auto"] | None = None,
    estimator: str | None = None,
    progress: Tell | None = None,
) -> Separated:
    """The speakers [S, T] of a recording [T] at sample_rate Hz; num_speakers None: counted from the embeddings.

    estimator: of pse.clustering.count, or communities; None: what the model's package names, as it was calibrated, or
    the silhouette. progress: is told the part that is done, after every 30 s of
    audio. One speaker who is found is the recording as it is.
    A model with masks of its own gives as many signals as it was trained on; where it has embeddings too, it
    separates other numbers by clusters of these. One that refines does so with any number. Raises PseError for another
    number of axes, NaN or infinity, fewer than two speakers, and a model that cannot give as many.
    """
    num_speakers = None if num_speakers == "auto" else num_speakers
    _check(samples, num_speakers)
    samples = samples.astype(np.float32, copy=False)
    if not len(samples):
        return Separated(np.zeros((num_speakers or 1, 0), np.float32), None)
    inside = torch.from_numpy(resample(samples, sample_rate, model.sample_rate)).to(device_of(model))
    level = measure_level(inside[None], model.normalize)[0, 0]
    chunks = list(_chunks(model, inside / level))
    tried = embedding_net(model)(chunks[0].mix[None, : model.sample_rate])
    tell = progress or (lambda done: None)
    counted_by = note = None
    if tried.embeddings is None or (tried.wavs is not None and num_speakers in (None, tried.wavs.shape[1])):
        parts = _waves(model, chunks, num_speakers, tell)
        counted_by = None if num_speakers else "the model, which was trained on as many"
    else:
        counting = None if num_speakers else _counting(model, estimator)
        counted_by = None if counting is None else counting.name
        parts, note = _clustered(model, chunks, num_speakers, counting, tell)
    if not parts:
        return Separated(samples[None].copy(), counted_by, note)
    # In place, and without the parts: of hours of many speakers each copy counts.
    back = torch.cat(parts, 1).mul_(level).cpu().numpy()
    parts.clear()
    if model.sample_rate != sample_rate:
        back = np.stack([resample(s, model.sample_rate, sample_rate) for s in back])
    if missing := max(0, len(samples) - back.shape[1]):
        back = np.pad(back, ((0, 0), (0, missing)))
    return Separated(back[:, : len(samples)], counted_by, note)


def _counting(model: Any, estimator: str | None) -> Counting:
    named = None if estimator else getattr(model, "counting", None)
    return counting_of(named or ({"estimator": estimator} if estimator else {}), "separate")


def _check(samples: np.ndarray, num_speakers: int | None) -> None:
    if samples.ndim != 1:
        raise PseError(f"audio of shape {samples.shape} was given, [T] is needed", "separate", "mix it to mono")
    if not np.isfinite(samples).all():
        raise PseError("the audio holds NaN or infinite samples", "separate", "export it again")
    known = num_speakers is None or isinstance(num_speakers, int | np.integer)
    if not known or not (num_speakers is None or 2 <= num_speakers <= MOST_SPEAKERS):
        who = "speaker" if num_speakers == 1 else "speakers"
        fix = f"give 2 to {MOST_SPEAKERS}, or 'auto' to count them"
        raise PseError(f"{num_speakers!r} {who} cannot be separated", "separate", fix)


def _chunks(model: Any, samples: Tensor) -> Iterator[Chunk]:
    """Chunks of whole nodes, with context."""
    hop = model.transform.hop if hasattr(model, "transform") else 1
    unit = hop * getattr(model, "node_shape", (1, 1))[1]
    size, context = (max(1, round(s * model.sample_rate / unit)) * unit for s in (CHUNK_S, CONTEXT_S))
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
    model: Any, chunks: list[Chunk], num_speakers: int | None, counting: Counting | None, tell: Tell
) -> tuple[list[Tensor], str | None]:
    """Masked mixtures, by nodes of the whole recording, none where one speaker is counted; what is to be said of it."""
    threshold_db = THRESHOLD_DB if counting is None else counting.threshold_db
    vectors, weights = sampled(
        embedding_net(model), _told(chunks, tell, 2), chunks, num_speakers or MAX_COUNT, threshold_db
    )  # fmt: skip
    if num_speakers:
        speakers = as_known(vectors, weights, num_speakers)
    else:
        speakers = as_counted(vectors, weights, counting, hasattr(model, "refine"))
    if speakers.count == 1:
        tell(1.0)
        return [], speakers.note
    parts = [separated(model, c, speakers)[:, c.first : c.last] for _, c in _told(chunks, tell, 2, 1)]
    return parts, speakers.note
