"""Who is who in a whole recording that is heard chunk by chunk: found once, on some nodes of every chunk.

All nodes of every chunk then go where these went, so that a speaker stays the same one throughout, and no more
than a chunk's embeddings are ever held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pse.clustering.communities import find
from pse.clustering.count import MAX_COUNT, count_sources
from pse.clustering.kmeans import distances, drawn, enough, fit, generator
from pse.clustering.masks import wiener
from pse.clustering.options import HARDNESS
from pse.inference.clustering import Nodes, masked
from pse.inference.counting import Counting
from pse.losses.activity import THRESHOLD_DB, bins, points, unflattened

# Nodes of all chunks together that speakers are found by, and nodes that are given theirs at a time.
MOST_NODES = 200_000
ROWS = 65_536


class Chunk(NamedTuple):
    """A stretch of the level-normalised signal: where it starts, and which samples of it are kept."""

    mix: Tensor
    start: int
    first: int
    last: int


@dataclass(frozen=True)
class Speakers:
    """How many there are, and which part of any nodes [N, D] each has: [N, S], rows sum to one.

    note: what a user is to be told of the number.
    """

    count: int
    shares: Callable[[Tensor], Tensor]
    note: str | None = None


def embedding_net(model: Any) -> Any:
    """What gives the embeddings of a model: itself, or the net whose clusters it refines."""
    return model.net if hasattr(model, "refine") else model


def sampled(
    net: Any,
    numbered: Iterable[tuple[int, Chunk]],
    chunks: list[Chunk],
    least: int,
    threshold_db: float = THRESHOLD_DB,
) -> tuple[Tensor, Tensor]:
    """Embeddings [N, D] of active nodes of all chunks, and weights [N] of 1.

    numbered: the chunks once more, each with its number. threshold_db: below the loudest node, what is quieter is not
    active. Of a chunk with fewer than `least` active nodes, so many nodes, of which the quiet ones have weight 0.
    """
    share, ratio = MOST_NODES // len(chunks) + 1, 10 ** (threshold_db / 20)
    # How loud slots are is known only as they are heard.
    loudest = 0.0 if getattr(net, "slots", 0) else max(_loudest(net, c) for c in chunks)
    found: list[tuple[Tensor, Tensor]] = []
    for number, chunk in numbered:
        spectrum, vectors, nodes = _heard(net, chunk)
        size = bins(nodes.magnitudes(spectrum))[0]
        loudest = max(loudest, float(size.max()))
        vectors, rows = points(vectors)[0], (size > loudest * ratio).nonzero().squeeze(1)
        if len(rows) < least:
            rows = torch.arange(min(least, len(vectors)), device=size.device)
        rows = drawn(rows, share, generator(0, str(number)))
        # A copy, which does not keep the whole chunk's.
        found.append((vectors.index_select(0, rows), size.index_select(0, rows)))
    vectors, sizes = (torch.cat(x) for x in zip(*found, strict=True))
    return vectors, (sizes > loudest * ratio).float()


def as_known(vectors: Tensor, weights: Tensor, count: int) -> Speakers:
    """So many clusters of vectors [N, D] with weights [N], by k-means; shares are by distance."""
    vectors, weights = _at_least(vectors, weights, count)
    centroids = fit(vectors[None], count, weights)

    def shares(given: Tensor) -> Tensor:
        return torch.softmax(-HARDNESS * distances(given[None], centroids)[0], 0).T

    return Speakers(count, shares)


def as_counted(vectors: Tensor, weights: Tensor, counting: Counting, refined: bool = False) -> Speakers:
    """As many as an estimator or communities of vectors [N, D] with weights [N] tell.

    refined: shares are for a refiner, which has learnt from soft ones, whatever `counting` says of those of
    communities. Raises PseError where communities need a package that is missing, or too many edges.
    """
    if counting.estimator == "communities":
        # Graphs are of the processor.
        made = find(vectors.cpu(), weights.cpu(), counting.how)

        def shares(given: Tensor) -> Tensor:
            whole = made.shares(given.cpu()).to(given.device)
            if refined or (counting.soft and not counting.ratio):
                return whole
            if counting.soft:
                return wiener(whole)
            return functional.one_hot(whole.argmax(1), made.count).float()

        return Speakers(made.count, shares, made.note)
    some, some_weights = _at_least(vectors, weights, MAX_COUNT)
    told, reading = count_sources(counting.estimator, some[None], some_weights), counting.calibration
    count = int(told.count) if reading is None else reading.count(told.curve[0].tolist())
    return replace(as_known(some, some_weights[0], count), note=None if reading is None else reading.note(count))


def _at_least(vectors: Tensor, weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Vectors and weights [1, N] of at least so many points, where there are fewer the same ones again."""
    times = -(-count // len(vectors))
    return vectors.repeat(times, 1), enough(weights.repeat(times)[None], count)


def separated(model: Any, chunk: Chunk, speakers: Speakers) -> Tensor:
    """Signals [S, T] of a chunk, refined by a model that refines; without that they add up to the chunk."""
    net = embedding_net(model)
    spectrum, embeddings, nodes = _heard(net, chunk)
    rows = points(embeddings)[0].split(ROWS)
    shares = torch.cat([speakers.shares(some) for some in rows])
    masks = nodes.to_bins(unflattened(shares.T, embeddings.shape[1])[None], spectrum)
    wavs = masked(spectrum, masks, net.transform, len(chunk.mix))
    return (model.refine(chunk.mix[None], wavs) if hasattr(model, "refine") else wavs)[0]


def _heard(net: Any, chunk: Chunk) -> tuple[Tensor, Tensor, Nodes]:
    """Spectrum [1, K, F] and embeddings [1, Kn, Fn, D] of a chunk, and what these are of."""
    out = net(chunk.mix[None])
    return net.transform.stft(chunk.mix[None]), out.embeddings.float(), Nodes.of(net, out)


def _loudest(net: Any, chunk: Chunk) -> float:
    """Of the nodes of a chunk that are patches of bins."""
    nodes = Nodes(getattr(net, "node_shape", (1, 1)))
    return float(nodes.magnitudes(net.transform.stft(chunk.mix[None])).max())
