"""What objectives share whose embeddings of single speakers are validated by telling speakers apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pse.data.collate import Batch
from pse.data.mixture import MixtureSpec
from pse.data.scene import Scene
from pse.data.segments import FixedSampler
from pse.data.speech_mixture import SpeakerSampler
from pse.losses.activity import activity, bins, points
from pse.models.nodes import pooled
from pse.precision import full_precision
from pse.scoring.verification import equal_error_rate
from pse.training.objectives.contrast import Drawn, WithSpeakers, draw
from pse.training.objectives.separation import together

# Of all validation recordings of single speakers: two million pairs are sorted in a fraction of a second.
VALID_NODES = 2048


class Verified(WithSpeakers):
    """Trained on single speakers alone (num_speakers: [1]), an embedding model is validated by `eer`.

    Nodes of the validation recordings, nodes_per_example of each but VALID_NODES at most in all, always the same
    ones, are compared by the cosine of their embeddings, each with each but for those of one recording that share
    samples; it is the equal error rate in percent of telling pairs of one speaker from those of two, the same for
    every recording. `options` has nodes_per_example and threshold_db, see ContrastOptions.
    """

    def __init__(
        self, sampler: SpeakerSampler | FixedSampler, valid: Iterable[tuple[MixtureSpec, Scene]], options: Any
    ) -> None:
        self.single = list(sampler.num_speakers) == [1]
        if self.single:
            self.headline, self.larger_is_better = "eer", False
        super().__init__(sampler, valid, options)

    def _valid_batches(self, valid: Sequence[tuple[MixtureSpec, Scene]]) -> list[Batch]:
        if not self.single or not valid:
            return super()._valid_batches(valid)
        specs, scenes = zip(*valid, strict=True)
        # All at once, for pairs are of any two: padded, and encoded one at a time as long as they are.
        batch = self._known(together([s.id for s in specs], scenes), specs, scenes)
        lengths = torch.tensor([len(s.mix) for s in scenes])
        return [Batch({**batch.tensors, "lengths": lengths}, batch.ids)]

    def compared(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Drawn]:
        """Embeddings [B, Q, D] of nodes of single speakers' validation recordings, and what is known of the nodes."""
        count = max(1, min(self.options.nodes_per_example, VALID_NODES // len(batch)))
        vectors, drawn = [], []
        for part in alone(batch):
            drawn.append(_filled(self._drawn(model, part, count), count))
            vectors.append(encoded(model, part["mix"], drawn[-1].places))
        return torch.cat(vectors), Drawn.joined(drawn)

    def _active(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Magnitudes [B, S, Kn, Fn] of the sources in nodes, and whether any is loud enough there [B, Kn, Fn]."""
        sources, shape = batch["sources"], model.node_shape
        power = model.transform.stft(sources.flatten(0, 1)).abs().square()
        sizes = pooled(power, shape).sqrt().unflatten(0, sources.shape[:2])
        # The loudest bin, or the loudest frame, of a recording: what is between them is nearer to a bin.
        louder = batch.tensors.get("louder_frame" if shape[0] == power.shape[1] else "louder")
        peaks = None if louder is None else sizes.amax((2, 3)) * louder
        return sizes, activity(sizes, threshold_db=self.options.threshold_db, peaks=peaks)

    @torch.no_grad()
    def _drawn(self, model: nn.Module, batch: Batch, count: int) -> Drawn:
        """`count` nodes of each example, by places in the order of `points`."""
        sizes, active = self._active(model, batch)
        places, there = draw(bins(active), batch["seeds"], count)
        heard = sizes.mT.flatten(2).gather(2, places.unsqueeze(1).expand(-1, sizes.shape[1], -1))
        offsets = places // sizes.shape[2] * (model.node_shape[1] * model.transform.hop)
        return Drawn.of(batch, (places, there), heard.argmax(1), offsets)


def encoded(model: nn.Module, mix: Tensor, places: Tensor) -> Tensor:
    """Embeddings [B, Q, D] of the nodes at `places` [B, Q]; of those alone where a model can do that."""
    if hasattr(model, "embeddings_at"):
        return model.embeddings_at(mix, places)
    return at(model(mix).embeddings, places)


def at(embeddings: Tensor, places: Tensor) -> Tensor:
    """[B, Q, D] of embeddings [B, Kn, Fn, D], by places [B, Q] in the order of `points`."""
    return points(embeddings).gather(1, places.unsqueeze(-1).expand(-1, -1, embeddings.shape[-1]))


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Some examples of a batch."""
    return Batch({k: v[rows] for k, v in batch.tensors.items()}, batch.ids[rows])


def alone(batch: Batch) -> Iterable[Batch]:
    """The validation recordings one by one, each as long as it is."""
    for row, length in enumerate(batch["lengths"].tolist()):
        part = rows_of(batch, slice(row, row + 1))
        sounds = {k: part[k][..., :length] for k in ("mix", "sources")}
        yield Batch({**part.tensors, **sounds}, part.ids)


def equal_error_rate_of(model: nn.Module, vectors: Tensor, drawn: Drawn) -> Tensor:
    """In percent, of the nodes that are there, of embeddings [B, Q, D]: a scalar."""
    vectors = vectors[drawn.there].float()
    labels, starts, recordings = (x[drawn.there] for x in drawn[2:])
    first, second = torch.triu_indices(len(vectors), len(vectors), 1, device=vectors.device)
    with full_precision(vectors.device):
        scores = (vectors @ vectors.T)[first, second]
    near = (starts[first] - starts[second]).abs() < model.span_samples
    apart = ~(near & (recordings[first] == recordings[second]))
    return scores.new_tensor(equal_error_rate(scores[apart], (labels[first] == labels[second])[apart]))


def _filled(drawn: Drawn, count: int) -> Drawn:
    """With nodes that are not there, where a short recording has fewer than `count`."""
    return Drawn(*(nn.functional.pad(x, (0, count - x.shape[1])) for x in drawn))
