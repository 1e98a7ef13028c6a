"""Masks from clusters of bins, and which cluster is which speaker.

Silent bins, those that were not clustered, go as the policy says: to the `nearest` centroid, to
`none` of the masks, to `all` of them, or `split` in equal parts. All but `none` and `all` leave masks that
add up to one, so that the separated signals add up to the mixture.
"""

from __future__ import annotations

from typing import get_args

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pse.clustering.options import HARDNESS, Silent
from pse.errors import PseError

SILENT: tuple[Silent, ...] = get_args(Silent)


def binary_masks(labels: Tensor, num_sources: int, active: Tensor | None = None, silent: Silent = "nearest") -> Tensor:
    """Masks [B, S, K, F] of 0 and 1 (1/S in bins that are split).

    labels: of the nearest centroid [B, K, F], of all bins; active: bool [B, K, F], None: all are.
    Raises PseError for another policy.
    """
    clusters = torch.arange(num_sources, device=labels.device).view(1, -1, 1, 1)
    return silenced((labels.unsqueeze(1) == clusters).float(), active, silent)


def soft_masks(
    distances: Tensor, active: Tensor | None = None, silent: Silent = "nearest", *, hardness: float = HARDNESS
) -> Tensor:
    """Masks [B, S, K, F]: softmax over the sources of -hardness times the squared distances [B, S, K, F].

    As `binary_masks` otherwise; with a growing hardness they become those.
    """
    return silenced(torch.softmax(-hardness * distances, dim=1), active, silent)


def wiener(shares: Tensor) -> Tensor:
    """Gains [N, S] of a Wiener filter, by shares [N, S] of the amplitude: their squares over the sum of these."""
    power = shares.square()
    return power / power.sum(1, keepdim=True)


def permutations(masks: Tensor, mixture: Tensor, sources: Tensor) -> Tensor:
    """For each example the mask of each source, [B, S]: least squared error of masked mixture and source.

    masks: [B, S, K, F]; mixture: [B, K, F]; sources: [B, S, K, F], spectra (complex, or magnitudes).
    With segments of an utterance for examples this is the paper's oracle permutation.
    Raises PseError when there are fewer masks than sources.
    """
    if masks.shape[1] < sources.shape[1]:
        raise PseError(
            f"{masks.shape[1]} masks for {sources.shape[1]} sources",
            "oracle permutation",
            "cluster into as many clusters as there are sources",
        )
    masked = (masks * mixture.unsqueeze(1)).flatten(2)
    sources = sources.flatten(2)
    # |m x - s|^2 without |s|^2, which is the same whichever mask s gets.
    energy = masked.abs().square().sum(-1).unsqueeze(1)
    cost = energy - 2 * (sources @ masked.mH).real
    chosen = [linear_sum_assignment(c)[1] for c in cost.double().cpu().numpy()]
    return torch.stack([torch.from_numpy(c) for c in chosen]).to(masks.device)


def permuted(masks: Tensor, order: Tensor) -> Tensor:
    """masks [B, S, ..] in the order [B, S] that `permutations` found."""
    return masks[torch.arange(len(masks), device=masks.device)[:, None], order]


def silenced(masks: Tensor, active: Tensor | None, silent: Silent) -> Tensor:
    """Masks [B, S, K, F] with what a policy gives bins that are not active [B, K, F]; None: all are."""
    if silent not in SILENT:
        raise PseError(f"no policy for silent bins is named {silent!r}", "masks", f"choose one of {', '.join(SILENT)}")
    if active is None or silent == "nearest":
        return masks
    value = {"none": 0.0, "all": 1.0, "split": 1 / masks.shape[1]}[silent]
    return torch.where(active.bool().unsqueeze(1), masks, value)
