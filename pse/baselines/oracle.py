"""Masks made from the sources themselves: how far any mask on the mixture's phase can go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pse.baselines.base import Baseline, Scene
from pse.errors import PseError
from pse.losses.activity import dominant_source
from pse.models.nodes import expanded, pooled


def oracle_masks(name: str, sources: Tensor, mixture: Tensor) -> Tensor:
    """The ideal masks [B, S, K, F] of one kind, real, in [0, 1].

    sources: [B, S, K, F] and mixture: [B, K, F], complex. name is one of

    `ibm`: 1 for the loudest source of a bin, the first of equals; 0 for the others.
    `irm`: |s| / sum |s|. (Wang, Narayanan & Wang, TASLP 2014, have the root of wfm instead.)
    `wfm`: |s|^2 / sum |s|^2: least mean squared error of all masks when the phases are random.
    `psm`: Re(s / y) cut to [0, 1]: least squared error of all masks in [0, 1].

    Where all sources are silent, irm and wfm are 1/S; psm is 0 where the mixture is silent.
    Raises PseError for another name, and shapes or types that do not fit.
    Source: Erdogan, Hershey, Watanabe & Le Roux, ICASSP 2015, table 1; for any number of sources Luo & Mesgarani,
    TASLP 2019.
    """
    if name not in MASKS:
        raise PseError(f"no oracle mask is named {name!r}", "oracle masks", f"choose one of {', '.join(MASKS)}")
    spectra = sources.dim() == 4 and sources.shape[1] and sources.is_complex() and mixture.is_complex()
    if not spectra or mixture.shape != sources.shape[:1] + sources.shape[2:]:
        raise PseError(
            f"sources {list(sources.shape)} and mixture {list(mixture.shape)} do not fit",
            "oracle masks",
            "give complex spectra [B, S, K, F] and [B, K, F]",
        )
    return MASKS[name](sources, mixture.unsqueeze(1))


def _binary(sources: Tensor, mixture: Tensor) -> Tensor:
    return dominant_source(sources.abs())


def _ratio(sources: Tensor, mixture: Tensor) -> Tensor:
    return shares(sources.abs())


def _wiener(sources: Tensor, mixture: Tensor) -> Tensor:
    # Relative to the loudest, squares of small numbers do not vanish.
    magnitudes = sources.abs()
    return shares((magnitudes / magnitudes.amax(1, keepdim=True).clamp_min(_tiny(magnitudes))).square())


def _phase_sensitive(sources: Tensor, mixture: Tensor) -> Tensor:
    return torch.where(mixture == 0, 0.0, (sources / mixture).real).clamp(0, 1)


def shares(amounts: Tensor) -> Tensor:
    """The part of each source in the sum over all of them, and 1/S where that is 0: [B, S, ..] of any such."""
    total = amounts.sum(1, keepdim=True)
    heard = total >= _tiny(amounts)
    return torch.where(heard, amounts / torch.where(heard, total, 1.0), 1 / amounts.shape[1])


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny


MASKS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ibm": _binary,
    "irm": _ratio,
    "wfm": _wiener,
    "psm": _phase_sensitive,
}


@dataclass(frozen=True)
class Options:
    """mask: ibm, irm, wfm or psm. node_bins (0: all), node_frames: of what has one value; see pse.models.nodes.

    n_fft, hop: of the STFT in samples; null takes the recipe's.
    """

    mask: str = "ibm"
    node_bins: int = 1
    node_frames: int = 1
    n_fft: int | None = None
    hop: int | None = None

    def __post_init__(self) -> None:
        if self.mask not in MASKS:
            raise ValueError(f"mask must be one of {', '.join(MASKS)}, got {self.mask!r}")
        if self.node_bins < 0 or self.node_frames < 1:
            raise ValueError("node_bins must be at least 0 and node_frames at least 1")
        if self.mask == "psm" and (self.node_bins, self.node_frames) != (1, 1):
            raise ValueError("psm is of bins, which have a phase")
        if (self.n_fft is None) != (self.hop is None):
            raise ValueError("n_fft and hop are given together")


class Oracle(Baseline):
    """Masks made from the sources themselves, which nobody has: a bound.

    Noise is one more source, whose mask nobody gets: given to the speakers it would bound nothing.
    """

    Options = Options

    def masks(self, scene: Scene) -> Tensor:
        """Masks [S, K, F]: of nodes by the magnitudes that their energies give."""
        if scene.noise is None:
            return self._masks(scene.spectra)
        return self._masks(torch.cat([scene.spectra, scene.noise[None]]))[:-1]

    def _masks(self, spectra: Tensor) -> Tensor:
        options = self.options
        shape = (options.node_bins or spectra.shape[1], options.node_frames)
        if shape == (1, 1):
            return oracle_masks(options.mask, spectra[None, 1:], spectra[:1])[0]
        nodes = pooled(spectra.abs().square(), shape).sqrt().to(spectra.dtype)
        return expanded(oracle_masks(options.mask, nodes[None, 1:], nodes[:1])[0], shape, *spectra.shape[1:])


PLUGIN = Oracle
