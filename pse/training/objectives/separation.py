"""What the separation objectives share: mixtures with all their sources, and SI-SDR of what is separated."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pse.clustering.options import Clustering
from pse.data.collate import Batch
from pse.data.mixture import Crop, MixtureSpec
from pse.data.scene import Scene
from pse.data.segments import FixedSampler
from pse.data.speech_mixture import SpeakerSampler
from pse.dsp.stft import speech_stft
from pse.errors import PseError
from pse.losses.pit import pit
from pse.losses.snr import neg_si_sdr
from pse.training.objectives.base import Objective

# Clustering with fewer restarts than at the end is enough to see a training get better.
VALID_CLUSTERING = Clustering(restarts=2)


class Separation(Objective):
    """Train on batches of a mixture [B, T] and its sources [B, S, T]; missing sources are silent.

    The mixture is the scene's: with noise, or rooms of which the direct sound is wanted, it is more than the sum of
    the sources. Of training also `louder` [B, S]: how much larger the largest bin of a source's whole recording is
    than that of the crop, and `louder_frame` [B, S], how much larger that of a frame is. What is quiet is told by the
    recording, or the noise of a pause would be a speaker.

    valid: descriptions and scenes; those of one speaker are left out, of whom there is nothing to separate.
    Raises PseError where no other one is given.
    """

    headline = "si_sdr_i_db"
    larger_is_better = True

    def __init__(
        self, sampler: SpeakerSampler | FixedSampler, valid: Iterable[tuple[MixtureSpec, Scene]], options: Any
    ) -> None:
        self.sampler, self.options = sampler, options
        self._loudness: dict[str, np.ndarray] = {}
        self._valid = self._valid_batches(list(valid))

    def _valid_batches(self, valid: Sequence[tuple[MixtureSpec, Scene]]) -> list[Batch]:
        mixed = [(spec, scene) for spec, scene in valid if len(scene.sources) > 1]
        if valid and not mixed:
            what = f"the {len(valid)} validation examples have one speaker each, who cannot be separated"
            raise PseError(what, type(self).__name__, "validate on mixtures: num_speakers: [2]")
        # One at a time, as tests are: padding would change levels, and what a recurrent network hears.
        return [self._known(together([spec.id], [scene]), [spec], [scene]) for spec, scene in mixed]

    def batch(self, step_index_range: Sequence[int]) -> Batch:
        """Mixtures drawn live."""
        specs = [self.sampler.spec(i) for i in step_index_range]
        scenes = [self.sampler.rendered(s) for s in specs]
        batch = together([s.id for s in specs], scenes)
        louder = torch.ones(2, *batch["sources"].shape[:2])
        for row, spec in enumerate(specs):
            found = np.array([self._louder(c, spec.num_samples) for c in spec.sources], np.float32)
            louder[:, row, : len(found)] = torch.from_numpy(found.T)
        levels = {"louder": louder[0], "louder_frame": louder[1]}
        return self._known(Batch({**batch.tensors, **levels}, batch.ids), specs, scenes)

    def _known(self, batch: Batch, specs: Sequence[MixtureSpec], scenes: Sequence[Scene]) -> Batch:
        """The batch with what else an objective has to know of its examples."""
        return batch

    def _louder(self, crop: Crop, num_samples: int) -> np.ndarray:
        """[2]: the largest magnitude of a bin, and of a whole frame, of the recording over that of the crop.

        In a room too it is that of the recording itself.
        """
        cache = self.sampler.voices.cache
        transform = speech_stft(cache.sample_rate)
        if crop.utt not in self._loudness:
            whole = torch.from_numpy(np.array(cache.read(crop.utt), np.float32))[None]
            bins = transform.stft(whole)[0].abs()
            self._loudness[crop.utt] = torch.stack([bins.amax(0), bins.square().sum(0).sqrt()]).numpy()
        lasting = max(0, num_samples - crop.offset_samples)
        if crop.num_samples is not None:
            lasting = min(lasting, crop.num_samples)
        peaks, first = self._loudness[crop.utt], crop.start_samples // transform.hop
        there = peaks[:, first : first + lasting // transform.hop + 1].max(1, initial=0.0)
        return np.divide(peaks.max(1), there, out=np.ones_like(there), where=there > 0)

    def valid_batches(self) -> Iterable[Batch]:
        """The fixed validation mixtures."""
        return self._valid

    def validate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Loss of each example, and the mean SI-SDR improvement of its sources in dB."""
        loss, wavs = self.separated(model, batch)
        gains = [_gain_db(*x) for x in zip(batch["mix"], batch["sources"], wavs, strict=True)]
        return {"loss": loss, "si_sdr_i_db": torch.stack(gains)}

    @abstractmethod
    def separated(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss [B] and estimates [B, S, T], in any order; of more of them than sources the best count."""


def together(ids: Sequence[str], scenes: Sequence[Scene]) -> Batch:
    """A batch of scenes of different lengths and numbers of sources, filled up with zeros."""
    longest = max(len(s.mix) for s in scenes)
    mixes = np.zeros((len(scenes), longest), np.float32)
    sources = np.zeros((len(scenes), max(len(s.sources) for s in scenes), longest), np.float32)
    for mix, source, scene in zip(mixes, sources, scenes, strict=True):
        mix[: len(scene.mix)] = scene.mix
        source[: len(scene.sources), : len(scene.mix)] = scene.sources
    return Batch({"mix": torch.from_numpy(mixes), "sources": torch.from_numpy(sources)}, list(ids))


def spectra_of(model: nn.Module, batch: Batch) -> Tensor:
    """Spectra [B, 1 + S, K, F] of the mixture and its sources."""
    with torch.no_grad():
        signals = torch.cat([batch["mix"].unsqueeze(1), batch["sources"]], 1)
        return model.transform.stft(signals.flatten(0, 1)).unflatten(0, signals.shape[:2])


def si_sdr_costs(wavs: Tensor, sources: Tensor) -> Tensor:
    """Negative SI-SDR in dB of each of wavs [B, W, T] for each of sources [B, S, T]: [B, W, S]."""
    shape = (len(wavs), wavs.shape[1], sources.shape[1], wavs.shape[2])
    pairs = wavs[:, :, None].expand(shape).flatten(0, 2), sources[:, None].expand(shape).flatten(0, 2)
    return neg_si_sdr(*pairs).view(shape[:3])


def _gain_db(mix: Tensor, sources: Tensor, wavs: Tensor) -> Tensor:
    """Mean SI-SDR improvement of sources [S, T] that are not silent, for the best assignment of wavs."""
    sources = sources[sources.abs().amax(1) > 0]
    count, more = len(sources), len(wavs) - len(sources)
    # Estimates that are left over go to sources that cost nothing.
    costs = nn.functional.pad(si_sdr_costs(wavs[None], sources[None]), (0, max(0, more)))
    before = neg_si_sdr(mix.expand(count, -1), sources).mean()
    return before - pit(costs)[0][0] * (len(wavs) / count)
