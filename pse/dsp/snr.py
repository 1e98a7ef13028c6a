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

    def energy(x: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(x.unsqueeze(1), (n_fft // 2, n_fft // 2), mode="reflect").squeeze(1)
        return frame_energy(padded.square(), n_fft, hop)

    ratio = 10.0 * torch.log10((energy(signal) + 1e-8) / (energy(noise) + 1e-8))
    return ratio if clamp_db is None else ratio.clamp(-clamp_db, clamp_db)


def frame_energy(products: Tensor, frame: int, hop: int) -> Tensor:
    """Hann-windowed energy of each frame of a product of two padded signals: [B, T + frame] -> [B, F].

    A frame is a whole number of hops, so its energy is a sum over its blocks: one small matrix
    product instead of a manifold copy of the signal.
    """
    parts = frame // hop
    window = torch.hann_window(frame, device=products.device, dtype=products.dtype).square()
    frames = (products.shape[-1] - frame) // hop + 1
    blocks = products[..., : (frames + parts - 1) * hop].unflatten(-1, (-1, hop))
    partial = blocks @ window.view(parts, hop).T
    return torch.stack([partial[..., j : j + frames, j] for j in range(parts)]).sum(0)
