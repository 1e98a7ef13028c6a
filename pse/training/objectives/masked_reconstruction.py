"""Masked reconstruction: stretches of speech are hidden from a net, which tells their spectrum from what is around.

After Liu et al., "Mockingjay", ICASSP 2020 (1910.12638), which hides stretches of the columns of a spectrogram and
takes the mean absolute error of a prediction of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pse.data.collate import Batch
from pse.dsp.stft import STFT
from pse.errors import PseError
from pse.models.base import measure_level
from pse.training.objectives.base import LossOut
from pse.training.objectives.unlabelled import Unlabelled, UnlabelledOptions
from pse.training.objectives.verified import alone, equal_error_rate_of


@dataclass(frozen=True)
class Options(UnlabelledOptions):
    """share: of the frames that are hidden, less where stretches overlap; stretch_frames: hidden in a row.

    nodes_per_example and threshold_db are those of `eer`.
    """

    share: float = 0.3
    stretch_frames: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share < 1 or self.stretch_frames < 1:
            told = f"{self.share} and {self.stretch_frames}"
            raise ValueError(f"share must be above 0 and below 1 and stretch_frames at least 1, got {told}")


class Hidden(NamedTuple):
    """What is left of a mix [B, T], and of its frames [B, F] which are hidden wholly, and which not at all."""

    heard: Tensor
    hidden: Tensor
    visible: Tensor


class MaskedReconstruction(Unlabelled):
    """Predict the normalised log magnitudes of hidden frames, by the mean absolute error over frames and bins.

    Frames overlap, so that a column that is hidden alone could be told from the samples its neighbours share with it;
    here the samples are hidden, all of those under the windows of a stretch, whether a net hears samples or columns.
    The head is given the sum of the hidden frame's own vector, which a net with memory can fill, and of those of the
    two nearest frames that are wholly visible, each the heavier the nearer it is: a net that hears frames one by
    one has nothing else. The level, too, is that of what is left.
    """

    Options = Options

    @classmethod
    def head_size(cls, model: nn.Module, options: Options) -> int:
        """A number for each bin."""
        return model.transform.num_bins

    def loss(self, model: nn.Module, batch: Batch) -> LossOut:
        """The mean error of the batch."""
        return LossOut(self.errors(model, batch).mean())

    def validate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The error of each recording, and `eer`, for which nothing is hidden."""
        loss = torch.cat([self.errors(model, part) for part in alone(batch)])
        return {"loss": loss, "eer": equal_error_rate_of(model, *self.compared(model, batch)).expand(len(batch))}

    def errors(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean absolute error over the hidden frames of each example, [B], in deviations of the log magnitude."""
        mix, transform = batch["mix"], model.transform
        heard, hidden, visible = hide(mix, transform, batch["seeds"], self.options.share, self.options.stretch_frames)
        with torch.no_grad():
            spectrum = transform.stft(mix / measure_level(heard, model.normalize))
            wanted = (model.log_magnitude(spectrum) - model.mean) / model.deviation
        vectors = model(heard).embeddings[:, 0]
        told = model.head(vectors + around(vectors, visible)).to(wanted)
        return ((told - wanted).abs().mean(2) * hidden).sum(1) / hidden.sum(1)


def hide(mix: Tensor, transform: STFT, seeds: Tensor, share: float, stretch_frames: int) -> Hidden:
    """Set stretches of mix: [B, T] to zero, which the windows of `stretch_frames` frames in a row cover.

    seeds: whole numbers [B], one for each example; the same on every device. Stretches are where no window of theirs
    reaches beyond the signal, where it would hear a reflection. Raises PseError where there is no room for one.
    """
    num_samples, half = mix.shape[1], transform.n_fft // 2
    first = -(-half // transform.hop)
    places = (num_samples - half) // transform.hop - stretch_frames + 2 - first
    if places < 1:
        told = f"{num_samples} samples have no room for a hidden stretch of {stretch_frames} frames"
        raise PseError(told, "masked_reconstruction", "set a longer segment_s, or a smaller stretch_frames")
    count = max(1, round(share * transform.num_frames(num_samples) / stretch_frames))
    starts = torch.stack(
        [torch.randint(places, (count,), generator=torch.Generator().manual_seed(seed)) for seed in seeds.tolist()]
    )
    begins = ((first + starts) * transform.hop - half).to(mix.device).unsqueeze(2)
    length = (stretch_frames - 1) * transform.hop + transform.n_fft
    sample = torch.arange(num_samples, device=mix.device)
    left = ~((sample >= begins) & (sample < begins + length)).any(1)
    padded = functional.pad(left.to(mix), (half, half), mode="reflect")
    windows = padded.unfold(1, transform.n_fft, transform.hop)[:, : transform.num_frames(num_samples)]
    return Hidden(mix * left, windows.amax(2) == 0, windows.amin(2) == 1)


def around(vectors: Tensor, visible: Tensor) -> Tensor:
    """Vectors [B, F, D] of the nearest visible frames [B, F] before and after each frame, and between them a mix.

    Where there is none on one side the other's; where there is none at all, zeros.
    """
    size = visible.shape[1]
    place = torch.arange(size, device=vectors.device).expand_as(visible)
    before = place.masked_fill(~visible, -1).cummax(1).values
    after = place.masked_fill(~visible, size).flip(1).cummin(1).values.flip(1)
    weight = (place - before).to(vectors) / (after - before).clamp_min(1)
    weight = torch.where(before < 0, 1.0, torch.where(after == size, 0.0, weight)).unsqueeze(2)

    def at(places: Tensor) -> Tensor:
        return vectors.gather(1, places.clamp(0, size - 1).unsqueeze(2).expand_as(vectors))

    mixed = (1 - weight) * at(before) + weight * at(after)
    return mixed * visible.any(1)[:, None, None]


PLUGIN = MaskedReconstruction
