"""Data purification: trust each moment of a noisy target as far as its predicted SNR allows.

Two published forms. On the project page the samples are weighted inside one energy ratio over the
whole signal (domain `whole`); in the public code the frames are weighted in a segmental loss
(domain `segmental`). Sivaraman, Kim & Kim, Interspeech 2021; Sivaraman & Kim, JSTSP 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pse import registry
from pse.errors import PseError
from pse.losses import Preset, snr
from pse.losses.segmental import HOP, segmental

# estimate [B, T], target [B, T], frame weights [B, F] or None -> [B]
SignalLoss = Callable[..., Tensor]

MEASURES: dict[str, SignalLoss] = {"neg_snr": snr.neg_snr, "neg_si_sdr": snr.neg_si_sdr, "mse": snr.mse}
DOMAINS = ("whole", "segmental")
# Per dB, by what is weighed. Of the loss as published, close to a gate; of the target its Wiener gain:
# sigmoid(x ln(10) / 10) = r / (1 + r) for a ratio r of x dB.
SLOPES = {"loss": 1.0, "target": math.log(10) / 10}
PRESETS = ("paper", "robust")


def snr_to_weight(snr_db: Tensor, slope: float = 1.0, offset_db: float = 0.0) -> Tensor:
    """Weight in (0, 1) of an SNR in dB: sigmoid(slope (snr - offset)); any shape.

    With the published slope of 1 per dB this is close to a gate: -5 dB weighs 0.007, +5 dB 0.993.
    """
    return torch.sigmoid(slope * (snr_db.float() - offset_db))


def frames_to_samples(weights: Tensor, hop: int, num_samples: int) -> Tensor:
    """Interpolate frame weights [B, F] linearly to samples [B, T]; frame f stands at sample f * hop.

    Raises PseError unless F = 1 + T // hop.
    """
    frames = 1 + num_samples // hop
    if weights.shape[-1] != frames:
        raise PseError(
            f"{weights.shape[-1]} frame weights for {num_samples} samples",
            "data purification",
            f"{frames} are needed: compute them on centred frames, F = 1 + T // {hop}",
        )
    at_centres = torch.nn.functional.interpolate(
        weights.unsqueeze(1), size=(frames - 1) * hop + 1, mode="linear", align_corners=True
    ).squeeze(1)
    after = num_samples - at_centres.shape[-1]
    if after <= 0:
        return at_centres[..., :num_samples]
    return torch.cat([at_centres, weights[..., -1:].expand(-1, after)], dim=-1)


def _whole(
    estimate: Tensor,
    target: Tensor,
    weights: Tensor | None = None,
    *,
    function: SignalLoss,
    normalise: bool | None = None,
    **options: Any,
) -> Tensor:
    if weights is None:
        return function(estimate, target, None, **options)
    weights = frames_to_samples(weights.detach().float(), HOP, target.shape[-1])
    value = function(estimate, target, weights, **options)
    # Energies count weights by their ratio; an example that is hardly usable then counts as much as another.
    return value * weights.mean(dim=-1) if normalise is False else value


def _choice(value: str, choices: tuple[str, ...], what: str, where: str) -> None:
    if value not in choices:
        near = get_close_matches(str(value), choices, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(choices)}"
        raise PseError(f"no {what} is named {value!r}", where, hint)


def loss(
    name: str, domain: str = "whole", preset: Preset = "robust", where: str = "loss", normalise: bool | None = None
) -> SignalLoss:
    """The loss of these config names, as a function (estimate [B, T], target [B, T], weights) -> [B].

    `weights` are per frame, [B, F] with F = 1 + T // 256, or None (the unweighted control). A `name`
    other than neg_snr, neg_si_sdr and mse is looked up among the loss plug-ins, which take the same
    arguments and are not framed. normalise: whether the weights of an example are divided by their sum,
    so that every example counts alike; None: as published, which is only so over the whole signal.
    Raises PseError naming the nearest choice.
    """
    _choice(domain, DOMAINS, "loss domain", where)
    _choice(preset, PRESETS, "loss preset", where)
    if domain == "segmental":
        _choice(name, tuple(MEASURES), "segmental loss", where)
        return partial(segmental, name=name, preset=preset, normalise=normalise)
    if name in MEASURES:
        return partial(_whole, function=MEASURES[name], preset=preset, normalise=normalise)
    if name not in registry.names("loss"):
        _choice(name, (*MEASURES, *registry.names("loss")), "loss", where)
    return registry.find("loss", name, where)
