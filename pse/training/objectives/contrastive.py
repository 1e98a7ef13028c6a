"""Contrastive learning of embeddings: nodes of one speaker are drawn together, those of others pushed apart.

Ochieng, "Speech separation based on contrastive learning and deep modularization" (2305.10652): frames of one
speaker are taken for augmentations of one hidden frame, first of single speakers and then in mixtures, where a
node is the speaker's who is loudest in it; the loss is SimCLR's, see pse.losses.contrastive. With scope:
mixture and a bin a node this is deep clustering's affinities (1508.04306) in the form of a softmax.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pse.data.collate import Batch
from pse.data.mixture import MixtureSpec
from pse.data.scene import Scene
from pse.data.segments import FixedSampler
from pse.data.speech_mixture import SpeakerSampler
from pse.errors import PseError
from pse.inference.clustering import Nodes, cluster_masks, masked
from pse.losses.activity import activity, bins, points
from pse.models.base import Output
from pse.models.nodes import pooled
from pse.precision import full_precision
from pse.scoring.verification import equal_error_rate
from pse.training.objectives.base import Labels, LossOut
from pse.training.objectives.contrast import ContrastOptions, Drawn, WithSpeakers, contrast, draw
from pse.training.objectives.separation import VALID_CLUSTERING, spectra_of, together

# Of all validation recordings of single speakers: two million pairs are sorted in a fraction of a second.
VALID_NODES = 2048


@dataclass(frozen=True)
class Options(ContrastOptions):
    """How nodes are compared, see ContrastOptions.

    margin_db: nodes in which the loudest speaker leads the second by less are left out. chunk: examples that
    are encoded at a time, 0: all. Each chunk is encoded without memory of how, and again when its gradient is
    due, so that a batch of any size needs the memory of a chunk; this is the gradient cache of Gao et al.,
    "Scaling deep contrastive learning batch size under memory limited setup" (2101.06983), by checkpoints: the
    gradient is that of the whole batch, and time that of a third pass.
    """

    margin_db: float = 0.0
    chunk: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.margin_db < 0 or self.chunk < 0:
            raise ValueError(f"margin_db and chunk must be at least 0, got {self.margin_db} and {self.chunk}")


class Contrastive(WithSpeakers):
    """Train an embedding model by contrast of nodes; a model's `project` is used in the loss alone.

    The label of a node is the speaker of the source that is loudest in it; noise has no label. The loss is
    the mean over all nodes that have another one of their speaker's to be compared with.

    Trained on mixtures it is validated by what k-means of the nodes separates. Trained on single speakers alone
    (num_speakers: [1]), by `eer`: nodes of the validation recordings, nodes_per_example of each but VALID_NODES at
    most in all, always the same ones, are compared by the cosine of their embeddings, each with each but for
    those of one recording that share samples; it is the equal error rate in percent of telling pairs of one
    speaker from those of two, the same for every recording.
    """

    Options = Options

    def __init__(
        self, sampler: SpeakerSampler | FixedSampler, valid: Iterable[tuple[MixtureSpec, Scene]], options: Options
    ) -> None:
        self.single = list(sampler.num_speakers) == [1]
        if self.single:
            self.headline, self.larger_is_better = "eer", False
        super().__init__(sampler, valid, options)

    @classmethod
    def check(cls, out: Output, options: Options, num_speakers: Sequence[int], place: str) -> None:
        """Refuse a model whose output this objective cannot train. Raises PseError."""
        if out.embeddings is None:
            raise PseError("is no embedding model", place, "name one, e.g. conf/models/blstm_2x300.yaml")
        if out.masks is not None or out.wavs is not None:
            what = "has masks or waveforms, which objective contrastive does not train"
            raise PseError(what, place, "set num_masks: 0, or objective: {name: slots}")
        if options.scope == "mixture" and list(num_speakers) == [1]:
            what = "scope: mixture compares nodes of one example, in which nobody else speaks"
            raise PseError(what, place, "set scope: batch")

    @classmethod
    def labels(cls, options: Options, num_speakers: Sequence[int]) -> Labels:
        """Who speaks, of single speakers; the signals that mixtures are made of tell who is loudest."""
        return "speaker identity" if list(num_speakers) == [1] else "source signals"

    def _valid_batches(self, valid: Sequence[tuple[MixtureSpec, Scene]]) -> list[Batch]:
        if not self.single or not valid:
            return super()._valid_batches(valid)
        specs, scenes = zip(*valid, strict=True)
        # All at once, for pairs are of any two: padded, and encoded one at a time as long as they are.
        batch = self._known(together([s.id for s in specs], scenes), specs, scenes)
        lengths = torch.tensor([len(s.mix) for s in scenes])
        return [Batch({**batch.tensors, "lengths": lengths}, batch.ids)]

    def loss(self, model: nn.Module, batch: Batch) -> LossOut:
        """The chosen loss of the nodes drawn."""
        size, count = self.options.chunk or len(batch), self.options.nodes_per_example
        vectors, drawn = [], []
        for first in range(0, len(batch), size):
            part = _rows(batch, slice(first, first + size))
            drawn.append(self._drawn(model, part, count))
            what = model, part["mix"], drawn[-1].places
            cached = self.options.chunk and torch.is_grad_enabled()
            vectors.append(checkpoint(_encoded, *what, use_reentrant=False) if cached else _encoded(*what))
        return LossOut(self._contrast(model, torch.cat(vectors), Drawn.joined(drawn)))

    def validate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Loss and headline of each example."""
        if not self.single:
            return super().validate(model, batch)
        count = max(1, min(self.options.nodes_per_example, VALID_NODES // len(batch)))
        vectors, drawn = [], []
        for row, length in enumerate(batch["lengths"].tolist()):
            part = _rows(batch, slice(row, row + 1))
            sounds = {k: part[k][..., :length] for k in ("mix", "sources")}
            drawn.append(_filled(self._drawn(model, Batch({**part.tensors, **sounds}, part.ids), count), count))
            vectors.append(_encoded(model, sounds["mix"], drawn[-1].places))
        vectors, drawn = torch.cat(vectors), Drawn.joined(drawn)
        values = {"loss": self._contrast(model, vectors, drawn), "eer": _equal_error_rate(model, vectors, drawn)}
        return {k: v.expand(len(batch)) for k, v in values.items()}

    def separated(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss [B], and what clusters of the nodes separate [B, S, T]."""
        out, spectrum = model(batch["mix"]), spectra_of(model, batch)[:, 0]
        drawn = self._drawn(model, batch, self.options.nodes_per_example)
        loss = self._contrast(model, _at(out.embeddings, drawn.places), drawn)
        count, nodes = batch["sources"].shape[1], Nodes.of(model, out)
        masks = cluster_masks(out.embeddings, spectrum, count, VALID_CLUSTERING, batch.ids, nodes=nodes)
        return loss.expand(len(batch)), masked(spectrum, masks, model.transform, batch["mix"].shape[1])

    def _contrast(self, model: nn.Module, vectors: Tensor, drawn: Drawn) -> Tensor:
        """The loss of embeddings [B, Q, D]."""
        there = vectors[drawn.there]
        return contrast(self.options, model.project(there) if hasattr(model, "project") else there, drawn)

    @torch.no_grad()
    def _drawn(self, model: nn.Module, batch: Batch, count: int) -> Drawn:
        """`count` nodes of each example, by places in the order of `points`."""
        sources, shape, options = batch["sources"], model.node_shape, self.options
        power = model.transform.stft(sources.flatten(0, 1)).abs().square()
        sizes = pooled(power, shape).sqrt().unflatten(0, sources.shape[:2])
        # The loudest bin, or the loudest frame, of a recording: what is between them is nearer to a bin.
        louder = batch.tensors.get("louder_frame" if shape[0] == power.shape[1] else "louder")
        peaks = None if louder is None else sizes.amax((2, 3)) * louder
        active = activity(sizes, threshold_db=options.threshold_db, peaks=peaks)
        if options.margin_db and sizes.shape[1] > 1:
            first, second = sizes.topk(2, dim=1).values.unbind(1)
            active &= first >= 10 ** (options.margin_db / 20) * second
        places, there = draw(bins(active), batch["seeds"], count)
        heard = sizes.mT.flatten(2).gather(2, places.unsqueeze(1).expand(-1, sizes.shape[1], -1))
        offsets = places // sizes.shape[2] * (shape[1] * model.transform.hop)
        return Drawn.of(batch, (places, there), heard.argmax(1), offsets)


def _encoded(model: nn.Module, mix: Tensor, places: Tensor) -> Tensor:
    """Embeddings [B, Q, D] of nodes; of those alone where a model can do that."""
    if hasattr(model, "embeddings_at"):
        return model.embeddings_at(mix, places)
    return _at(model(mix).embeddings, places)


def _at(embeddings: Tensor, places: Tensor) -> Tensor:
    """[B, Q, D] of embeddings [B, Kn, Fn, D]."""
    return points(embeddings).gather(1, places.unsqueeze(-1).expand(-1, -1, embeddings.shape[-1]))


def _rows(batch: Batch, rows: slice) -> Batch:
    return Batch({k: v[rows] for k, v in batch.tensors.items()}, batch.ids[rows])


def _filled(drawn: Drawn, count: int) -> Drawn:
    """With nodes that are not there, where a short recording has fewer than `count`."""
    return Drawn(*(nn.functional.pad(x, (0, count - x.shape[1])) for x in drawn))


def _equal_error_rate(model: nn.Module, vectors: Tensor, drawn: Drawn) -> Tensor:
    """In percent, of the nodes that are there."""
    vectors = vectors[drawn.there].float()
    labels, starts, recordings = (x[drawn.there] for x in drawn[2:])
    first, second = torch.triu_indices(len(vectors), len(vectors), 1, device=vectors.device)
    with full_precision(vectors.device):
        scores = (vectors @ vectors.T)[first, second]
    near = (starts[first] - starts[second]).abs() < model.span_samples
    apart = ~(near & (recordings[first] == recordings[second]))
    return scores.new_tensor(equal_error_rate(scores[apart], (labels[first] == labels[second])[apart]))


PLUGIN = Contrastive
