"""Sparse non-negative factorisation with a dictionary for each speaker.

Magnitudes X are explained as W H: W has a spectrum in each column, of Euclidean length 1, and H says how
much of each sounds in each frame. Minimised is D(X | W H) + sparsity * sum(H), D being the divergence.
Without the unit length the penalty would be void: larger spectra would make up for smaller activations.

Every step is a majorisation: no step raises the objective, whatever the sparsity. Columns of any
length w with the penalty sparsity * |w| * sum(h) are the same problem; the length is bounded by a parabola
that touches it, and each column is brought back to length 1 afterwards, its activations making up for it.

Sources: Lee & Seung, NIPS 2000, for the steps without a penalty; Le Roux, Weninger & Hershey, "Sparse NMF -
half-baked or well done?", MERL TR2015-023, for the objective; their multiplicative step has no such proof.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from pse.baselines.base import Baseline, Scene
from pse.baselines.oracle import shares
from pse.clustering.kmeans import generator as generator_of
from pse.dsp.stft import STFT
from pse.errors import PseError
from pse.precision import full_precision

Divergence = Literal["kl", "euclidean"]
# Of the root mean square frame norm, added to every bin of a model: no division by zero.
FLOOR = 1e-8


@dataclass(frozen=True)
class NMFOptions:
    """How dictionaries are trained and mixtures explained.

    context_frames: a column is a frame and the context_frames - 1 before it. iterations: for a dictionary;
    mask_iterations: for a mixture. max_frames: of a speaker's frames as many are drawn at most.
    sparsity: with `kl` it does not depend on the level; with `euclidean` it is relative to the root mean
    square norm of all columns (0.2 does what 2 does with `kl`). More context wants more: 3 with 8 frames.
    Raises ValueError.
    """

    num_bases: int = 256
    context_frames: int = 1
    divergence: Divergence = "kl"
    sparsity: float = 2.0
    iterations: int = 100
    mask_iterations: int = 100
    max_frames: int = 20_000

    def __post_init__(self) -> None:
        if self.divergence not in ("kl", "euclidean"):
            raise ValueError(f"divergence must be kl or euclidean, got {self.divergence!r}")
        for name in ("num_bases", "context_frames", "mask_iterations", "max_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.iterations < 0 or not (self.sparsity >= 0 and math.isfinite(self.sparsity)):
            raise ValueError("iterations and sparsity must not be negative")


@torch.no_grad()
def train_dictionary(magnitudes: Sequence[Tensor], options: NMFOptions, generator: torch.Generator) -> Tensor:
    """A speaker's dictionary [C K, R], columns of length 1; rows [c K, (c + 1) K) belong to c frames ago.

    magnitudes: of the speaker's utterances, [K, F] each. generator: on the CPU, draws frames and start, so that
    a seed gives the same start on every device. Half precision is widened to float32.
    Raises PseError for shapes that do not fit, numbers that are negative or none, and silence.
    """
    where = "NMF dictionary"
    utterances = [_checked(m, where) for m in magnitudes]
    if len({len(m) for m in utterances}) != 1:
        raise PseError("the utterances have no common number of bins", where, "give at least one, all of one STFT")
    padded = torch.cat([_padded(m, options.context_frames) for m in utterances], 1)
    # The padding is silent, so no column ends in it.
    positions = padded.any(0).nonzero().squeeze(1)
    if not len(positions):
        raise PseError("all frames are silent", where, "give recordings in which the speaker is heard")
    drawn = torch.randperm(len(positions), generator=generator)[: options.max_frames].to(positions.device)
    frames = _columns(padded, positions[drawn], options.context_frames)
    frames = frames / _norm(frames)
    shape = (len(frames), options.num_bases), (options.num_bases, frames.shape[1])
    start = [torch.rand(s, generator=generator).to(frames) for s in shape]
    dictionary, activations = functional.normalize(start[0], dim=0), start[1]
    with full_precision(frames.device):
        for _ in range(options.iterations):
            activations = next_activations(frames, dictionary, activations, options)
            dictionary, activations = next_dictionary(frames, dictionary, activations, options)
    return dictionary


@torch.no_grad()
def masks(mixture: Tensor, dictionaries: Sequence[Tensor], options: NMFOptions) -> Tensor:
    """Masks [S, K, F] that sum to one: each speaker's part in the model of every bin; 1/S where there is none.

    mixture: magnitudes [K, F]; dictionaries: [C K, R] of the speakers in it, as `train_dictionary` makes them.
    Only the rows of the current frame make masks. Frames do not depend on one another beyond their context.
    Raises PseError for shapes that do not fit and numbers that are negative or none.
    """
    where = "NMF masks"
    mixture = _checked(mixture, where)
    num_bins, context = len(mixture), options.context_frames
    wrong = [list(d.shape) for d in dictionaries if d.dim() != 2 or len(d) != context * num_bins]
    if wrong or not dictionaries:
        raise PseError(
            f"{len(dictionaries)} dictionaries, {len(wrong)} of them without the {context} x {num_bins} rows it takes",
            where,
            "train a dictionary for each speaker with the same STFT and options",
        )
    padded = _padded(mixture, context)
    frames = _columns(padded, torch.arange(context - 1, padded.shape[1], device=padded.device), context)
    frames = frames / _norm(frames)
    spectra = [functional.normalize(_checked(d, where), dim=0).to(frames) for d in dictionaries]
    with full_precision(frames.device):
        together = torch.cat(spectra, 1)
        activations = frames.new_ones(together.shape[1], frames.shape[1])
        for _ in range(options.mask_iterations):
            activations = next_activations(frames, together, activations, options)
        parts = activations.split([d.shape[1] for d in spectra])
        heard = torch.stack([d[:num_bins] @ h for d, h in zip(spectra, parts, strict=True)])
    return shares(heard.unsqueeze(0)).squeeze(0)


def objective(frames: Tensor, dictionary: Tensor, activations: Tensor, options: NMFOptions) -> Tensor:
    """D(X | W H) + sparsity * sum(H), summed in float64, of X [N, F], W [N, R] and H [R, F]."""
    x, model = frames.double(), (dictionary @ activations).double()
    if options.divergence == "kl":
        model = model + FLOOR
        apart = torch.xlogy(x, x) - torch.xlogy(x, model) - x + model
    else:
        apart = (x - model).square() / 2
    return apart.sum() + options.sparsity * activations.double().sum()


def next_activations(frames: Tensor, dictionary: Tensor, activations: Tensor, options: NMFOptions) -> Tensor:
    """H [R, F] after a step with W [N, R] as it is."""
    if options.divergence == "kl":
        wanted = dictionary.mT @ (frames / (dictionary @ activations + FLOOR))
        held = dictionary.sum(0).unsqueeze(1)
    else:
        wanted = dictionary.mT @ frames
        held = torch.linalg.multi_dot([dictionary.mT, dictionary, activations])
    return activations * wanted / (held + options.sparsity).clamp_min(FLOOR)


def next_dictionary(
    frames: Tensor, dictionary: Tensor, activations: Tensor, options: NMFOptions
) -> tuple[Tensor, Tensor]:
    """W [N, R] after a step, its columns of length 1, and H [R, F] that makes up for their new lengths."""
    sounding = activations.sum(1)
    pull = options.sparsity * sounding
    if options.divergence == "kl":
        wanted = dictionary * ((frames / (dictionary @ activations + FLOOR)) @ activations.mT)
        # The positive root of pull w^2 + sounding w = wanted, in the form that also holds for pull = 0.
        root = (sounding.square() + 4 * pull * wanted).sqrt()
        new = 2 * wanted / (sounding + root).clamp_min(FLOOR)
    else:
        held = torch.linalg.multi_dot([dictionary, activations, activations.mT]) + pull * dictionary
        new = dictionary * (frames @ activations.mT) / held.clamp_min(FLOOR)
    length = new.square().sum(0).sqrt()
    # A spectrum that is heard nowhere stays as it is.
    gone = length < FLOOR
    new = torch.where(gone, dictionary, new / torch.where(gone, 1.0, length))
    return new, torch.where(gone, activations.T, activations.T * length).T


def _checked(magnitudes: Tensor, where: str) -> Tensor:
    if magnitudes.dim() != 2 or not magnitudes.numel() or not magnitudes.is_floating_point():
        raise PseError(f"{list(magnitudes.shape)} of {magnitudes.dtype} are no magnitudes [K, F]", where)
    if not (magnitudes >= 0).all() or magnitudes.isinf().any():
        raise PseError("magnitudes are negative, infinite or no numbers", where, "give the absolute values of an STFT")
    return magnitudes if magnitudes.dtype == torch.float64 else magnitudes.float()


def _padded(magnitudes: Tensor, context: int) -> Tensor:
    """[K, C - 1 + F]: before an utterance there is silence."""
    return functional.pad(magnitudes, (context - 1, 0))


def _columns(padded: Tensor, positions: Tensor, context: int) -> Tensor:
    """[C K, N]: the frames at `positions` [N], each on top of the C - 1 before it, the latest first."""
    return torch.cat([padded[:, positions - c] for c in range(context)])


def _norm(frames: Tensor) -> Tensor:
    """Root mean square of the columns' norms; never 0."""
    return frames.square().sum(0).mean().sqrt().clamp_min(torch.finfo(frames.dtype).tiny)


class NMF(Baseline):
    """Dictionaries of the speakers who are in the mixture, each trained when it is first needed."""

    Options = NMFOptions

    def __init__(self, options: NMFOptions, transform: STFT, cache: Any) -> None:
        super().__init__(options, transform, cache)
        self._dictionaries: dict[str, Tensor] = {}

    def masks(self, scene: Scene) -> Tensor:
        """Masks [S, K, F]. Raises PseError for a speaker who has no training speech."""
        return masks(scene.spectra[0].abs(), [self.dictionary(s) for s in scene.speakers], self.options)

    def dictionary(self, speaker: str) -> Tensor:
        """The dictionary of one speaker, the same in every run; raises PseError as `masks` does."""
        if speaker not in self._dictionaries:
            utterances = [torch.from_numpy(self.cache.read(u)) for u in self.cache.of_speaker(speaker)]
            if not utterances:
                raise PseError(
                    f"{speaker} has no training speech",
                    "NMF dictionary",
                    "take the baseline for test sets of training speakers only",
                )
            magnitudes = [self.transform.stft(u[None])[0].abs() for u in utterances]
            self._dictionaries[speaker] = train_dictionary(magnitudes, self.options, generator_of(0, speaker))
        return self._dictionaries[speaker]


PLUGIN = NMF
