"""Convolutional embedding network of deep clustering: dilated convolutions on the log magnitude.

The authors name a convolutional net as an extension (1508.04306, section 5); this one is ours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pse.models.base import Normalize, require_positive
from pse.models.embedding import Activation, EmbeddingModel
from pse.models.layers import PastMoments, PReLU, make_norm


class Layer(nn.Module):
    """x + convolution(PReLU(norm(x))): one dense product over channels and taps, which processors do best."""

    def __init__(self, channels: int, kernel_size: int, dilation: int, causal: bool) -> None:
        super().__init__()
        self.reach, self.causal = (kernel_size - 1) * dilation, causal
        self.norm, self.activation = make_norm(channels, causal), PReLU()
        padding = 0 if causal else self.reach // 2
        self.convolution = nn.Conv1d(channels, channels, kernel_size, 1, padding, dilation)

    def forward(self, x: Tensor, memory: dict[Any, Any] | None = None) -> Tensor:
        """Hidden states [B, C, F] of x: [B, C, F], after those of a stream that `memory` has."""
        if memory is None:
            h = self.activation(self.norm(x))
            return x + self.convolution(functional.pad(h, (self.reach, 0)) if self.causal else h)
        h = self.activation(self.norm(x, memory.setdefault("norm", PastMoments())))
        before = memory.get("before")
        h = functional.pad(h, (self.reach, 0)) if before is None else torch.cat([before, h], 2)
        memory["before"] = h[..., h.shape[2] - self.reach :]
        return x + self.convolution(h)


class TCNEmbedding(EmbeddingModel):
    """Linear, num_repeats x num_layers dilated residual layers, norm, PReLU; a unit vector a bin.

    The dilation doubles from layer to layer and begins anew with every repeat. `causal` takes cumulative
    norms and convolutions that look back only. Raises ValueError for sizes that do not fit.
    """

    def __init__(
        self,
        channels: int = 256,
        kernel_size: int = 3,
        num_layers: int = 6,
        num_repeats: int = 2,
        embedding_size: int = 20,
        activation: Activation = "tanh",
        causal: bool = False,
        num_masks: int = 0,
        input_noise: float = 0.0,
        n_fft: int = 256,
        hop: int = 64,
        sample_rate: int = 8000,
        normalize: Normalize = "rms",
        node_bins: int = 1,
        node_frames: int = 1,
        head_size: int = 0,
    ) -> None:
        super().__init__(
            channels, embedding_size, activation, num_masks, input_noise, n_fft, hop, sample_rate, normalize,
            node_bins, node_frames, head_size,
        )  # fmt: skip
        require_positive(
            channels=channels, kernel_size=kernel_size, num_layers=num_layers, num_repeats=num_repeats
        )  # fmt: skip
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        if causal and normalize != "none":
            raise ValueError("a causal network cannot know the whole signal's level: set normalize: none")
        self._causal = causal
        self.enter = nn.Linear(self.transform.num_bins, channels)
        self.layers = nn.ModuleList(
            Layer(channels, kernel_size, 2**x, causal) for _ in range(num_repeats) for x in range(num_layers)
        )
        self.norm, self.leave = make_norm(channels, causal), PReLU()

    @property
    def causal(self) -> bool:
        """Whether no embedding waits for more than the latency."""
        return self._causal

    def receptive_field_samples(self) -> int:
        """Span of the convolutions and of an STFT window, or of those of a node's frames."""
        return sum(layer.reach for layer in self.layers) * self.transform.hop + self.span_samples

    def algorithmic_latency_samples(self) -> int | None:
        """One STFT window, or those of a node's frames, when causal."""
        return self.span_samples if self.causal else None

    def encode(self, feature: Tensor, memory: dict[Any, Any] | None = None) -> Tensor:
        """Hidden states [B, F, C] of normalised log magnitudes [B, F, K]."""
        x = self.enter(feature).transpose(1, 2).contiguous()
        for number, layer in enumerate(self.layers):
            x = layer(x, None if memory is None else memory.setdefault(number, {}))
        past = () if memory is None else (memory.setdefault("norm", PastMoments()),)
        return self.leave(self.norm(x, *past)).transpose(1, 2)


PLUGIN = TCNEmbedding
