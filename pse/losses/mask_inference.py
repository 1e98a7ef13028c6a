"""Losses of nets that give masks: how far masked mixtures are from sources, whichever mask is whose."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pse.errors import PseError
from pse.losses.pit import pit

Target = Literal["magnitude", "phase_sensitive"]
Assignment = Literal["best", "loudest", "fixed"]


def targets(mixture: Tensor, sources: Tensor, kind: Target) -> Tensor:
    """Magnitudes [B, S, K, F] that masked mixtures should have, of spectra [B, K, F] and [B, S, K, F].

    magnitude: those of the sources (the paper's slides: squared error of spectra). phase_sensitive: what
    of a source is in phase with the mixture, from 0 to the mixture's magnitude (Erdogan et al., ICASSP
    2015; truncated as in Wang, Le Roux & Hershey, ICASSP 2018).
    """
    if kind == "magnitude":
        return sources.abs()
    size = mixture.abs().unsqueeze(1)
    along = (sources * mixture.unsqueeze(1).conj()).real / size.clamp_min(torch.finfo(size.dtype).tiny)
    return along.clamp_min(0).minimum(size)


def mask_loss(
    masks: Tensor,
    mixture: Tensor,
    sources: Tensor,
    *,
    kind: Target = "phase_sensitive",
    power: Literal[1, 2] = 1,
    assignment: Assignment = "best",
) -> Tensor:
    """Mean over bins of |mask |Y| - target|^power, relative to that of the mixture's magnitude itself: [B].

    masks: [B, S', K, F]; mixture: [B, K, F] and sources: [B, S, K, F], spectra.
    assignment: best, the one of least loss (permutation invariant); loudest, masks in the order of the
    sources' energy, so that one mask learns the strongest; fixed, in the order given.
    Raises PseError where there are fewer sources than masks, or (but for loudest) more.
    """
    if masks.shape[1] > sources.shape[1] or (assignment != "loudest" and masks.shape[1] != sources.shape[1]):
        what = f"{masks.shape[1]} masks for {sources.shape[1]} sources"
        raise PseError(what, "mask loss", "set num_masks of the model")
    wanted = targets(mixture, sources, kind)
    size = mixture.abs()
    if assignment == "loudest":
        order = sources.abs().square().sum((2, 3)).argsort(1, descending=True)[:, : masks.shape[1]]
        wanted = wanted[torch.arange(len(wanted), device=wanted.device)[:, None], order]
    estimates = masks.float() * size.unsqueeze(1)
    scale = (size.abs() ** power).mean((1, 2)).clamp_min(torch.finfo(size.dtype).tiny)
    if assignment != "best":
        return ((estimates - wanted).abs() ** power).mean((1, 2, 3)) / scale
    cost = torch.stack(
        [((estimates[:, i, None] - wanted).abs() ** power).mean((2, 3)) for i in range(masks.shape[1])], 1
    )
    return pit(cost)[0] / scale
