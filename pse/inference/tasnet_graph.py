"""Conv-TasNet as a graph for ONNX and TorchScript: on whole signals, and block by block with its states outside."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pse.inference.spectral_graph import cut, overlap_add
from pse.models.base import measure_level
from pse.models.conv_tasnet import BlockPast, ConvTasNet, Past
from pse.models.layers import PastMoments


class TasNetGraph(nn.Module):
    """Conv-TasNet on whole signals: mix [1, T] -> [1, T], or [1, S, T] of S > 1 sources, for any T >= 1."""

    def __init__(self, model: ConvTasNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, mix: Tensor) -> Tensor:
        """Estimates of mix: [1, T]."""
        level, num_samples = measure_level(mix, self.model.normalize), mix.shape[1]
        length, stride = self.model.encoder.shape[1], self.model.stride
        # Frames after the first: the larger of 0 and what it takes, in a form that a trace follows.
        more = (num_samples + stride - 1) // stride - length // stride
        more = (more + abs(more)) // 2
        padded = functional.pad(mix / level, (0, length))[:, : length + more * stride]
        estimates = self.model.estimate_frames(cut(padded, length, stride, more + 1))
        wavs = overlap_add(estimates.transpose(1, 2), stride)[:, :num_samples] * level
        return wavs if wavs.shape[0] == 1 else wavs[None]


class TasNetBlock(nn.Module):
    """A causal Conv-TasNet on a block: block [1, n stride] and states -> [1, n stride] or [1, S, ..] and new states.

    What comes out is late by `delay_samples`. All states are zeros at first: `past` samples, `overlap` of the output,
    `frames` that the convolutions look back on, `sums` of the norms, and `num_frames` in them.
    """

    multiple = True

    def __init__(self, model: ConvTasNet) -> None:
        super().__init__()
        self.model, self.block_samples = model, model.stride
        # As many frames as begin before the signal does, and as many strides as the output is late.
        self.before = model.encoder.shape[1] // model.stride - 1
        self.delay_samples = self.before * model.stride

    def states(self) -> dict[str, Tensor]:
        """The states by name, as they are before a signal."""
        blocks = self.model.blocks
        hidden, reach = blocks[0].expand.out_features, sum(block.reach for block in blocks)
        return {
            "past": torch.zeros(1, self.delay_samples),
            "overlap": torch.zeros(self.model.num_sources, self.delay_samples),
            "frames": torch.zeros(1, hidden, reach),
            # In float64, so that hours do not drift.
            "sums": torch.zeros(1 + 2 * len(blocks), 2, dtype=torch.float64),
            "num_frames": torch.zeros(1, dtype=torch.float64),
        }

    def forward(
        self, block: Tensor, past: Tensor, overlap: Tensor, frames: Tensor, sums: Tensor, num_frames: Tensor
    ) -> tuple[Tensor, ...]:
        """The output's next samples and the new states."""
        length, stride = self.model.encoder.shape[1], self.model.stride
        heard = torch.cat([past, block], 1)
        new = block.shape[1] // stride
        number = num_frames + torch.arange(1, new + 1, dtype=torch.float64) - self.before
        memory = _Memory(self.model, frames, sums, number)
        estimates = self.model.estimate_frames(cut(heard, length, stride, new), memory)
        total = overlap_add(estimates.transpose(1, 2) * memory.valid[:, None], stride)
        total = total + functional.pad(overlap, (0, new * stride))
        wavs, overlap = total[:, : new * stride], total[:, new * stride :]
        wavs = wavs if self.model.num_sources == 1 else wavs[None]
        return wavs, heard[:, new * stride :], overlap, *memory.states(), num_frames + new


class _Memory(Past):
    """What the network remembers, taken from the states and written back to them."""

    def __init__(self, model: ConvTasNet, frames: Tensor, sums: Tensor, number: Tensor) -> None:
        # Frames that begin before the signal does are no frames: they have a number below 1.
        self.valid, self.count = (number > 0).float(), number.clamp_min(1)
        moments = [_Moments(self, row) for row in sums.reshape(-1, 2, 1, 1).unbind(0)]
        looked_back_on = frames.split([block.reach for block in model.blocks], 2)
        self.norm = moments[0]
        self.blocks = [_BlockPast(self, *of) for of in zip(looked_back_on, moments[1::2], moments[2::2], strict=True)]

    def states(self) -> tuple[Tensor, Tensor]:
        """The new frames [1, H, sum of reaches] and sums [norms, 2]."""
        moments = [self.norm, *(moment for block in self.blocks for moment in (block.norm_in, block.norm_out))]
        return torch.cat([b.frames for b in self.blocks], 2), torch.cat([m.sums.reshape(1, 2) for m in moments])


class _Moments(PastMoments):
    def __init__(self, memory: _Memory, sums: Tensor) -> None:
        self.memory, self.sums = memory, sums

    def include(self, mean: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
        sums = (torch.stack((mean, power)) * self.memory.valid).double().cumsum(2) + self.sums
        self.sums = sums[..., -1:]
        mean, power = (sums / self.memory.count).to(mean.dtype).unbind(0)
        return mean, power


class _BlockPast(BlockPast):
    def __init__(self, memory: _Memory, frames: Tensor, norm_in: _Moments, norm_out: _Moments) -> None:
        self.memory, self.frames, self.norm_in, self.norm_out = memory, frames, norm_in, norm_out

    def convolve(self, layer: nn.Conv1d, x: Tensor) -> Tensor:
        return super().convolve(layer, x * self.memory.valid)
