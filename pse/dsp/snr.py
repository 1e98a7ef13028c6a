"""Signal-to-noise ratios: of a whole signal and frame by frame."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Energy below which a crop counts as silent: no finite gain gives it a signal-to-noise ratio.
SILENT_POWER = 1e-10


def power(samples: np.ndarray) -> float:
    """Mean square of [T], accumulated in float64."""
    return float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0


def snr_db(signal: np.ndarray, noise: np.ndarray) -> float:
    """10 log10 of the energy ratio of two signals [T]; both must have energy."""
    return 10.0 * float(np.log10(power(signal) / power(noise)))


def gain_for_snr(signal: np.ndarray, noise: np.ndarray, snr_db: float) -> float:
    """Factor b with SNR(signal, b * noise) = snr_db, from the energies of the two signals [T].

    Raises ValueError when either is silent.
    """
    signal_power, noise_power = power(signal), power(noise)
    if signal_power < SILENT_POWER or noise_power < SILENT_POWER:
        raise ValueError("a silent signal has no signal-to-noise ratio")
    return float(np.sqrt(signal_power / noise_power * 10.0 ** (-snr_db / 10.0)))


def frame_snr_db(
    signal: Tensor, noise: Tensor, n_fft: int = 1024, hop: int = 256, clamp_db: float | None = None
) -> Tensor:
    """Frame signal-to-noise ratio in dB: [B, T], [B, T] -> [B, F], F = 1 + T // hop.

    Hann-windowed frames, centred with reflect padding, energies floored by 1e-8 (the training
    target of the SNR predictor, 2104.02018). `clamp_db` bounds the value to +-clamp_db: in pauses
    the unclamped target can exceed 70 dB and would rule a squared error.
    """
    window = torch.hann_window(n_fft, device=signal.device, dtype=signal.dtype)

    def energy(x: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(x.unsqueeze(1), (n_fft // 2, n_fft // 2), mode="reflect").squeeze(1)
        return (padded.unfold(-1, n_fft, hop) * window).square().sum(-1)

    ratio = 10.0 * torch.log10((energy(signal) + 1e-8) / (energy(noise) + 1e-8))
    return ratio if clamp_db is None else ratio.clamp(-clamp_db, clamp_db)
