"""What an embedding net is taught: the dominant source of every bin, and which bins count.

Bins run over frequency, then frames, wherever [K, F] is flattened to N: `bins` is the one place that
says so, for labels, weights and embeddings [B, K, F, D] alike.
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
    return torch.zeros_like(magnitudes).scatter_(1, magnitudes.argmax(1, keepdim=True), 1.0)


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
    `any_source`: a source is louder than threshold_db re its own peak; `all_sources`: each is (the
    paper's words allow both); `mixture`: the mixture is, re its own peak, as public code has it.
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
    return loud.all(1) if rule == "all_sources" else loud.any(1)


def bins(x: Tensor) -> Tensor:
    """[B, S, K, F] as [B, N, S], and [B, K, F] as [B, N], with N = K F and bin n = k F + f."""
    return x.flatten(1) if x.dim() == 3 else x.flatten(2).mT
