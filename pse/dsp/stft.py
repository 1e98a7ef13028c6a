"""The short-time Fourier transform and its exact inverse."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Window = Literal["hann", "sqrt_hann"]


class STFT:
    """Centred STFT with reflect padding; the inverse divides by the summed squared windows.

    Holds no tensors: the window is made on the device and in the precision of its input.
    Raises ValueError for sizes the inverse could not undo: up to hop - 1 samples follow the centre of
    the last frame, and its window must not have faded out on them.
    """

    def __init__(self, n_fft: int = 1024, hop: int = 256, window: Window = "hann") -> None:
        if n_fft % 2 or not 1 <= hop <= n_fft // 4:
            raise ValueError(f"an STFT needs an even n_fft and 1 <= hop <= n_fft / 4, got {n_fft} and {hop}")
        if window not in ("hann", "sqrt_hann"):
            raise ValueError(f"window must be hann or sqrt_hann, got {window!r}")
        self.n_fft, self.hop, self.window = n_fft, hop, window

    @property
    def num_bins(self) -> int:
        """K, the number of non-negative frequencies."""
        return self.n_fft // 2 + 1

    def num_frames(self, num_samples: int) -> int:
        """F of a signal of `num_samples`: one frame is centred on every multiple of the hop."""
        return 1 + num_samples // self.hop

    def stft(self, x: Tensor) -> Tensor:
        """Complex spectrum [B, K, F] of x: [B, T], for any T >= 1; half precision is widened to float32.

        A signal too short to be reflected (T <= n_fft / 2) is extended by zeros first.
        """
        x = x if x.dtype == torch.float64 else x.float()
        num_samples = x.shape[-1]
        if num_samples < 1:
            raise ValueError("a signal needs at least one sample")
        too_short = self.n_fft // 2 + 1 - num_samples
        if too_short > 0:
            x = functional.pad(x, (0, too_short))
        window = self._window(x)
        spectrum = torch.stft(
            x, self.n_fft, self.hop, window=window, center=True, pad_mode="reflect", return_complex=True
        )
        return spectrum[..., : self.num_frames(num_samples)]

    def istft(self, spectrum: Tensor, num_samples: int) -> Tensor:
        """Signal [B, num_samples] of spectrum: [B, K, F]; F must be `num_frames(num_samples)`."""
        num_frames = spectrum.shape[-1]
        if num_frames != self.num_frames(num_samples):
            raise ValueError(f"{num_frames} frames cannot make {num_samples} samples at hop {self.hop}")
        window = self._window(spectrum.real)
        return torch.istft(spectrum, self.n_fft, self.hop, window=window, center=True, length=num_samples)

    def _window(self, like: Tensor) -> Tensor:
        hann = torch.hann_window(self.n_fft, dtype=like.dtype, device=like.device)
        return hann.sqrt() if self.window == "sqrt_hann" else hann
