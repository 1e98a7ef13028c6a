"""The same losses frame by frame: 1024 samples every 256, Hann window, reflect-padded by 512.

There are F = 1 + T // 256 frames, centred on multiples of the hop, as a centred STFT has them (251
at 4 s and 16 kHz; the published numpy loop makes 250, which is refused here).

Presets (Sivaraman & Kim, JSTSP 2022, public code): `paper` removes means, adds 1e-8 and takes
(1/F) sum_f p_f l_f, so that a silent target frame costs a constant +80 dB without a gradient and
an example with small weights counts little. `robust` floors both energies 30 dB below the mean
frame of the target, so that noise in pauses is penalised, bounds every frame softly by 30 dB and
divides by the sum of the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pse.dsp.snr import frame_energy
from pse.errors import PseError
from pse.losses import EPS, Preset, in_float32
from pse.losses.snr import FLOOR_POWER, TINY

FRAME = 1024
HOP = 256
FRAME_FLOOR = 1e-3
BOUND_DB = 30.0


def num_frames(num_samples: int) -> int:
    """F of a signal of `num_samples` samples."""
    return 1 + num_samples // HOP


def _padded(x: Tensor) -> Tensor:
    return torch.nn.functional.pad(x.unsqueeze(1), (FRAME // 2, FRAME // 2), mode="reflect").squeeze(1)


def frame_losses(estimate: Tensor, target: Tensor, name: str, preset: Preset) -> Tensor:
    """l_f of every frame: [B, T], [B, T] -> [B, F]; in dB, or a power for `mse`."""
    if target.shape[-1] <= FRAME // 2:
        raise PseError(
            f"{target.shape[-1]} samples are too short for frames of {FRAME}",
            "segmental loss",
            f"train on examples of more than {FRAME // 2} samples, or set domain: whole",
        )
    if preset == "paper":
        estimate = estimate - estimate.mean(dim=-1, keepdim=True)
        target = target - target.mean(dim=-1, keepdim=True)
    estimate, target = _padded(estimate), _padded(target)
    error = estimate - target
    noise = frame_energy(error.square(), FRAME, HOP)
    if name == "mse":
        return noise / FRAME
    signal = frame_energy(target.square(), FRAME, HOP)
    # The part of the frame at which everything is silence, taken before the target is rescaled.
    floor = FRAME_FLOOR * signal.mean(dim=-1, keepdim=True) + FLOOR_POWER * FRAME
    if name == "neg_si_sdr":
        # y = (1 + g) s + r: what is left after projecting the error also remains of the estimate.
        gain = frame_energy(error * target, FRAME, HOP) / (signal + EPS)
        noise = (noise - gain.square() * signal).clamp_min(0.0)
        signal = (1 + gain).square() * signal
    if preset == "paper":
        return -10 * torch.log10(signal / (noise + EPS) + EPS)
    value = 10 * (torch.log10(noise + floor) - torch.log10(signal + floor))
    return BOUND_DB * torch.tanh(value / BOUND_DB)


@in_float32
def segmental(
    estimate: Tensor,
    target: Tensor,
    weights: Tensor | None = None,
    *,
    name: str = "neg_snr",
    preset: Preset = "robust",
    normalise: bool | None = None,
) -> Tensor:
    """Mean over frames of a per-frame loss, each frame counted with its weight.

    estimate, target: [B, T]; weights: [B, F] or None; returns [B]. `name`: neg_snr, neg_si_sdr or mse.
    normalise: divide by the sum of the weights (robust), or by F (paper); None: as the preset has it.
    Raises PseError when the weights are of another number of frames.
    """
    losses = frame_losses(estimate, target, name, preset)
    if weights is None:
        return losses.mean(dim=-1)
    if weights.shape != losses.shape:
        raise PseError(
            f"frame weights have shape {tuple(weights.shape)}, the signals {tuple(losses.shape)} frames",
            "segmental loss",
            f"compute them on centred frames with a hop of {HOP} samples: F = 1 + T // {HOP}",
        )
    if not (preset == "robust" if normalise is None else normalise):
        return (weights * losses).mean(dim=-1)
    return (weights * losses).sum(dim=-1) / weights.sum(dim=-1).clamp_min(TINY)
