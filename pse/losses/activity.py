"""What an embedding net is taught: the dominant source of every bin, and which bins count.

Bins run over frames, then frequency, wherever [K, F] is flattened to N, as networks make them:
`bins`, `points` and `unflattened` are the places that say so.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pse.errors import PseError

Rule = Literal["any_source", "all_sources", "mixture"]
RULES: tuple[Rule, ...] = ("any_source", "all_sources", "mixture")
THRESHOLD_DB = -40.0


def dominant_source(magnitudes: Tensor) -> Tensor:
    """The ideal binary masks: 1 for the loudest source of a bin, the first of equals.

    magnitudes: [B, S, K, F]; returns one-hot [B, S, K, F] of the same type.
    """
    largest, which = magnitudes[:, 0], torch.zeros_like(magnitudes[:, 0])
    # By comparison of two at a time: an argmax over an axis that is not the last is many times slower.
    for s in range(1, magnitudes.shape[1]):
        louder = magnitudes[:, s] > largest
        which = which.masked_fill(louder, s)
        largest = torch.maximum(largest, magnitudes[:, s])
    sources = torch.arange(magnitudes.shape[1], device=magnitudes.device).view(1, -1, 1, 1)
    return (which.unsqueeze(1) == sources).to(magnitudes)


def activity(
    magnitudes: Tensor,
    mixture: Tensor | None = None,
    *,
    rule: Rule = "any_source",
    threshold_db: float = THRESHOLD_DB,
    peaks: Tensor | None = None,
) -> Tensor:
    """Which bins are loud enough to count: bool [B, K, F].

    magnitudes: of the sources [B, S, K, F]; mixture: its magnitude [B, K, F], for the rule of that name.
    `any_source`: a source is louder than threshold_db re its own peak; `all_sources`: each that is not
    silent is (the paper's words allow both); `mixture`: the mixture is, re its own peak, as public code has it.
    peaks: largest magnitudes, [B, S] or for the mixture [B], of the whole recordings; None: of these frames,
    where a source that is quiet throughout has active bins too. Silence, and padding by zeros, is inactive.
    Raises PseError for another rule, or for `mixture` without one.
    """
    if rule not in RULES:
        raise PseError(f"no activity rule is named {rule!r}", "activity", f"choose one of {', '.join(RULES)}")
    if rule == "mixture" and mixture is None:
        raise PseError("the rule needs the mixture", "activity mixture", "give its magnitude [B, K, F]")
    heard = mixture.unsqueeze(1) if rule == "mixture" else magnitudes
    if peaks is None:
        peaks = heard.amax((2, 3))
    limit = 10 ** (threshold_db / 20) * peaks.reshape(heard.shape[0], heard.shape[1], 1, 1)
    loud = heard > limit
    if rule == "all_sources":
        silent = (peaks == 0).reshape(heard.shape[0], heard.shape[1], 1, 1)
        return (loud | silent).all(1) & loud.any(1)
    return loud.any(1)


def bins(x: Tensor) -> Tensor:
    """[B, S, K, F] as [B, N, S], and [B, K, F] as [B, N], with N = F K and bin n = f K + k."""
    return x.mT.flatten(1) if x.dim() == 3 else x.permute(0, 3, 2, 1).flatten(1, 2)


def points(embeddings: Tensor) -> Tensor:
    """Embeddings [B, K, F, D] as [B, N, D], in the order of `bins`; without a copy of what a network made."""
    return embeddings.transpose(1, 2).flatten(1, 2)


def unflattened(values: Tensor, num_bins: int) -> Tensor:
    """[.., N] in the order of `bins` as [.., K, F]."""
    return values.unflatten(-1, (-1, num_bins)).mT
