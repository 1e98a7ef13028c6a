"""Networks on a spectrum as graphs of real numbers: what ONNX and TorchScript can hold, waveform to waveform.

A graph has no branch and no loop over frames: signals of any length take the same path. The Fourier
transform is a product with a fixed basis, because torch's exporter by tracing knows no other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pse.dsp.level import FLOOR
from pse.dsp.stft import STFT
from pse.models.base import measure_level
from pse.models.embedding import LOG_FLOOR, EmbeddingModel
from pse.models.gru_mask import GRUMask
from pse.models.spectral_gru import LEVEL_MEMORY_S

# A running level forgets by e in a memory. So many of them later 17 digits are gone, and what was loud at the
# beginning does not reach the level of digital silence.
MEMORIES = 40


def overlap_add(frames: Tensor, hop: int) -> Tensor:
    """Signal [S, (F + P - 1) hop] that sums frames: [S, F, N] at their places, P = ceil(N / hop)."""
    # Numbers of the graph, and no variables of its trace.
    size = int(frames.shape[2])
    pieces = -(-size // hop)
    frames = functional.pad(frames, (0, pieces * hop - size))
    rows = [frames[:, :, i * hop : (i + 1) * hop] for i in range(pieces)]
    return sum(functional.pad(row, (0, 0, i, pieces - 1 - i)) for i, row in enumerate(rows)).flatten(1)


def cut(x: Tensor, size: int, hop: int, num_frames: int | Tensor) -> Tensor:
    """Frames [1, F, size] of x: [1, (F + P - 1) hop], P = ceil(size / hop)."""
    rows = x.reshape(1, -1, hop)
    return torch.cat([rows[:, i : i + num_frames] for i in range(-(-size // hop))], 2)[:, :, :size]


class Fourier(nn.Module):
    """The windowed transform of frames and its inverse, as products with one matrix."""

    def __init__(self, transform: STFT) -> None:
        super().__init__()
        self.n_fft, self.hop, self.num_bins = transform.n_fft, transform.hop, transform.num_bins
        window = transform._window(torch.zeros(1, dtype=torch.float64))
        # Whole turns are left out before the cosine is taken, which keeps its digits.
        turns = torch.arange(self.n_fft)[:, None] * torch.arange(self.num_bins) % self.n_fft
        angle = turns.double() * (2 * math.pi / self.n_fft)
        # A real inverse counts every bin but the first and the last twice.
        gain = torch.full((self.num_bins,), 2.0 / self.n_fft)
        gain[0] = gain[-1] = 1.0 / self.n_fft
        self.register_buffer("basis", (torch.cat([angle.cos(), -angle.sin()], 1) * window[:, None]).float())
        self.register_buffer("gain", gain)
        self.register_buffer("power", window.square().float())

    def analyse(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary part [1, F, K] of frames: [1, F, N]."""
        real, imaginary = (frames @ self.basis).split(self.num_bins, 2)
        return real, imaginary

    def synthesise(self, real: Tensor, imaginary: Tensor, masks: Tensor) -> Tensor:
        """Windowed frames [S, F, N] of a spectrum under masks: [S, F, K]."""
        masks = masks * self.gain
        return torch.cat([real * masks, imaginary * masks], 2) @ self.basis.T


class RunningLevel(nn.Module):
    """`pse.dsp.level.RunningLevel` without its loop: each level is a sum over the frames before."""

    def __init__(self, model: GRUMask) -> None:
        super().__init__()
        memory_frames = LEVEL_MEMORY_S * model.sample_rate / model.transform.hop
        self.decay = math.exp(-1.0 / memory_frames)
        self.noise_level = model.transform.noise_level * model.scale
        lags = torch.arange(math.ceil(MEMORIES * memory_frames), dtype=torch.float64)
        self.register_buffer("fading", (self.decay**lags).flip(0).float()[None, None])

    def forward(self, magnitude: Tensor) -> Tensor:
        """Magnitudes [1, F, K] divided by the level up to their frames."""
        power = self.power(magnitude)
        energy = functional.conv1d(functional.pad(power[:, None], (self.fading.shape[2] - 1, 0)), self.fading)
        weight = (1 - self.decay ** torch.arange(1, power.shape[1] + 1, dtype=torch.float32)) / (1 - self.decay)
        return self.divide(magnitude, energy[:, 0], weight)

    def power(self, magnitude: Tensor) -> Tensor:
        """Mean power [1, F] of magnitudes [1, F, K], of which noise of level 1 has 1."""
        return (magnitude / self.noise_level).square().mean(2)

    def divide(self, magnitude: Tensor, energy: Tensor, weight: Tensor) -> Tensor:
        """Magnitudes [1, F, K] divided by the root of energy: [1, F] over weight."""
        return magnitude / (energy / weight).sqrt().clamp_min(FLOOR)[..., None]


class SpectralGraph(nn.Module):
    """A mask network on whole signals: mix [1, T] -> [1, T], or [1, S, T] of S > 1 sources, for any T >= 1."""

    def __init__(self, model: GRUMask | EmbeddingModel) -> None:
        super().__init__()
        self.model, self.fourier = model, Fourier(model.transform)
        self.level = RunningLevel(model) if isinstance(model, GRUMask) and model.running else None

    def forward(self, mix: Tensor) -> Tensor:
        """Estimates of mix: [1, T]."""
        level, half, hop = measure_level(mix, self.model.normalize), self.fourier.n_fft // 2, self.fourier.hop
        num_samples = mix.shape[1]
        num_frames = 1 + num_samples // hop
        frames = self._frames(mix / level, num_samples, num_frames)
        real, imaginary = self.fourier.analyse(frames)
        masked = self.fourier.synthesise(real, imaginary, self._masks((real.square() + imaginary.square()).sqrt()))
        inside = slice(half, half + num_samples)
        power = overlap_add(self.fourier.power.expand(1, num_frames, -1), hop)[:, inside]
        wavs = overlap_add(masked, hop)[:, inside] / power * level
        return wavs if wavs.shape[0] == 1 else wavs[None]

    def _frames(self, mix: Tensor, num_samples: int | Tensor, num_frames: int | Tensor) -> Tensor:
        """The frames of `STFT.stft`: each sample is taken from where reflection, after zeros, finds it."""
        n_fft, hop = self.fourier.n_fft, self.fourier.hop
        half, pieces = n_fft // 2, -(-n_fft // hop)
        # The larger of T and half a window + 1, in a form that a trace follows.
        missing = half + 1 - num_samples
        last = num_samples + (missing + abs(missing)) // 2 - 1
        place = torch.arange(-half, (num_frames - 1 + pieces) * hop - half).abs()
        # The last row may reach farther than a window; what is there is cut off.
        place = (last - (last - place).abs()).clamp_min(0)
        return cut(functional.pad(mix, (0, half + 1))[:, place], n_fft, hop, num_frames)

    def _masks(self, magnitude: Tensor) -> Tensor:
        """Masks [S, F, K] of magnitudes [1, F, K]."""
        model = self.model
        if isinstance(model, EmbeddingModel):
            feature = (magnitude / model.transform.noise_level + LOG_FLOOR).log()
            return model.masks(model.encode((feature - model.mean) / model.deviation))[0].transpose(1, 2)
        heard = magnitude * model.scale
        hidden, _ = model.gru(heard if self.level is None else self.level(heard))
        return torch.sigmoid(model.mask(hidden))


class GRUBlock(nn.Module):
    """A causal GRU mask network on a block of one hop: block [1, hop] and states -> [1, hop] and new states.

    What comes out is late by `delay_samples`. All states are zeros at first: `past` samples, `blocks` so far (as far
    as that matters), `hidden` of the GRU, `energy` and `weight` of the running level, `overlap` of the output and
    of its squared windows.
    """

    multiple = False

    def __init__(self, model: GRUMask) -> None:
        super().__init__()
        self.model, self.fourier = model, Fourier(model.transform)
        self.level = RunningLevel(model) if model.running else None
        n_fft, hop = model.transform.n_fft, model.transform.hop
        # Frames are centred on multiples of the hop, so a frame may be complete some samples before a block ends.
        lag = -(n_fft // 2) % hop
        self.block_samples, self.span, self.first = hop, n_fft - hop + lag, -(-(n_fft // 2) // hop) - 1
        self.delay_samples = self.first * hop + n_fft // 2

    def states(self) -> dict[str, Tensor]:
        """The states by name, as they are before a signal."""
        n_fft, hop, gru = self.fourier.n_fft, self.fourier.hop, self.model.gru
        shapes = {"past": (1, self.span), "blocks": (1, 1), "hidden": (gru.num_layers, 1, gru.hidden_size)}
        shapes |= {"energy": (1, 1), "weight": (1, 1)} if self.level else {}
        return {name: torch.zeros(shape) for name, shape in (shapes | {"overlap": (2, n_fft - hop)}).items()}

    def forward(self, block: Tensor, past: Tensor, blocks: Tensor, hidden: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """The output's next samples and the new states."""
        hop, overlap = self.fourier.hop, rest[-1]
        heard = torch.cat([past, block], 1)
        # 0 until the first frame's window is full: what was computed before is taken back.
        valid = (blocks >= self.first).float()
        real, imaginary = self.fourier.analyse(self._frame(heard, blocks)[None])
        magnitude = (real.square() + imaginary.square()).sqrt() * self.model.scale
        if self.level is not None:
            energy, weight = (state * self.level.decay for state in rest[:2])
            energy, weight = energy + self.level.power(magnitude), weight + 1
            magnitude = self.level.divide(magnitude, energy, weight)
            rest = (energy * valid, weight * valid)
        out, hidden = self.model.gru(magnitude, hidden)
        masked = self.fourier.synthesise(real, imaginary, torch.sigmoid(self.model.mask(out)))[0]
        frames = torch.cat([masked, self.fourier.power[None]]) * valid
        total = functional.pad(overlap, (0, hop)) + frames
        place = torch.arange(hop) + (blocks - self.first) * hop - self.fourier.n_fft // 2
        wav = torch.where(place >= 0, total[:1, :hop] / total[1:, :hop].clamp_min(torch.finfo(total.dtype).tiny), 0.0)
        states = [heard[:, hop:], (blocks + 1).clamp_max(2 * self.first + 4), hidden * valid]
        return wav, *states, *rest[: 2 if self.level else 0], total[:, hop:]

    def _frame(self, heard: Tensor, blocks: Tensor) -> Tensor:
        """The newest frame [1, N] of the samples heard [1, N + lag], reflected where the signal had not begun."""
        begin = (blocks * self.fourier.hop - self.span)[0]
        place = (torch.arange(self.fourier.n_fft) + begin).abs() - begin
        return heard[:, place.clamp(0, heard.shape[1] - 1).long()]
