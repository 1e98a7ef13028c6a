"""How well similarities tell pairs of one speaker from pairs of two: the equal error rate."""

from __future__ import annotations

import torch
from torch import Tensor


def equal_error_rate(scores: Tensor, same: Tensor) -> float:
    """Where as large a share of the pairs of two speakers is accepted as of those of one is refused, in percent.

    scores: [N], a pair is accepted where its score is at least the threshold; same: bool [N]. Between two
    thresholds that have scores the two shares are taken to be linear, so that where all scores are the same it is
    50. Not a number where there is no pair of one of the kinds, or a score is none.
    """
    if not same.any() or same.all() or scores.isnan().any():
        return float("nan")
    scores, order = scores.sort(descending=True)
    same = same[order]
    last = torch.cat([scores[1:] != scores[:-1], same.new_ones(1)])
    refused = 1 - (same.cumsum(0).double() / same.sum())[last]
    accepted = ((~same).cumsum(0).double() / (~same).sum())[last]
    refused, accepted = torch.cat([refused.new_ones(1), refused]), torch.cat([accepted.new_zeros(1), accepted])
    crossed = int((accepted >= refused).nonzero()[0])
    before, after = (refused - accepted)[crossed - 1], (accepted - refused)[crossed]
    way = before / (before + after)
    return 100 * float(accepted[crossed - 1] + way * (accepted[crossed] - accepted[crossed - 1]))
