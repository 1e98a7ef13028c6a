"""Conv-TasNet: masks on a learned filterbank, estimated by dilated convolutions.

Luo & Mesgarani, "Conv-TasNet", IEEE/ACM TASLP 27(8), 2019, with the sizes of Sivaraman & Kim,
"Efficient personalized speech enhancement through self-supervised learning", JSTSP 16(6), 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pse.models.base import Model, Normalize, Output, require_positive
from pse.models.layers import Pointwise, PReLU, make_norm, moments_to_scale, overlap_add

# Masks are made for so many frames at a time: the wide tensors of a piece stay in the processor's cache.
FRAMES_PER_PIECE = 512


class Block(nn.Module):
    """Pointwise, PReLU, norm, dilated depthwise convolution, PReLU, norm; then residual and skip outputs."""

    def __init__(
        self, channels: int, hidden: int, skip: int, kernel_size: int, dilation: int, causal: bool
    ) -> None:
        super().__init__()
        self.reach, self.causal = (kernel_size - 1) * dilation, causal
        self.expand = Pointwise(channels, hidden)
        self.activation_in, self.norm_in = PReLU(), make_norm(hidden, causal)
        padding = 0 if causal else self.reach // 2
        self.depthwise = nn.Conv1d(hidden, hidden, kernel_size, 1, padding, dilation, groups=hidden)
        self.activation_out, self.norm_out = PReLU(), make_norm(hidden, causal)
        self.residual = Pointwise(hidden, channels)
        self.skip = Pointwise(hidden, skip)

    def forward(self, x: Tensor) -> Tensor:
        """Hidden features [B, H, F] of x: [B, C, F]; `residual` and `skip` are applied by the caller."""
        h = self.norm_in(self.activation_in(self.expand(x)))
        h = self.depthwise(functional.pad(h, (self.reach, 0)) if self.causal else h)
        return self.norm_out(self.activation_out(h))


class ConvTasNet(Model):
    """Encoder, separator with skip connections, sigmoid masks, decoder; one waveform per source.

    Letters of the paper: num_filters N, filter_length L (samples), bottleneck_channels B,
    hidden_channels H, skip_channels Sc, kernel_size P, num_blocks X, num_repeats R.
    `causal` takes cumulative norms and convolutions that look back only. The count of weights is
    that of asteroid 0.6's network of the same sizes. Raises ValueError for sizes that do not fit.
    """

    def __init__(
        self,
        bottleneck_channels: int,
        hidden_channels: int,
        num_filters: int = 512,
        filter_length: int = 16,
        stride: int = 8,
        skip_channels: int = 128,
        kernel_size: int = 3,
        num_blocks: int = 7,
        num_repeats: int = 2,
        num_sources: int = 1,
        causal: bool = False,
        sample_rate: int = 16000,
        normalize: Normalize = "rms",
    ) -> None:
        super().__init__(sample_rate, normalize)
        require_positive(
            bottleneck_channels=bottleneck_channels, hidden_channels=hidden_channels, num_filters=num_filters,
            filter_length=filter_length, stride=stride, skip_channels=skip_channels, kernel_size=kernel_size,
            num_blocks=num_blocks, num_repeats=num_repeats, num_sources=num_sources,
        )  # fmt: skip
        if filter_length % stride or kernel_size % 2 == 0:
            raise ValueError("stride must divide filter_length, and kernel_size must be odd")
        if causal and normalize != "none":
            raise ValueError("a causal network cannot know the whole signal's level: set normalize: none")
        self.stride, self.num_sources, self._causal = stride, num_sources, causal
        self.encoder = nn.Parameter(nn.init.xavier_normal_(torch.empty(num_filters, filter_length)))
        self.decoder = nn.Parameter(nn.init.xavier_normal_(torch.empty(filter_length, num_filters)))
        self.norm = make_norm(num_filters, causal)
        self.bottleneck = nn.Linear(num_filters, bottleneck_channels)
        self.blocks = nn.ModuleList(
            Block(bottleneck_channels, hidden_channels, skip_channels, kernel_size, 2**x, causal)
            for _ in range(num_repeats)
            for x in range(num_blocks)
        )
        # The last residual output leads nowhere. It stays, so that the weights are those published, and
        # is frozen, so that training on several devices does not wait for its gradient.
        self.blocks[-1].residual.requires_grad_(False)
        self.activation = PReLU()
        self.mask = Pointwise(skip_channels, num_sources * num_filters)

    @property
    def causal(self) -> bool:
        """Whether no output waits for more than the latency."""
        return self._causal

    def receptive_field_frames(self) -> int:
        """Encoder frames that the convolutions let one mask frame see: 509 for P=3, X=7, R=2."""
        return 1 + sum(block.reach for block in self.blocks)

    def receptive_field_samples(self) -> int:
        """Span of the convolutions."""
        length = self.encoder.shape[1]
        frames_per_sample = length // self.stride
        return (self.receptive_field_frames() + frames_per_sample - 2) * self.stride + length

    def algorithmic_latency_samples(self) -> int | None:
        """One encoder window when causal."""
        return self.encoder.shape[1] if self.causal else None

    def process(self, mix: Tensor) -> Output:
        """Estimates wavs [B, 1, T] of mix: [B, T]."""
        num_samples, length = mix.shape[1], self.encoder.shape[1]
        num_frames = 1 + max(0, -(-(num_samples - length) // self.stride))
        padded = functional.pad(mix, (0, length + (num_frames - 1) * self.stride - num_samples))
        frames = padded.unfold(1, length, self.stride)
        features = self._separate(self._reduce(frames).transpose(1, 2).contiguous())
        pieces = zip(features.split(FRAMES_PER_PIECE, 2), frames.mT.split(FRAMES_PER_PIECE, 2), strict=True)
        estimates = torch.cat([self._mask_and_decode(f, x) for f, x in pieces], dim=2)
        wavs = overlap_add(estimates.to(mix.dtype), self.stride)[:, :num_samples]
        return Output(wavs=wavs.reshape(len(mix), self.num_sources, num_samples))

    def _reduce(self, frames: Tensor) -> Tensor:
        """bottleneck(norm(encode(frames))): [B, F, B'] of frames: [B, F, L], without the N-channel tensors.

        All three are linear once mean and deviation are known, and those follow from the frames and
        the Gram matrix of the filters; the product is the same up to rounding.
        """
        with torch.autocast(frames.device.type, enabled=False):
            gram = self.encoder.mT @ self.encoder / len(self.encoder)
            mean, power = frames @ self.encoder.mean(0), ((frames @ gram) * frames).sum(2)
            mean, scale = moments_to_scale(mean, power, self.norm.eps, self.causal)
            weight = self.bottleneck.weight * self.norm.weight
            shift = self.bottleneck.weight @ self.norm.bias + self.bottleneck.bias
            reduced = functional.linear(frames, weight @ self.encoder) - mean[..., None] * weight.sum(1)
            return reduced * scale[..., None] + shift

    def _separate(self, x: Tensor) -> Tensor:
        """Sum of the skip outputs [B, Sc, F] of the bottleneck's x: [B, B', F]."""
        total = None
        for block in self.blocks[:-1]:
            hidden = block(x)
            total = block.skip.add_to(total, hidden)
            x = x + block.residual(hidden)
        total = self.blocks[-1].skip.add_to(total, self.blocks[-1](x))
        return total + torch.stack([block.skip.bias for block in self.blocks]).sum(0)[:, None]

    def _mask_and_decode(self, features: Tensor, frames: Tensor) -> Tensor:
        """Masked frames [B S, L, F] of features: [B, Sc, F] and frames of the mixture: [B, L, F]."""
        batch = len(frames)
        masks = torch.sigmoid(self.mask(self.activation(features))).unflatten(1, (self.num_sources, -1))
        encoded = torch.bmm(self.encoder.expand(batch, -1, -1), frames)
        masked = (masks * encoded[:, None]).flatten(0, 1)
        return torch.bmm(self.decoder.expand(len(masked), -1, -1), masked)


PLUGIN = ConvTasNet
