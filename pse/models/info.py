"""What a model costs and sees: weights, multiplications, receptive field, latency."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pse.models import recurrent
from pse.models.base import Model, num_parameters


def describe(model: Model) -> dict[str, Any]:
    """Size, cost and context of a model, as plain numbers; None where unbounded or the whole signal.

    `network_macs_per_s` counts the multiply-accumulates of matrix products and convolutions that one
    more second of audio takes, for a long signal. Biases, activations, norms and gates are left out.
    They are the products really computed. Counted layer by layer, Conv-TasNet would take more: N x B
    a frame for the bottleneck, which is folded into the encoder here (L x B + L x L + L instead), and
    H x B for the last residual output, which nothing uses: 2.09 instead of 1.99 GMAC for `large`.
    `stft_macs_per_s` is 1.25 n log2 n for each real transform of n points (half of 2.5 n log2 n
    operations), forward and, where the model makes audio, inverse.
    The receptive field is that of the layers; global norms and the input's level see the whole signal.
    """
    network, transforms = _macs_per_second(model)
    field, latency = model.receptive_field_samples(), model.algorithmic_latency_samples()
    return {
        "parameters": num_parameters(model),
        "parameters_trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "network_macs_per_s": network,
        "stft_macs_per_s": transforms,
        "receptive_field_samples": field,
        "receptive_field_ms": _milliseconds(field, model.sample_rate),
        "latency_samples": latency,
        "latency_ms": _milliseconds(latency, model.sample_rate),
        "causal": model.causal,
        "sample_rate": model.sample_rate,
        "normalize": model.normalize,
    }


def format_table(facts: dict[str, Any]) -> str:
    """The facts of `describe` as lines of two columns for a terminal."""

    def span(samples: int | None, milliseconds: float | None, unbounded: str) -> str:
        return unbounded if samples is None else f"{samples} samples ({milliseconds:.1f} ms)"

    frozen = facts["parameters"] - facts["parameters_trained"]
    rows = {
        "parameters": f"{facts['parameters']:,}" + (f" ({frozen:,} not trained)" if frozen else ""),
        "network": f"{facts['network_macs_per_s'] / 1e9:.4f} GMAC per second of audio",
        "transforms": f"{facts['stft_macs_per_s'] / 1e9:.4f} GMAC per second of audio",
        "receptive field": span(facts["receptive_field_samples"], facts["receptive_field_ms"], "unbounded"),
        "latency": span(facts["latency_samples"], facts["latency_ms"], "the whole signal"),
        "causal": "yes" if facts["causal"] else "no",
        "sample rate": f"{facts['sample_rate']} Hz",
        "level": {"none": "as given"}.get(facts["normalize"], f"divided by its {facts['normalize']}"),
    }
    if not facts["stft_macs_per_s"]:
        del rows["transforms"]
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def _macs_per_second(model: Model) -> tuple[float, float]:
    """Network and STFT MACs of a second: two lengths are run, so that the edges cancel."""
    # A copy on the processor: there recurrent layers run as products, which can be counted.
    plain = copy.deepcopy(model).cpu().eval()
    two_seconds, four_seconds = (_count_macs(plain, seconds * model.sample_rate) for seconds in (2, 4))
    network, transforms = ((b - a) / 2.0 for a, b in zip(two_seconds, four_seconds, strict=True))
    return network, transforms


def _count_macs(model: nn.Module, num_samples: int) -> tuple[int, int]:
    transforms = {torch.ops.aten._fft_r2c: _forward_operations, torch.ops.aten._fft_c2r: _inverse_operations}
    # oneDNN runs an LSTM layer in one piece, which the counter does not know.
    known = transforms | {torch.ops.aten.mkldnn_rnn_layer: _lstm_operations}
    with recurrent.plain(), torch.no_grad(), FlopCounterMode(display=False, custom_mapping=known) as counter:
        model(torch.zeros(1, num_samples))
    counts = counter.get_flop_counts().get("Global", {})
    operations = sum(counts.get(transform, 0) for transform in transforms)
    return (counter.get_total_flops() - operations) // 2, operations // 2


def _lstm_operations(shape: Sequence[int], inward: Sequence[int], hidden: Sequence[int], *_: Any, **__: Any) -> int:
    """Operations of an LSTM layer in one direction on [F, B, C], with weights [4 H, C] and [4 H, H]."""
    return 2 * shape[0] * shape[1] * (math.prod(inward) + math.prod(hidden))


def _forward_operations(shape: Sequence[int], dims: Sequence[int], *_: Any, **__: Any) -> int:
    """Operations of the real transforms of `shape` along the last of `dims`."""
    return round(2.5 * math.log2(shape[dims[-1]]) * math.prod(shape))


def _inverse_operations(
    shape: Sequence[int], dims: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any
) -> int:
    return _forward_operations(out_shape, dims)


def _milliseconds(samples: int | None, sample_rate: int) -> float | None:
    return None if samples is None else 1000.0 * samples / sample_rate
