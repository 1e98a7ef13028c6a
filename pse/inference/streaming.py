"""Enhance audio as it comes: a causal model, chunk by chunk, with the output of the whole signal."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pse.errors import PseError
from pse.models.base import Model, network_of
from pse.models.conv_tasnet import ConvTasNet
from pse.models.gru_mask import GRUMask
from pse.models.snr_predictor import SNRPredictor
from pse.models.spectral_gru import SpectralGRU

GRU_SIZES = (32, 64, 128, 256, 512)
# By hidden channels.
TASNET_SIZES = {32: "tiny", 64: "small", 128: "medium", 256: "large"}


class Stream:
    """A causal model on audio that comes in chunks of any length, with a state of bounded size.

    What `push` and `flush` return, one behind the other, is what the model makes of the whole
    signal; each sample waits for `latency_samples` of input, its own included. Audio is [T] or
    [C, T], NumPy or torch, floating point in [-1, 1], the same from chunk to chunk, and comes out as
    it went in: [.., T], or [.., S, T] from a model that separates S sources. An SNR predictor gives
    its ratios in dB, [.., F]. model: a network, or a loaded one. Raises PseError for a model that is
    not causal and for another rate.
    """

    def __init__(self, model: Any, sample_rate: int) -> None:
        model = network_of(model)
        if not model.causal:
            what = f"the model needs the whole signal ({', '.join(_reasons(model))})"
            raise PseError(what, "stream", f"train a causal one, conf/models/{causal_config(model)}")
        if sample_rate != model.sample_rate:
            fix = f"record at {model.sample_rate} Hz, or convert before"
            raise PseError(f"audio at {sample_rate} Hz for a model of {model.sample_rate} Hz", "stream", fix)
        self.model, self.latency_samples = model, model.algorithmic_latency_samples()
        self._restart()
        weight = next(model.parameters())
        self._device, self._dtype = weight.device, weight.dtype

    def push(self, samples: np.ndarray | Tensor) -> np.ndarray | Tensor:
        """The output's next samples; none before the latency is over.

        Raises PseError for another kind or shape than before, whole numbers, NaN and infinity. The
        chunk is not taken then, and the stream can go on.
        """
        mix = self._accept(samples)
        self._num_samples += mix.shape[1]
        # A long chunk is worked on second by second, so that memory does not grow with it.
        with torch.inference_mode():
            out = torch.cat([self._streamer.push(part) for part in mix.split(self.model.sample_rate, 1)], 2)
        return self._as_given(out)

    def flush(self) -> np.ndarray | Tensor:
        """The rest of the output: the signal has ended. What is pushed then begins another one."""
        with torch.inference_mode():
            if self._num_samples:
                out = self._streamer.flush()
            else:
                out = self._streamer.push(torch.zeros(self._axes.numel(), 0, dtype=self._dtype, device=self._device))
        rest = self._as_given(out)
        self._restart()
        return rest

    def _restart(self) -> None:
        self._streamer, self._num_samples = self.model.streamer(), 0
        self._kind, self._axes = None, torch.Size()

    def _accept(self, samples: np.ndarray | Tensor) -> Tensor:
        """The chunk as [C, T] of the model's type, on its device."""
        kind = (Tensor if isinstance(samples, Tensor) else np.ndarray, tuple(samples.shape[:-1]))
        if samples.ndim not in (1, 2) or self._kind not in (None, kind):
            raise PseError(f"a chunk of shape {list(samples.shape)}", "stream", "[T] or [C, T] is needed, always alike")
        if not (samples.is_floating_point() if isinstance(samples, Tensor) else samples.dtype.kind == "f"):
            raise PseError(f"samples of type {samples.dtype}", "stream", "divide 16-bit samples by 32768.0")
        x = samples if isinstance(samples, Tensor) else torch.from_numpy(np.ascontiguousarray(samples, np.float32))
        if not x.isfinite().all():
            raise PseError("the chunk holds NaN or infinite samples", "stream", "push zeros in their place")
        self._kind, self._axes = kind, x.shape[:-1]
        # A copy: what is not worked on yet is kept, and a sound card writes the next block over this one.
        x = x.detach().to(self._device, self._dtype, copy=True)
        return x if x.ndim == 2 else x[None]

    def _as_given(self, out: Tensor) -> np.ndarray | Tensor:
        """Estimates [C, S, T] as the input was: kind, channels; no axis for a single source."""
        axes = [*self._axes, *([] if out.shape[1] == 1 else [out.shape[1]])]
        out = out.reshape(*axes, out.shape[2])
        return out.cpu().numpy() if self._kind is None or self._kind[0] is np.ndarray else out.clone()


def causal_config(model: Model) -> str:
    """File of a recipe's conf/models that is the causal form of a model: of its size, where there is one."""
    if isinstance(model, ConvTasNet):
        return f"conv_tasnet_{TASNET_SIZES.get(model.blocks[0].residual.in_features, '*')}_causal.yaml"
    if isinstance(model, SNRPredictor):
        return "snr_predictor_small_causal.yaml"
    size = model.gru.hidden_size if isinstance(model, GRUMask) else None
    return f"gru_{size if size in GRU_SIZES else '*'}_causal.yaml"


def _reasons(model: Model) -> list[str]:
    """The keys of a model's config that make it wait for the end, or its kind."""
    reasons = [] if model.normalize == "none" else [f"normalize: {model.normalize}"]
    if isinstance(model, SpectralGRU) and model.gru.bidirectional:
        reasons.append("bidirectional: true")
    if isinstance(model, ConvTasNet) and not model.causal:
        reasons.append("causal: false")
    return reasons or [type(model).__name__]
