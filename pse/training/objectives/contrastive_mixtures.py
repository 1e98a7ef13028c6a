"""Contrastive mixtures: PseudoSE on pairs that share either their speech or their noise.

Sivaraman & Kim, 2011.03426 and JSTSP 16(6), 2022. A positive pair is one noisy recording under two
noises, whose estimates should agree; a negative pair is two recordings under one noise, whose
estimates should differ as much as the recordings do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from pse.data.collate import Batch
from pse.data.mixture import MixtureSampler, MixtureSpec
from pse.errors import PseError
from pse.training.objectives.base import LossOut
from pse.training.objectives.material import training_batch
from pse.training.objectives.pseudo_se import Options as PseudoOptions
from pse.training.objectives.pseudo_se import PseudoSE


@dataclass(frozen=True)
class Options(PseudoOptions):
    """E is the loss, y are estimates, t their noisy targets.

    lambda_positive: of E(y1, y2) over the positive pairs. lambda_negative: of the negative pairs' term,
    squared: (E(y1, y2) - E(t1, t2))^2, as in the submitted paper's code, or
    max: max(E(y1, y2), E(t1, t2)), as in the code since, which does not push apart estimates that
    have become alike. The lambdas are those of the first paper's code; the later code has 1 and 1.
    """

    lambda_positive: float = 0.5
    lambda_negative: float = 2e-4
    negative: Literal["squared", "max"] = "squared"


def pair(sampler: MixtureSampler, number: int) -> tuple[MixtureSpec, MixtureSpec]:
    """Pair `number` of a stream, a positive one for even numbers: two descriptions.

    Raises PseError when the speech is a single utterance: there is nothing unlike it.
    """
    if len(sampler.speech_ids) < 2:
        fix = "give more recordings, or use objective: {name: pseudo_se}"
        raise PseError("contrastive mixtures need two recordings of the speaker at least", sampler.stream, fix)
    first = sampler.spec(2 * number)
    second = sampler.spec(2 * number + 1, unlike=first)
    if number % 2:
        return first, replace(second, noise=first.noise, snr_db=first.snr_db)
    speech = {n: getattr(first, n) for n in ("sources", "premixture_noise", "premixture_snr_db")}
    return first, replace(second, **speech)


class ContrastiveMixtures(PseudoSE):
    """PseudoSE with an agreement term over positive and a difference term over negative pairs."""

    Options = Options

    def batch(self, step_index_range: Sequence[int]) -> Batch:
        """Mixtures [B, T], B a multiple of 4: 2n and 2n + 1 are pair n, the even pairs are positive."""
        numbers = step_index_range
        if len(numbers) % 4 or numbers[0] % 4:
            told = f"contrastive mixtures come in positive and negative pairs: {len(numbers)} examples are not"
            raise PseError(told, "batch_size", "choose a multiple of 4 (times the number of processes)")
        pairs = range(numbers[0] // 2, (numbers[-1] + 1) // 2)
        specs = (spec for number in pairs for spec in pair(self.sampler, number))
        return training_batch(specs, self.sampler.sources, self.parts)

    def loss(self, model: nn.Module, batch: Batch) -> LossOut:
        """Signal term over all, lambda_positive x agreement, lambda_negative x difference."""
        options, target, weights = self.options, self.target(batch), self.weights(batch)
        estimate = model(batch["mix"]).wavs[:, 0]
        signal = self.waveform_loss(estimate, target, weights).mean()
        (y1, y2), (t1, t2) = _pairs(estimate), _pairs(target)
        w1, w2 = (None, None) if weights is None else _pairs(weights)
        positive = self.waveform_loss(y1[0::2], y2[0::2], None if w1 is None else w1[0::2]).mean()
        # A moment tells two recordings apart only where both can be trusted.
        both = None if w1 is None else (w1 * w2)[1::2]
        between = self.waveform_loss(y1[1::2], y2[1::2], both)
        apart = self.waveform_loss(t1[1::2], t2[1::2], both).detach()
        if options.negative == "squared":
            negative = (between - apart).square().mean()
        else:
            negative = torch.maximum(between, apart).mean()
        total = signal + options.lambda_positive * positive + options.lambda_negative * negative
        return LossOut(total, {"signal": signal, "positive": positive, "negative": negative})


def _pairs(values: Tensor) -> tuple[Tensor, Tensor]:
    """First and second members [B / 2, ...] of the pairs in values: [B, ...]."""
    return values[0::2], values[1::2]


PLUGIN = ContrastiveMixtures
