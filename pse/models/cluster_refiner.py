"""Clusters made better in the time domain: one small Conv-TasNet that is told which cluster it is to give.

The network is that of Luo & Mesgarani, "Conv-TasNet", IEEE/ACM TASLP 27(8), 2019, run once for each cluster as
the mask enhancement of Isik et al., Interspeech 2016 (1607.02173), section 3, is. It is not held by the mixture's
phase, as masks of a spectrum are, and works for any number of clusters. The sizes are ours, and so is what it gives: a
correction that is added to the estimate and at first is 0, so that training begins with what the clusters separate.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pse.clustering.kmeans import distances, enough, fit
from pse.clustering.masks import soft_masks
from pse.errors import PseError
from pse.losses.activity import THRESHOLD_DB, activity, bins, points, unflattened
from pse.models import conv_tasnet
from pse.models.base import Output, measure_level, require_positive
from pse.models.conv_tasnet import ConvTasNet
from pse.models.layers import Pointwise, make_norm, overlap_add
from pse.models.nodes import expanded, pooled
from pse.models.on_clusters import OnClusters


class Refiner(ConvTasNet):
    """Conv-TasNet for one source that hears two signals, the mixture and an estimate, and corrects the estimate.

    Both go through one encoder and one norm together, so that it hears how loud one is beside the other. The correction
    is the mixture under masks from -1 to 1: what an estimate lacks, and what it has too much of.
    """

    def __init__(self, sizes: dict[str, Any]) -> None:
        super().__init__(**sizes)
        num_filters, channels = len(self.encoder), self.bottleneck.out_features
        self.norm, self.bottleneck = make_norm(2 * num_filters, False), Pointwise(2 * num_filters, channels)
        self.mask_activation = torch.tanh
        for parameter in self.mask.parameters():
            nn.init.zeros_(parameter)

    def refined(self, mix: Tensor, estimates: Tensor) -> Tensor:
        """Estimates [N, T] made better, of as many mixtures: [N, T] each."""
        num_samples, length = mix.shape[1], self.encoder.shape[1]
        num_frames = 1 + max(0, -(-(num_samples - length) // self.stride))
        missing = length + (num_frames - 1) * self.stride - num_samples
        frames = functional.pad(torch.stack([mix, estimates], 1), (0, missing)).unfold(2, length, self.stride)
        heard = (frames @ self.encoder.mT).mT.flatten(1, 2)
        features = self._separate(self.bottleneck(self.norm(heard)), None)
        size = conv_tasnet.FRAMES_PER_PIECE
        pieces = zip(features.split(size, 2), frames[:, 0].mT.split(size, 2), strict=True)
        found = torch.cat([self._mask_and_decode(f, x) for f, x in pieces], 2)
        return estimates + overlap_add(found.to(mix.dtype), self.stride)[:, :num_samples]


class ClusterRefiner(OnClusters):
    """A frozen embedding net, k-means of its nodes, and a small network that gives each cluster's waveform.

    net: the mapping of an embedding model of any node shape, whose trained weights are the first ones (`start`) and
    do not change. num_masks: clusters; a trained model refines any number, each by the same weights, so that no
    order is learned. restarts: of k-means. wavs: [B, S, T]; embeddings: those of the net. The other sizes are
    Conv-TasNet's; with their defaults the refiner has 1,520,029 weights. Raises ValueError for sizes that do not
    fit, and for a net without embeddings.
    """

    def __init__(
        self,
        net: dict[str, Any],
        num_masks: int = 2,
        restarts: int = 2,
        num_filters: int = 256,
        filter_length: int = 16,
        stride: int = 8,
        bottleneck_channels: int = 128,
        hidden_channels: int = 256,
        skip_channels: int = 128,
        kernel_size: int = 3,
        num_blocks: int = 7,
        num_repeats: int = 2,
    ) -> None:
        super().__init__(net, num_masks)
        require_positive(restarts=restarts)
        self.restarts = restarts
        self.net.requires_grad_(False).eval()
        sizes = {
            "num_filters": num_filters, "filter_length": filter_length, "stride": stride, "num_blocks": num_blocks,
            "bottleneck_channels": bottleneck_channels, "hidden_channels": hidden_channels, "num_repeats": num_repeats,
            "skip_channels": skip_channels, "kernel_size": kernel_size, "sample_rate": self.sample_rate,
        }  # fmt: skip
        self.refiner = Refiner(sizes)

    def train(self, mode: bool = True) -> ClusterRefiner:
        """Train or not, but for the embedding net, which hears no noise and drops nothing."""
        super().train(mode)
        self.net.eval()
        return self

    def process(self, mix: Tensor) -> Output:
        """Embeddings, and refined estimates [B, S, T] of the clusters, of mix: [B, T]."""
        with torch.no_grad():
            embeddings = self.net.process(mix).embeddings
            estimates = self.clusters(embeddings, mix)
        return Output(wavs=self._refined(mix, estimates), embeddings=embeddings)

    def refine(self, mix: Tensor, estimates: Tensor) -> Tensor:
        """Estimates [B, S, T] made better, of mix: [B, T], for any S >= 1 and whichever way they were made.

        Raises PseError for other shapes.
        """
        if mix.dim() != 2 or estimates.dim() != 3 or estimates.shape[::2] != mix.shape:
            what = f"the mixture has shape {list(mix.shape)}, its estimates {list(estimates.shape)}"
            raise PseError(what, "refine", "make them [B, T] and [B, S, T]")
        level = measure_level(mix, self.normalize)
        return self._refined(mix / level, estimates / level[:, None]) * level[:, None]

    @torch.no_grad()
    def clusters(self, embeddings: Tensor, mix: Tensor) -> Tensor:
        """What k-means of embeddings [B, Kn, Fn, D] separates of mix [B, T]: [B, S, T], which add up to it.

        By soft masks: they are better than binary ones. A signal of fewer nodes than clusters is divided evenly.
        """
        if embeddings.shape[1] * embeddings.shape[2] < self.num_masks:
            return (mix / self.num_masks)[:, None].expand(-1, self.num_masks, -1)
        spectrum = self.transform.stft(mix)
        size = pooled(spectrum.abs().square(), self.node_shape).sqrt()
        active = activity(size[:, None], size, rule="mixture", threshold_db=THRESHOLD_DB)
        vectors, weights = points(embeddings), enough(bins(active).float(), self.num_masks)
        # One seed for all: what comes out must not depend on an example's place in its batch.
        seeds = ["refined"] * len(vectors)
        centroids = fit(vectors, self.num_masks, weights, ids=seeds, restarts=self.restarts)
        nodes = soft_masks(unflattened(distances(vectors, centroids), size.shape[1]))
        masks = expanded(nodes, self.node_shape, *spectrum.shape[1:])
        wavs = self.transform.istft((spectrum[:, None] * masks).flatten(0, 1), mix.shape[1])
        return wavs.unflatten(0, masks.shape[:2])

    def _refined(self, mix: Tensor, estimates: Tensor) -> Tensor:
        mixes = mix[:, None].expand_as(estimates)
        return self.refiner.refined(mixes.flatten(0, 1), estimates.flatten(0, 1)).unflatten(0, estimates.shape[:2])


PLUGIN = ClusterRefiner
