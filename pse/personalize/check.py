"""Whether personalising helped: on recordings that no training has heard, against the model that it began with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pse.data.cache import MemoryCache
from pse.inference.engine import enhance
from pse.losses.purification import frames_to_samples, snr_to_weight
from pse.losses.segmental import HOP
from pse.losses.snr import neg_si_sdr
from pse.models.base import device_of
from pse.personalize.adapt import sampler
from pse.scoring.metrics import Undefined
from pse.scoring.perceptual import dnsmos
from pse.scoring.statistics import Difference, clustered_difference

PER_PIECE, LEAST = 8, 48
# Frames below it hardly count, and mixtures of which so little counts not at all.
CLEAR_DB, LEAST_WEIGHT = 5.0, 0.1


@dataclass(frozen=True)
class Check:
    """SI-SDR improvement in dB of both models, and the difference over the pieces of speech."""

    base_db: float
    personal_db: float
    difference: Difference

    @property
    def helped(self) -> bool:
        """Whether the personal model is better for sure: the whole 95 % interval is above 0."""
        half = self.difference.half_width
        return half is not None and self.difference.mean > half

    @property
    def harmed(self) -> bool:
        """Whether it is worse for sure."""
        half = self.difference.half_width
        return half is not None and self.difference.mean < -half

    @property
    def text(self) -> str:
        """In words."""
        change = self.difference
        if not change.n:
            return "none of the recordings that it has not heard is clear enough to judge by"
        half, sure = (f" ± {change.half_width:.2f}", "95 % interval, ") if change.half_width is not None else ("", "")
        return (
            f"on recordings that it has not heard: base {self.base_db:.2f} dB, personal {self.personal_db:.2f} dB "
            f"SI-SDR improvement, {change.mean:+.2f}{half} dB ({sure}n = {change.n} pieces)"
        )


@torch.inference_mode()
def compare(
    base: Any, personal: Any, speech: MemoryCache, noise: MemoryCache, seed: int, predictor: Any = None
) -> Check:
    """Both models on the same mixtures of held-out speech and more noise.

    predictor: where the speech is noisy itself, it tells the frames that are clear enough to be a reference; None:
    all are. The weights of the frames are those of data purification (2104.02018), not those that training fades its
    targets with: a model gains nothing here from having learnt these.
    """
    source = sampler(speech, noise, seed, "check")
    scores: dict[str, dict[str, float]] = {"base": {}, "personal": {}}
    pieces: dict[str, str] = {}
    for number in range(max(LEAST, PER_PIECE * len(speech.ids))):
        spec, mixture = source.spec(number), source.render(number)
        mix, target = (torch.from_numpy(x)[None].to(device_of(base)) for x in (mixture.mix, mixture.premixture))
        weights = None if predictor is None else _clear(predictor(target).frame_snr_db, target)
        if weights is not None and float(weights.mean()) < LEAST_WEIGHT:
            continue
        pieces[spec.id] = spec.sources[0].utt
        for who, model in (("base", base), ("personal", personal)):
            gain_db = neg_si_sdr(mix, target, weights) - neg_si_sdr(model(mix).wavs[:, 0], target, weights)
            scores[who][spec.id] = float(gain_db)
    means = {who: sum(found.values()) / max(1, len(found)) for who, found in scores.items()}
    change = clustered_difference(scores["base"], scores["personal"], pieces)
    return Check(means["base"], means["personal"], change or Difference(0.0, None, 0, None, None))


@torch.inference_mode()
def quality(base: Any, personal: Any, speech: MemoryCache) -> str:
    """DNSMOS of held-out noisy recordings as they are and as both models leave them, in words; where it cannot be
    had, why. It hears what no reference tells, and decides nothing: it was made for other voices and noises."""
    told: dict[str, list[float]] = {"as they are": [], "base": [], "personal": []}
    try:
        for name in speech.ids:
            samples = speech.read(name)
            for who, model in zip(told, (None, base, personal), strict=True):
                made = samples if model is None else enhance(model, samples, speech.sample_rate)
                told[who].append(dnsmos(made, speech.sample_rate))
    except Undefined as reason:
        return f"no DNSMOS ({reason})"
    means = ", ".join(f"{who} {sum(values) / len(values):.2f}" for who, values in told.items())
    return f"DNSMOS of held-out recordings: {means} ({len(speech.ids)} pieces)"


def _clear(frame_snr_db: Tensor, signal: Tensor) -> Tensor:
    return frames_to_samples(snr_to_weight(frame_snr_db, offset_db=CLEAR_DB), HOP, signal.shape[-1])
