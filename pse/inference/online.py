"""Speakers who talk at once, told apart as they talk: a causal embedding network, and clusters that go on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pse.clustering.options import Clustering
from pse.dsp.stft import Analysis, Synthesis
from pse.errors import PseError
from pse.inference.clustering import SegmentMasks, cluster_masks, masked
from pse.models.base import Model, Output, network_of
from pse.models.embedding import EmbeddingModel


class OnlineSeparator(Model):
    """A causal embedding network and its online clusters as one model that streams; `pse.Stream` takes it.

    Every `how.segment_frames` frames their bins are given to the clusters so far, which then move. The first
    segment with speech should hold all speakers. Raises PseError for a network that is not causal, has no embeddings
    or has nodes that are not bins, and for another mode than online.
    """

    def __init__(self, net: Any, num_speakers: int, how: Clustering | None = None) -> None:
        net = network_of(net)
        super().__init__(net.sample_rate, net.normalize)
        if getattr(net, "slots", 0) or getattr(net, "node_shape", (1, 1)) != (1, 1):
            kind = "slots" if getattr(net, "slots", 0) else "{} x {} bins and frames".format(*net.node_shape)
            fix = "train a network with node_bins: 1 and node_frames: 1"
            raise PseError(f"its nodes are {kind}, single bins are needed", "online separation", fix)
        how = how or Clustering("online")
        if how.mode != "online":
            raise PseError(f"the mode is {how.mode}", "online separation", "set mode: online")
        if not isinstance(net, EmbeddingModel) or net.embed is None or not net.causal:
            fix = "train blstm_embedding with bidirectional: false, or tcn_embedding with causal: true; normalize: none"
            raise PseError("needs a causal network of embeddings", "online separation", fix)
        self.net, self.num_speakers, self.how = net, num_speakers, how

    @property
    def causal(self) -> bool:
        """True."""
        return True

    def receptive_field_samples(self) -> None:
        """None: clusters remember everything."""
        return None

    def algorithmic_latency_samples(self) -> int:
        """A segment and one STFT window."""
        return self.how.segment_frames * self.net.transform.hop + self.net.transform.n_fft

    def process(self, mix: Tensor) -> Output:
        """Embeddings, masks and estimates [B, S, T] of mix: [B, T]."""
        spectrum = self.net.transform.stft(mix)
        embeddings = self.net.separate(spectrum, mix.shape[1]).embeddings
        masks = cluster_masks(embeddings, spectrum, self.num_speakers, self.how)
        wavs = masked(spectrum, masks, self.net.transform, mix.shape[1])
        return Output(wavs=wavs, masks=masks, embeddings=embeddings)

    def streamer(self) -> _Streamer:
        """A fresh memory for one stream."""
        return _Streamer(self)


class _Streamer:
    """Frames wait until their segment is whole."""

    def __init__(self, model: OnlineSeparator) -> None:
        self.model, self.memory, self.num_samples = model, {}, 0
        self.analysis, self.synthesis = Analysis(model.net.transform), Synthesis(model.net.transform)
        self.waiting: Tensor | None = None
        self.channels: list[SegmentMasks] = []

    def push(self, mix: Tensor) -> Tensor:
        """The next samples [B, S, T'] after mix: [B, T]."""
        self.num_samples += mix.shape[1]
        return self._separated(mix, self.analysis.push(mix), ended=False)

    def flush(self) -> Tensor:
        """The rest [B, S, T'] when the signal has ended."""
        frames = self.analysis.flush()
        rest = [self._separated(frames.real, frames, ended=True)]
        rest.append(self.synthesis.flush(self.num_samples).unflatten(0, (-1, self.model.num_speakers)))
        return torch.cat(rest, 2)

    def _separated(self, like: Tensor, frames: Tensor, ended: bool) -> Tensor:
        size, count = self.model.how.segment_frames, self.model.num_speakers
        self.waiting = frames if self.waiting is None else torch.cat([self.waiting, frames], 2)
        self.channels = self.channels or [SegmentMasks(count, self.model.how) for _ in range(len(like))]
        parts = [torch.zeros(len(like), count, 0, dtype=frames.real.dtype, device=like.device)]
        while self.waiting.shape[2] >= size or (ended and self.waiting.shape[2]):
            spectrum, self.waiting = self.waiting[..., :size], self.waiting[..., size:]
            vectors = self.model.net.embeddings(spectrum, self.memory)
            masks = [c.push(*x) for c, x in zip(self.channels, zip(vectors, spectrum.abs(), strict=True), strict=True)]
            sources = (spectrum.unsqueeze(1) * torch.stack(masks)).flatten(0, 1)
            parts.append(self.synthesis.push(sources).unflatten(0, (-1, count)))
        return torch.cat(parts, 2)
