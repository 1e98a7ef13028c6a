"""GRU mask network: a recurrent net on the magnitude spectrum, a real mask on the complex one.

Sizes of Sivaraman & Kim, JSTSP 16(6), 2022 (bidirectional) and Interspeech 2021 (unidirectional).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pse.dsp.stft import STFT, Analysis, Synthesis
from pse.errors import PseError
from pse.models import recurrent
from pse.models.base import Normalize, Output
from pse.models.spectral_gru import Memory, SpectralGRU


class GRUMask(SpectralGRU):
    """|STFT| -> GRU -> Linear -> sigmoid mask on the complex STFT -> inverse STFT; one source.

    The GRU hears magnitudes of about 1 (those of noise of level 1), and not of about 20 as the transform
    gives them: its gates start unsaturated, and it learns faster (ours).
    """

    def __init__(
        self,
        hidden_size: int,
        bidirectional: bool = False,
        num_layers: int = 2,
        n_fft: int = 1024,
        hop: int = 256,
        sample_rate: int = 16000,
        normalize: Normalize | Literal["running"] = "rms",
    ) -> None:
        super().__init__(hidden_size, num_layers, bidirectional, n_fft, hop, sample_rate, normalize)
        self.mask = nn.Linear(hidden_size * (2 if bidirectional else 1), self.transform.num_bins)

    def algorithmic_latency_samples(self) -> int | None:
        """One STFT window when causal."""
        return self.transform.n_fft if self.causal else None

    @property
    def scale(self) -> float:
        """What magnitudes are multiplied by: noise of level 1 then has those of about 1."""
        return 1 / self.transform.noise_level

    def process(self, mix: Tensor) -> Output:
        """Estimate wavs [B, 1, T] and masks [B, 1, K, F] of mix: [B, T]."""
        if recurrent.is_training(mix):
            return self.process_together([self], [mix])[0]
        spectrum = self.transform.stft(mix)
        mask = self._masks(spectrum, self.memory()).to(mix.dtype)
        wavs = self.transform.istft(spectrum * mask, mix.shape[1])
        return Output(wavs=wavs[:, None], masks=mask[:, None])

    def streamer(self) -> _Streamer:
        """This network on a signal that comes in pieces."""
        return _Streamer(self)

    def _masks(self, spectrum: Tensor, memory: Memory) -> Tensor:
        return torch.sigmoid(self.mask(self.hear(spectrum, memory))).mT

    @staticmethod
    def process_together(models: Sequence[GRUMask], mixes: Sequence[Tensor]) -> list[Output]:
        """What `process` makes of one mix [B, T] each, all of one shape, which needs no gradient.

        Raises PseError for models whose transforms differ.
        """
        transform, num_samples = models[0].transform, mixes[0].shape[1]
        if any((m.transform.n_fft, m.transform.hop) != (transform.n_fft, transform.hop) for m in models):
            raise PseError("models of different n_fft or hop cannot be computed together", "gru_mask", "group them")
        analyses = [model.analyse(mix) for model, mix in zip(models, mixes, strict=True)]
        hidden = recurrent.run([m.gru for m in models], [heard for heard, _ in analyses])
        outputs = []
        for model, states, (_, spectra) in zip(models, hidden, analyses, strict=True):
            wavs, mask = _Synthesis.apply(transform, num_samples, states, model.mask.weight, model.mask.bias, *spectra)
            outputs.append(Output(wavs=wavs[:, None], masks=mask.mT[:, None]))
        return outputs


class _Streamer:
    """The masks frame by frame, and the samples that no later frame adds to."""

    def __init__(self, model: GRUMask) -> None:
        self.analysis, self.synthesis = Analysis(model.transform), Synthesis(model.transform)
        self.model, self.memory = model, model.memory()

    def push(self, mix: Tensor) -> Tensor:
        """The next samples [B, 1, T']."""
        return self._estimate(self.analysis.push(mix))

    def flush(self) -> Tensor:
        """The rest of the signal [B, 1, T']."""
        last = self._estimate(self.analysis.flush())
        return torch.cat([last, self.synthesis.flush(self.analysis.num_samples)[:, None]], 2)

    def _estimate(self, spectrum: Tensor) -> Tensor:
        if not spectrum.shape[2]:
            return spectrum.real[:, :1]
        return self.synthesis.push(spectrum * self.model._masks(spectrum, self.memory))[:, None]


class _Synthesis(torch.autograd.Function):
    """Mask sigmoid(h W + b) and masked signal [B, T] of h: [F, B, D] and the spectra [b, F, K] of pieces.

    The mask is real: its gradient is Re(conj(S) G) with G the transform of the framed gradient of the
    signal. Autograd would multiply complex numbers by the mask, at six times the cost.
    """

    @staticmethod
    def forward(
        ctx: Any, transform: STFT, num_samples: int, h: Tensor, weight: Tensor, bias: Tensor, *spectra: Tensor
    ) -> tuple[Tensor, Tensor]:
        frames, batch, _ = h.shape
        n_fft, hop, window = transform.n_fft, transform.hop, transform._window(h)
        mask, wavs, first = h.new_empty(batch, frames, transform.num_bins), h.new_empty(batch, num_samples), 0
        envelope = _overlap_add(window.square().expand(1, frames, -1), hop)[:, n_fft // 2 :][:, :num_samples]
        for spectrum in spectra:
            place = slice(first, first := first + len(spectrum))
            logits = recurrent.product(h[:, place].transpose(0, 1).reshape(-1, h.shape[2]), weight, bias)
            piece = torch.sigmoid(logits.view(spectrum.shape), out=mask[place])
            # Part by part: torch multiplies complex by real numbers at a third of the speed.
            masked = torch.empty_like(spectrum)
            torch.mul(spectrum.real, piece, out=masked.real)
            torch.mul(spectrum.imag, piece, out=masked.imag)
            signal = _overlap_add(torch.fft.irfft(masked, n_fft).mul_(window), hop)
            torch.div(signal[:, n_fft // 2 :][:, :num_samples], envelope, out=wavs[place])
        ctx.save_for_backward(h, weight, envelope, mask, *spectra)
        ctx.transform = transform
        ctx.set_materialize_grads(False)
        return wavs, mask

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_wavs: Tensor | None, d_mask: Tensor | None) -> tuple[Any, ...]:
        h, weight, envelope, mask, *spectra = ctx.saved_tensors
        transform, frames = ctx.transform, len(h)
        n_fft, hop = transform.n_fft, transform.hop
        d_h, d_weight, d_bias = torch.empty_like(h), torch.zeros_like(weight), weight.new_zeros(len(weight))
        if d_wavs is None:
            d_wavs = torch.zeros_like(envelope).expand(h.shape[1], -1)
        # An inverse real transform counts every bin but the first and the last twice.
        window = transform._window(h) * (2 / n_fft)
        first = 0
        for spectrum in spectra:
            place = slice(first, first := first + len(spectrum))
            around = (n_fft // 2, (frames - 1) * hop + n_fft // 2 - envelope.shape[1])
            d_signal = functional.pad(d_wavs[place] / envelope, around)
            g = torch.fft.rfft(d_signal.unfold(1, n_fft, hop) * window)
            d = torch.mul(g.real, spectrum.real).addcmul_(g.imag, spectrum.imag)
            d[..., :: n_fft // 2] *= 0.5
            if d_mask is not None:
                d += d_mask[place]
            d = torch.ops.aten.sigmoid_backward(d, mask[place]).flatten(0, 1)
            states = h[:, place].transpose(0, 1).reshape(-1, h.shape[2])
            d_weight += recurrent.product_over(states, d).T
            d_bias += d.sum(0)
            d_h[:, place] = recurrent.product(d, weight.T).view(-1, frames, h.shape[2]).transpose(0, 1)
        return None, None, d_h, d_weight, d_bias, *[None] * len(spectra)


def _overlap_add(x: Tensor, hop: int) -> Tensor:
    """Signal [B, (F - 1) hop + N] that sums the frames x: [B, F, N]."""
    pieces = -(-x.shape[2] // hop)
    x = functional.pad(x, (0, pieces * hop - x.shape[2])).unflatten(2, (pieces, hop))
    total = x.new_zeros(len(x), x.shape[1] + pieces - 1, hop)
    for i in range(pieces):
        total[:, i : i + x.shape[1]] += x[:, :, i]
    return total.flatten(1)


PLUGIN = GRUMask
