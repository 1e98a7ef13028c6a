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

    @property
    def noise_level(self) -> float:
        """RMS magnitude of a bin for white noise of RMS 1: the root of the window's energy."""
        return ((0.5 if self.window == "sqrt_hann" else 0.375) * self.n_fft) ** 0.5

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


class Analysis:
    """The frames of `STFT.stft` of a signal that comes in pieces, each as soon as its window is full."""

    def __init__(self, transform: STFT) -> None:
        self.transform, self.num_samples, self.num_frames = transform, 0, 0
        self._waiting: Tensor | None = None
        self._started = False

    def push(self, x: Tensor) -> Tensor:
        """The next frames [B, K, F] after x: [B, T]; half precision is widened to float32."""
        x = x if x.dtype == torch.float64 else x.float()
        self.num_samples += x.shape[1]
        x = x if self._waiting is None else torch.cat([self._waiting, x], 1)
        return self._transform(self._start(x) if self.num_samples >= self.transform.n_fft // 2 else x)

    def flush(self) -> Tensor:
        """The last frames [B, K, F] when the signal has ended: it is extended as in `STFT.stft`."""
        half = self.transform.n_fft // 2
        x = self._start(functional.pad(self._waiting, (0, max(0, half + 1 - self.num_samples))))
        num_frames = self.transform.num_frames(self.num_samples) - self.num_frames
        return self._transform(functional.pad(x, (0, half), mode="reflect"))[..., :num_frames]

    def _start(self, x: Tensor) -> Tensor:
        """Put the reflected start before the signal, once; it needs n_fft / 2 samples."""
        if self._started:
            return x
        self._started = True
        # All windows are 0 on the sample farthest back, so it need not be waited for.
        return torch.cat([functional.pad(x[:, 1 : self.transform.n_fft // 2].flip(1), (1, 0)), x], 1)

    def _transform(self, x: Tensor) -> Tensor:
        n_fft, hop = self.transform.n_fft, self.transform.hop
        num_frames = max(0, (x.shape[1] - n_fft) // hop + 1)
        self._waiting = x[:, num_frames * hop :]
        self.num_frames += num_frames
        if not num_frames:
            return torch.zeros(len(x), self.transform.num_bins, 0, dtype=x.dtype.to_complex(), device=x.device)
        return torch.fft.rfft(x.unfold(1, n_fft, hop) * self.transform._window(x)).mT


class Synthesis:
    """The samples of `STFT.istft` of frames that come in pieces, each as soon as no later frame adds to it."""

    def __init__(self, transform: STFT) -> None:
        # Frame 0 is centred on sample 0: half a window comes out before the signal begins.
        self.transform, self.num_samples = transform, -(transform.n_fft // 2)
        self._overlap: Tensor | None = None

    def push(self, spectrum: Tensor) -> Tensor:
        """The next samples [B, T] after F >= 1 frames of spectrum: [B, K, F]."""
        n_fft, hop, num_frames = self.transform.n_fft, self.transform.hop, spectrum.shape[2]
        window = self.transform._window(spectrum.real)
        frames = torch.fft.irfft(spectrum.mT, n_fft) * window
        # The last row sums the squared windows, by which the others are divided at the end.
        rows = torch.cat([frames, window.square().expand(1, num_frames, -1)])
        length = (num_frames - 1) * hop + n_fft
        total = functional.fold(rows.mT, (1, length), (1, n_fft), stride=(1, hop))[:, 0, 0]
        if self._overlap is not None:
            total[:, : n_fft - hop] += self._overlap
        self._overlap = total[:, num_frames * hop :]
        return self._emit(total[:, : num_frames * hop])

    def flush(self, num_samples: int) -> Tensor:
        """The rest [B, T] of a signal of `num_samples`, all of whose frames were pushed."""
        return self._emit(self._overlap[:, : num_samples - self.num_samples])

    def _emit(self, rows: Tensor) -> Tensor:
        first = max(0, -self.num_samples)
        self.num_samples += rows.shape[1]
        return rows[:-1, first:] / rows[-1:, first:]


def speech_stft(sample_rate: int) -> STFT:
    """Square-root Hann windows of 32 ms every 8 ms, as in deep clustering (1508.04306) at 8 kHz."""
    return STFT(2 * round(0.016 * sample_rate), round(0.008 * sample_rate), "sqrt_hann")
