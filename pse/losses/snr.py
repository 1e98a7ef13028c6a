"""Losses over the whole signal: negative SNR, negative SI-SDR, mean squared error.

Energies are sums over samples, each sample counted with its weight. Only the ratio of the weights
matters: scaling them changes nothing.

Presets: `paper` removes means and adds 1e-8 where the published code does (its value for a silent
target is the constant +80 dB, without a gradient); `robust` keeps the means and floors both
energies alike, so that noise left in a silent target is still reduced.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pse.errors import PseError
from pse.losses import EPS, Preset, in_float32

# Floors of `robust`: a mean power of -80 dB re full scale; for SI-SDR -80 dB re the estimate, and
# -140 dB re full scale below which an estimate is silence.
FLOOR_POWER = 1e-8
RELATIVE_FLOOR = 1e-8
SILENCE_POWER = 1e-14
TINY = 1e-30


def _normalised(weights: Tensor | None, like: Tensor) -> Tensor | None:
    """Weights [B, T] with mean one (all zero where they are all zero)."""
    if weights is None:
        return None
    if weights.shape != like.shape:
        raise PseError(
            f"sample weights have shape {tuple(weights.shape)}, the signals {tuple(like.shape)}",
            "loss",
            "make them with pse.losses.purification.frames_to_samples",
        )
    return weights / weights.mean(dim=-1, keepdim=True).clamp_min(TINY)


def _sum(x: Tensor, weights: Tensor | None) -> Tensor:
    return (x if weights is None else weights * x).sum(dim=-1)


def _without_mean(x: Tensor, weights: Tensor | None) -> Tensor:
    return x - (_sum(x, weights) / x.shape[-1]).unsqueeze(-1)


def _decibels(signal: Tensor, noise: Tensor, floor: Tensor | float, preset: Preset) -> Tensor:
    if preset == "paper":
        return -10 * torch.log10(signal / (noise + EPS) + EPS)
    return 10 * (torch.log10(noise + floor) - torch.log10(signal + floor))


@in_float32
def neg_snr(
    estimate: Tensor, target: Tensor, weights: Tensor | None = None, *, preset: Preset = "robust"
) -> Tensor:
    """-10 log10( sum_t p_t s_t^2 / sum_t p_t (y_t - s_t)^2 ) in dB.

    estimate, target, weights: [B, T]; returns [B]. Weighted, this is data purification as its project
    page states it: the samples are weighted inside one energy ratio (Sivaraman, Kim & Kim 2021).
    """
    weights = _normalised(weights, target)
    if preset == "paper":
        estimate, target = _without_mean(estimate, weights), _without_mean(target, weights)
    signal, noise = _sum(target.square(), weights), _sum((estimate - target).square(), weights)
    return _decibels(signal, noise, FLOOR_POWER * target.shape[-1], preset)


@in_float32
def neg_si_sdr(
    estimate: Tensor, target: Tensor, weights: Tensor | None = None, *, preset: Preset = "robust"
) -> Tensor:
    """Negative scale-invariant SDR in dB (Le Roux et al. 2019), with weighted energies.

    estimate, target, weights: [B, T]; returns [B]. A silent target leaves nothing to compare with:
    +80 dB and no gradient in both presets.
    """
    weights = _normalised(weights, target)
    if preset == "paper":
        estimate, target = _without_mean(estimate, weights), _without_mean(target, weights)
    scale = _sum(estimate * target, weights) / (_sum(target.square(), weights) + EPS)
    projection = scale.unsqueeze(-1) * target
    signal, noise = _sum(projection.square(), weights), _sum((estimate - projection).square(), weights)
    floor = RELATIVE_FLOOR * _sum(estimate.square(), weights) + SILENCE_POWER * target.shape[-1]
    return _decibels(signal, noise, floor, preset)


@in_float32
def mse(
    estimate: Tensor, target: Tensor, weights: Tensor | None = None, *, preset: Preset = "robust"
) -> Tensor:
    """Mean squared error, a power, of one form in both presets; all [B, T]; returns [B]."""
    return _sum((estimate - target).square(), _normalised(weights, target)) / target.shape[-1]
