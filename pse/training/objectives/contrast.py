"""What the objectives with a contrastive loss share: who speaks where, and which nodes are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from pse.data.collate import Batch
from pse.data.mixture import MixtureSpec
from pse.data.scene import Scene
from pse.losses import contrastive as losses
from pse.losses.activity import THRESHOLD_DB
from pse.training.objectives.separation import Separation

Scope = Literal["batch", "mixture"]


@dataclass(frozen=True)
class ContrastOptions:
    """How nodes are compared.

    loss, temperature: see pse.losses.contrastive. scope: batch compares nodes of all examples, whose speakers
    then have to be known over the whole training set, mixture only those of one example, where it is enough to
    know who is louder. nodes_per_example: so many active nodes of each are drawn. threshold_db: of what is
    active, re the loudest node of a source's whole recording. min_apart_samples: two nodes of one recording
    that start closer together are not compared; the length of a frame where frames overlap.
    """

    loss: losses.Name = "sup_con"
    temperature: float = 0.1
    scope: Scope = "batch"
    nodes_per_example: int = 64
    threshold_db: float = THRESHOLD_DB
    min_apart_samples: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.nodes_per_example < 2 or self.min_apart_samples < 0:
            told = f"{self.nodes_per_example} and {self.min_apart_samples}"
            raise ValueError(f"nodes_per_example must be at least 2 and min_apart_samples at least 0, got {told}")
        if not self.threshold_db < 0:
            raise ValueError(f"threshold_db must be below 0, got {self.threshold_db}")


class Drawn(NamedTuple):
    """Nodes of each example, [B, Q] each: their places, whether there is one, and what is known of it.

    labels: whose it is; starts_samples: where it starts in its recording.
    """

    places: Tensor
    there: Tensor
    labels: Tensor
    starts_samples: Tensor
    recordings: Tensor

    @classmethod
    def of(cls, batch: Batch, chosen: tuple[Tensor, Tensor], sources: Tensor, offsets_samples: Tensor) -> Drawn:
        """With what a batch knows of the sources [B, Q] of chosen nodes, whose starts in the batch are given."""
        speakers, starts, recordings = (batch[k].gather(1, sources) for k in ("speakers", "starts", "recordings"))
        return cls(*chosen, speakers, starts + offsets_samples, recordings)

    @classmethod
    def joined(cls, parts: Sequence[Drawn]) -> Drawn:
        """Those of several parts of a batch."""
        return cls(*(torch.cat(x) for x in zip(*parts, strict=True)))


class WithSpeakers(Separation):
    """Separation whose batches say who the sources are: whole numbers [B, S], -1 where there is none.

    `speakers`, over those of training, or of a validation batch; `recordings`; `starts`: the sample of the recording
    that the mixture's first one is, below 0 for a source that comes later. `seeds` [B] are a function of an example's
    description, so that a resumed run draws the same nodes.
    """

    def __init__(self, sampler: Any, *others: Any) -> None:
        cache = sampler.voices.cache
        self._tables = _numbers(cache.speaker.values()), _numbers(cache.ids)
        super().__init__(sampler, *others)

    def _known(self, batch: Batch, specs: Sequence[MixtureSpec], scenes: Sequence[Scene]) -> Batch:
        who, what = self._tables
        if "louder" not in batch.tensors:
            # Validation has other speakers.
            who = _numbers(name for scene in scenes for name in scene.speakers)
            what = _numbers(crop.utt for spec in specs for crop in spec.sources)
        known = torch.full((3, *batch["sources"].shape[:2]), -1)
        for row, (spec, scene) in enumerate(zip(specs, scenes, strict=True)):
            for s, (crop, speaker) in enumerate(zip(spec.sources, scene.speakers, strict=True)):
                start = crop.start_samples - crop.offset_samples
                known[:, row, s] = torch.tensor([who[speaker], start, what[crop.utt]])
        names = zip(("speakers", "starts", "recordings"), known, strict=True)
        seeds = torch.tensor([_seed(spec) for spec in specs])
        return Batch({**batch.tensors, **dict(names), "seeds": seeds}, batch.ids)


def _numbers(names: Any) -> dict[str, int]:
    return {name: number for number, name in enumerate(sorted(set(names)))}


def _seed(spec: MixtureSpec) -> int:
    """What the nodes of an example are drawn by: its id has its number and stream, see the samplers."""
    return int.from_bytes(hashlib.sha256(f"nodes/{spec.seed}/{spec.id}".encode()).digest()[:8], "big") >> 1


def draw(active: Tensor, seeds: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Places of `count` active ones of nodes [B, N], at random without replacement, and which are there: [B, Q] each.

    seeds: whole numbers [B], one for each example. Where fewer are active those are taken, in any order. The same
    on every device.
    """
    size = active.shape[1]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
    keys = torch.stack([torch.rand(size, generator=g, dtype=torch.float64) for g in generators])
    found = keys.to(active.device).masked_fill(~active, -1.0).topk(min(count, size), dim=1)
    return found.indices, found.values >= 0


def contrast(options: ContrastOptions, vectors: Tensor, drawn: Drawn) -> Tensor:
    """The loss of unit vectors [N, D] of the nodes that are there, in their order: a scalar."""
    there, groups = drawn.there, None
    if options.scope == "mixture":
        rows = torch.arange(len(there), device=there.device)
        groups = rows[:, None].expand_as(there)[there]
    return losses.contrastive_loss(
        options.loss, vectors, drawn.labels[there], options.temperature, groups=groups,
        starts_samples=drawn.starts_samples[there], recordings=drawn.recordings[there],
        min_apart_samples=options.min_apart_samples,
    )  # fmt: skip
