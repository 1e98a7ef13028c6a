"""From embeddings to separated speech: which bins are clustered, how, and what masks come of it.

Hershey, Chen, Le Roux & Watanabe, "Deep clustering" (1508.04306), section 3; the modes are the rows of
its tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pse.clustering.communities import Found, find
from pse.clustering.kmeans import distances, enough, kmeans
from pse.clustering.masks import binary_masks, permutations, permuted, silenced, soft_masks, wiener
from pse.clustering.online import OnlineClusters
from pse.clustering.options import Clustering
from pse.clustering.spectral import spectral
from pse.dsp.stft import STFT
from pse.errors import PseError
from pse.losses.activity import activity, bins, points, unflattened
from pse.models.base import Output
from pse.models.nodes import Shape, expanded, pooled


@dataclass(frozen=True)
class Nodes:
    """What embeddings [B, Kn, Fn, D] stand for.

    shape: bins and frames of a node, see pse.models.nodes; slots: where a node is a slot of a frame, the masks of
    the slots [B, Kn, K, F].
    """

    shape: Shape = (1, 1)
    slots: Tensor | None = None

    @classmethod
    def of(cls, model: Any, out: Output) -> Nodes:
        """Those of a model's output; bins, where the model says nothing of nodes."""
        slots = getattr(model, "slots", 0)
        return cls(getattr(model, "node_shape", (1, 1)), out.masks if slots else None)

    def magnitudes(self, spectrum: Tensor) -> Tensor:
        """How loud the nodes are, [B, Kn, Fn], of a mixture's spectrum [B, K, F]."""
        if self.slots is not None:
            return (self.slots * spectrum.abs().unsqueeze(1)).square().sum(2).sqrt()
        return spectrum.abs() if self.shape == (1, 1) else pooled(spectrum.abs().square(), self.shape).sqrt()

    def to_bins(self, masks: Tensor, spectrum: Tensor) -> Tensor:
        """Masks of bins [B, S, K, F] of those of nodes [B, S, Kn, Fn]; a bin of slots gets of each what that has."""
        if self.slots is not None:
            return torch.einsum("bsnf,bnkf->bskf", masks, self.slots.to(masks))
        return expanded(masks, self.shape, *spectrum.shape[-2:])


BINS = Nodes()


@torch.no_grad()
def cluster_masks(
    embeddings: Tensor,
    spectrum: Tensor,
    num_speakers: int | None,
    how: Clustering,
    ids: Sequence[str] | None = None,
    sources: Tensor | None = None,
    nodes: Nodes = BINS,
) -> Tensor:
    """Masks [B, S, K, F] of embeddings [B, Kn, Fn, D] and the mixture's spectrum [B, K, F].

    As `clustered`, without what communities tell of themselves.
    """
    return clustered(embeddings, spectrum, num_speakers, how, ids, sources, nodes)[0]


@torch.no_grad()
def clustered(
    embeddings: Tensor,
    spectrum: Tensor,
    num_speakers: int | None,
    how: Clustering,
    ids: Sequence[str] | None = None,
    sources: Tensor | None = None,
    nodes: Nodes = BINS,
) -> tuple[Tensor, list[Found]]:
    """Masks [B, S, K, F] of embeddings [B, Kn, Fn, D] and the mixture's spectrum [B, K, F]; what communities tell.

    num_speakers: None, or count: estimated, lets communities tell it, each recording its own: those with fewer than
    others end in masks of 0.
    sources: [B, S, K, F], for the oracle modes. A recording with fewer active nodes than speakers is
    clustered over all its nodes. Raises PseError for an oracle mode without sources, segments of nodes
    that are no bins, and no number where the mode needs one.
    """
    magnitude = nodes.magnitudes(spectrum)
    active = activity(magnitude.unsqueeze(1), magnitude, rule="mixture", threshold_db=how.threshold_db)
    if how.mode == "communities":
        names = [str(n) for n in range(len(spectrum))] if ids is None else ids
        known = None if how.count == "estimated" else num_speakers
        made = [_communities(*x, known, how) for x in zip(embeddings, active, names, strict=True)]
        most = max(len(masks) for masks, _ in made)
        whole = torch.stack([functional.pad(m, (0, 0, 0, 0, 0, most - len(m))) for m, _ in made])
        return nodes.to_bins(whole, spectrum), [found for _, found in made]
    if num_speakers is None:
        fix = "give it, or choose mode: communities"
        raise PseError(f"the mode {how.mode} needs the number of speakers", "clustering", fix)
    if how.mode in ("global", "spectral"):
        return nodes.to_bins(_masks(embeddings, active, num_speakers, how, ids), spectrum), []
    if nodes.slots is not None or nodes.shape != BINS.shape:
        raise PseError(f"the mode {how.mode} needs embeddings of bins", "clustering", "choose mode: global")
    if how.mode == "online":
        made = [_online(*x, num_speakers, how) for x in zip(embeddings, magnitude, strict=True)]
        return torch.stack(made), []
    if sources is None:
        raise PseError(f"the mode {how.mode} needs the true sources", "clustering", "choose mode: global")
    made = [_by_segments(*x, num_speakers, how) for x in zip(embeddings, spectrum, active, sources, strict=True)]
    return torch.stack(made), []


def _communities(
    embeddings: Tensor, active: Tensor, name: str, num_speakers: int | None, how: Clustering
) -> tuple[Tensor, Found]:
    """Masks [S, Kn, Fn] of one recording's nodes."""
    # Graphs are of the processor.
    vectors, weights = points(embeddings[None])[0].cpu(), bins(active[None])[0].float().cpu()
    found = find(vectors, weights, how.communities, num_speakers=num_speakers, name=name)
    shares = found.shares(vectors)
    if how.ratio:
        shares = wiener(shares)
    assign = unflattened(shares.T, active.shape[0])[None].to(active.device)
    if how.soft:
        return silenced(assign.float(), active[None], how.silent)[0], found
    return binary_masks(assign.argmax(1), assign.shape[1], active[None], how.silent)[0], found


def _masks(
    embeddings: Tensor, active: Tensor, num_speakers: int, how: Clustering, ids: Sequence[str] | None
) -> Tensor:
    vectors, weights = points(embeddings), enough(bins(active).float(), num_speakers)
    by = spectral if how.mode.endswith("spectral") else kmeans
    clusters = by(vectors, num_speakers, weights, ids=ids, restarts=how.restarts)
    if how.soft and by is kmeans:
        apart = unflattened(distances(vectors, clusters.centroids), active.shape[1])
        hardness = how.hardness * (2 if how.ratio else 1)
        return soft_masks(apart, active, how.silent, hardness=hardness)
    return binary_masks(unflattened(clusters.labels, active.shape[1]), num_speakers, active, how.silent)


def _online(embeddings: Tensor, magnitude: Tensor, num_speakers: int, how: Clustering) -> Tensor:
    """Masks [S, K, F] of one recording, segment after segment."""
    segments = SegmentMasks(num_speakers, how)
    pieces = zip(embeddings.split(how.segment_frames, 1), magnitude.split(how.segment_frames, 1), strict=True)
    return torch.cat([segments.push(*piece) for piece in pieces], -1)


class SegmentMasks:
    """The masks of a stream's segments; what is quiet is told by the loudest bin so far."""

    def __init__(self, num_speakers: int, how: Clustering) -> None:
        self.num_speakers, self.how, self._peak = num_speakers, how, 0.0
        self._clusters = OnlineClusters(num_speakers, restarts=how.restarts)

    def push(self, embeddings: Tensor, magnitude: Tensor) -> Tensor:
        """Masks [S, K, F] of the next frames: embeddings [K, F, D], magnitude [K, F]."""
        self._peak = magnitude.max().clamp_min(self._peak)
        active = activity(magnitude[None, None], threshold_db=self.how.threshold_db, peaks=self._peak.view(1, 1))
        found = self._clusters.push(points(embeddings[None])[0], bins(active)[0].float())
        labels = unflattened(found, len(magnitude))[None]
        return binary_masks(labels, self.num_speakers, active, self.how.silent)[0]


def _by_segments(
    embeddings: Tensor, spectrum: Tensor, active: Tensor, sources: Tensor, num_speakers: int, how: Clustering
) -> Tensor:
    """Masks [S, K, F] of one recording, clustered by segments and put in order by its sources."""
    starts, size = _segments(spectrum.shape[-1], how.segment_frames)
    vectors = torch.stack([embeddings[:, s : s + size] for s in starts])
    return _joined(_masks(vectors, _cut(active, starts, size), num_speakers, how, None), spectrum, sources, starts)


def in_oracle_order(masks: Tensor, spectrum: Tensor, sources: Tensor, segment_frames: int) -> Tensor:
    """Masks [S, K, F] of a net whose order may change from segment to segment, put in that of the sources [S, K, F]."""
    starts, size = _segments(spectrum.shape[-1], segment_frames)
    return _joined(_cut(masks, starts, size), spectrum, sources, starts)


def _segments(num_frames: int, segment_frames: int) -> tuple[list[int], int]:
    """Where segments start, and their length; the last one reaches back to be as long as the others."""
    size = min(segment_frames, num_frames)
    return [*range(0, num_frames - size, size), num_frames - size], size


def _cut(x: Tensor, starts: list[int], size: int) -> Tensor:
    return torch.stack([x[..., s : s + size] for s in starts])


def _joined(masks: Tensor, spectrum: Tensor, sources: Tensor, starts: list[int]) -> Tensor:
    """Masks [S, K, F] of those of segments [N, S, K, F'], each in the order that fits the sources best."""
    size, num_frames = masks.shape[-1], spectrum.shape[-1]
    masks = permuted(masks, permutations(masks, _cut(spectrum, starts, size), _cut(sources, starts, size)))
    whole = functional.pad(masks[-1], (num_frames - size, 0))
    for start, mask in zip(starts[:-1], masks[:-1], strict=True):
        whole[..., start : start + size] = mask
    return whole


def masked(spectrum: Tensor, masks: Tensor, transform: STFT, num_samples: int) -> Tensor:
    """Signals [B, S, num_samples] of a spectrum [B, K, F] under masks [B, S, K, F], with the mixture's phase."""
    sources = (spectrum.unsqueeze(1) * masks).flatten(0, 1)
    return transform.istft(sources, num_samples).unflatten(0, masks.shape[:2])
