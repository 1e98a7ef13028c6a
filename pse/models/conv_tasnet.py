"""Conv-TasNet: masks on a learned filterbank, estimated by dilated convolutions.

Luo & Mesgarani, "Conv-TasNet", IEEE/ACM TASLP 27(8), 2019, with the sizes of Sivaraman & Kim,
"Efficient personalized speech enhancement through self-supervised learning", JSTSP 16(6), 2022.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pse.models.base import Model, Normalize, Output, require_positive
from pse.models.layers import PastMoments, Pointwise, PReLU, make_norm, moments_to_scale, overlap_add

# Masks are made for so many frames at a time: the wide tensors of a piece stay in the processor's cache.
FRAMES_PER_PIECE = 512
MASKS = {"sigmoid": torch.sigmoid, "relu": torch.relu}


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

    def forward(self, x: Tensor, past: BlockPast | None = None) -> Tensor:
        """Hidden features [B, H, F] of x: [B, C, F]; `residual` and `skip` are applied by the caller."""
        h = self.activation_in(self.expand(x))
        if past is not None:
            h = past.convolve(self.depthwise, self.norm_in(h, past.norm_in))
            return self.norm_out(self.activation_out(h), past.norm_out)
        h = self.norm_in(h)
        h = self.depthwise(functional.pad(h, (self.reach, 0)) if self.causal else h)
        return self.norm_out(self.activation_out(h))


class BlockPast:
    """What a causal block remembers of a stream: the sums of its norms, the frames its convolution looks back on."""

    def __init__(self) -> None:
        self.norm_in, self.norm_out = PastMoments(), PastMoments()
        self.frames: Tensor | None = None

    def convolve(self, layer: nn.Conv1d, x: Tensor) -> Tensor:
        """Causal depthwise convolution [B, H, F] of x: [B, H, F] and the frames before it.

        Tap by tap: on the few frames of a live chunk a convolution call takes five times as long.
        """
        (size,), (dilation,), num_frames = layer.kernel_size, layer.dilation, x.shape[2]
        reach = (size - 1) * dilation
        x = functional.pad(x, (reach, 0)) if self.frames is None else torch.cat([self.frames, x], 2)
        self.frames = x[:, :, num_frames:]
        out = layer.bias[:, None]
        for tap, weight in enumerate(layer.weight.unbind(2)):
            out = torch.addcmul(out, x[:, :, tap * dilation : tap * dilation + num_frames], weight)
        return out


class ConvTasNet(Model):
    """Encoder, separator with skip connections, masks, decoder; one waveform per source.

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
        mask_activation: Literal["sigmoid", "relu"] = "sigmoid",
    ) -> None:
        super().__init__(sample_rate, normalize)
        require_positive(
            bottleneck_channels=bottleneck_channels, hidden_channels=hidden_channels, num_filters=num_filters,
            filter_length=filter_length, stride=stride, skip_channels=skip_channels, kernel_size=kernel_size,
            num_blocks=num_blocks, num_repeats=num_repeats, num_sources=num_sources,
        )  # fmt: skip
        if filter_length % stride or kernel_size % 2 == 0:
            raise ValueError("stride must divide filter_length, and kernel_size must be odd")
        if mask_activation not in MASKS:
            raise ValueError(f"mask_activation must be one of {', '.join(MASKS)}, got {mask_activation!r}")
        if causal and normalize != "none":
            raise ValueError("a causal network cannot know the whole signal's level: set normalize: none")
        self.stride, self.num_sources, self._causal = stride, num_sources, causal
        self.mask_activation = MASKS[mask_activation]
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
        estimates = self.estimate_frames(padded.unfold(1, length, self.stride))
        wavs = overlap_add(estimates.to(mix.dtype), self.stride)[:, :num_samples]
        return Output(wavs=wavs.reshape(len(mix), self.num_sources, num_samples))

    def estimate_frames(self, frames: Tensor, past: Past | None = None) -> Tensor:
        """Frames of the estimates [B S, L, F] of frames of the mixture: [B, F, L].

        With `past`, which is brought up to date, they continue a stream: the network must be causal.
        """
        reduced = self._reduce(frames, None if past is None else past.norm)
        features = self._separate(reduced.transpose(1, 2).contiguous(), past)
        if torch.jit.is_tracing():
            # A trace would keep the number of pieces.
            return self._mask_and_decode(features, frames.transpose(1, 2))
        pieces = zip(features.split(FRAMES_PER_PIECE, 2), frames.mT.split(FRAMES_PER_PIECE, 2), strict=True)
        return torch.cat([self._mask_and_decode(f, x) for f, x in pieces], dim=2)

    def streamer(self) -> ConvTasNetStreamer:
        """This network on a signal that comes in pieces; see `pse.inference.streaming`."""
        return ConvTasNetStreamer(self)

    def _reduce(self, frames: Tensor, past: PastMoments | None) -> Tensor:
        """bottleneck(norm(encode(frames))): [B, F, B'] of frames: [B, F, L], without the N-channel tensors.

        All three are linear once mean and deviation are known, and those follow from the frames and
        the Gram matrix of the filters; the product is the same up to rounding.
        """
        with torch.autocast(frames.device.type, enabled=False):
            gram = self.encoder.T @ self.encoder / len(self.encoder)
            mean, power = frames @ self.encoder.mean(0), ((frames @ gram) * frames).sum(2)
            mean, scale = moments_to_scale(mean, power, self.norm.eps, self.causal, past)
            weight = self.bottleneck.weight * self.norm.weight
            shift = self.bottleneck.weight @ self.norm.bias + self.bottleneck.bias
            reduced = functional.linear(frames, weight @ self.encoder) - mean[..., None] * weight.sum(1)
            return reduced * scale[..., None] + shift

    def _separate(self, x: Tensor, past: Past | None) -> Tensor:
        """Sum of the skip outputs [B, Sc, F] of the bottleneck's x: [B, B', F]."""
        total, pasts = None, past.blocks if past else [None] * len(self.blocks)
        for block, before in zip(self.blocks[:-1], pasts, strict=False):
            hidden = block(x, before)
            total = block.skip.add_to(total, hidden)
            x = x + block.residual(hidden)
        total = self.blocks[-1].skip.add_to(total, self.blocks[-1](x, pasts[-1]))
        return total + torch.stack([block.skip.bias for block in self.blocks]).sum(0)[:, None]

    def _mask_and_decode(self, features: Tensor, frames: Tensor) -> Tensor:
        """Masked frames [B S, L, F] of features: [B, Sc, F] and frames of the mixture: [B, L, F]."""
        batch = len(frames)
        masks = self.mask_activation(self.mask(self.activation(features))).unflatten(1, (self.num_sources, -1))
        encoded = torch.bmm(self.encoder.expand(batch, -1, -1), frames)
        masked = (masks * encoded[:, None]).flatten(0, 1)
        return torch.bmm(self.decoder.expand(len(masked), -1, -1), masked)


class Past:
    """What a causal network remembers of a stream."""

    def __init__(self, num_blocks: int) -> None:
        self.norm, self.blocks = PastMoments(), [BlockPast() for _ in range(num_blocks)]


class ConvTasNetStreamer:
    """A causal Conv-TasNet on a signal that comes in pieces, with a state of bounded size.

    A sample is final as soon as the last window that begins at or before it is full.
    """

    def __init__(self, model: ConvTasNet) -> None:
        self.model, self.past = model, Past(len(model.blocks))
        self._waiting: Tensor | None = None
        self._overlap: Tensor | None = None

    def push(self, mix: Tensor) -> Tensor:
        """The estimates' next samples [B, S, T'] after mix: [B, T]."""
        length, stride = self.model.encoder.shape[1], self.model.stride
        x = mix if self._waiting is None else torch.cat([self._waiting, mix], 1)
        num_samples = max(0, (x.shape[1] - length) // stride + 1) * stride
        self._waiting = x[:, num_samples:]
        if not num_samples:
            return mix.new_zeros(len(mix), self.model.num_sources, 0)
        total = overlap_add(self.model.estimate_frames(x.unfold(1, length, stride), self.past), stride)
        if self._overlap is not None:
            total[:, : length - stride] += self._overlap
        self._overlap = total[:, num_samples:]
        return total[:, :num_samples].unflatten(0, (len(mix), -1))

    def flush(self) -> Tensor:
        """The rest of the estimates [B, S, T'] when the signal has ended: zeros fill the last window."""
        length, (batch, num_samples) = self.model.encoder.shape[1], self._waiting.shape
        covered = self._overlap is not None and num_samples <= length - self.model.stride
        last = self.push(self._waiting.new_zeros(batch, 0 if covered else length - num_samples))
        return torch.cat([last, self._overlap.unflatten(0, (batch, -1))], 2)[..., :num_samples]


PLUGIN = ConvTasNet
