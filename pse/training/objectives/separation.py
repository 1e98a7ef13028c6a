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
from pse.data.speech_mixture import SpeakerSampler, render_sources
from pse.dsp.stft import speech_stft
from pse.losses.pit import pit
from pse.losses.snr import neg_si_sdr
from pse.training.objectives.base import Objective

# Clustering with fewer restarts than at the end is enough to see a training get better.
VALID_CLUSTERING = Clustering(restarts=2)


class Separation(Objective):
    """Train on batches of a mixture [B, T] and its sources [B, S, T]; missing sources are silent.

    Of training also `louder` [B, S]: how much larger the largest bin of a source's whole recording is than that of
    the crop. What is quiet is told by the recording, or the noise of a pause would be a speaker.
    """

    headline = "si_sdr_i_db"
    larger_is_better = True

    def __init__(
        self, sampler: SpeakerSampler, valid: Iterable[tuple[MixtureSpec, np.ndarray]], options: Any
    ) -> None:
        self.sampler, self.options = sampler, options
        # One at a time, as tests are: padding would change levels, and what a recurrent network hears.
        self._valid = [together([s.id], [x]) for s, x in valid]
        self._peaks: dict[str, np.ndarray] = {}

    def batch(self, step_index_range: Sequence[int]) -> Batch:
        """Mixtures drawn live."""
        specs = [self.sampler.spec(i) for i in step_index_range]
        batch = together([s.id for s in specs], [render_sources(s, self.sampler.voices.cache) for s in specs])
        louder = torch.ones(batch["sources"].shape[:2])
        for row, spec in zip(louder, specs, strict=True):
            row[: len(spec.sources)] = torch.tensor([self._louder(c, spec.num_samples) for c in spec.sources])
        return Batch({**batch.tensors, "louder": louder}, batch.ids)

    def _louder(self, crop: Crop, num_samples: int) -> float:
        """The largest magnitude of a bin of the whole recording, over that of the crop."""
        cache = self.sampler.voices.cache
        transform = speech_stft(cache.sample_rate)
        if crop.utt not in self._peaks:
            whole = torch.from_numpy(np.array(cache.read(crop.utt), np.float32))[None]
            self._peaks[crop.utt] = transform.stft(whole)[0].abs().amax(0).numpy()
        peaks, first = self._peaks[crop.utt], crop.start_samples // transform.hop
        there = peaks[first : first + num_samples // transform.hop + 1].max(initial=0.0)
        return float(peaks.max() / there) if there > 0 else 1.0

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
        """Loss [B] and estimates [B, S, T], in any order."""


def together(ids: Sequence[str], sources: Sequence[np.ndarray]) -> Batch:
    """A batch of sources [S, T] of different numbers and lengths, filled up with zeros."""
    shape = (len(sources), max(len(x) for x in sources), max(x.shape[1] for x in sources))
    out = np.zeros(shape, np.float32)
    for row, x in zip(out, sources, strict=True):
        row[: len(x), : x.shape[1]] = x
    whole = torch.from_numpy(out)
    return Batch({"mix": whole.sum(1), "sources": whole}, list(ids))


def spectra_of(model: nn.Module, batch: Batch) -> Tensor:
    """Spectra [B, 1 + S, K, F] of the mixture and its sources."""
    with torch.no_grad():
        signals = torch.cat([batch["mix"].unsqueeze(1), batch["sources"]], 1)
        return model.transform.stft(signals.flatten(0, 1)).unflatten(0, signals.shape[:2])


def _gain_db(mix: Tensor, sources: Tensor, wavs: Tensor) -> Tensor:
    """Mean SI-SDR improvement of sources [S, T] that are not silent, for the best assignment of wavs."""
    sources = sources[sources.abs().amax(1) > 0]
    count = len(sources)
    pairs = neg_si_sdr(wavs[:count, None].expand(-1, count, -1).flatten(0, 1), sources.repeat(count, 1))
    before = neg_si_sdr(mix.expand(count, -1), sources).mean()
    return before - pit(pairs.view(1, count, count))[0][0]
