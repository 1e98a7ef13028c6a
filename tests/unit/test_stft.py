"""Laws of the short-time Fourier transform."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pse.dsp.stft import STFT

LENGTHS = [1, 2, 255, 256, 257, 511, 512, 513, 514, 1023, 1024, 5000, 16000]


def noise(num_samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, num_samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("num_samples", LENGTHS)
@pytest.mark.parametrize(("hop", "window"), [(256, "hann"), (256, "sqrt_hann"), (100, "hann"), (1, "hann")])
def test_the_inverse_gives_the_signal_back(num_samples: int, hop: int, window: str) -> None:
    transform, x = STFT(1024, hop, window), noise(num_samples)
    assert torch.allclose(transform.istft(transform.stft(x), num_samples), x, atol=1e-5)


@pytest.mark.parametrize("num_samples", LENGTHS)
def test_there_are_513_bins_and_one_frame_a_hop_and_one_more(num_samples: int) -> None:
    spectrum = STFT().stft(noise(num_samples))
    assert spectrum.shape == (2, 513, 1 + num_samples // 256)
    assert STFT().num_frames(num_samples) == spectrum.shape[2] and STFT().num_bins == 513


@pytest.mark.parametrize("frame", [0, 1, 7, 15])
def test_a_frame_is_the_dft_of_the_windowed_reflected_signal_around_its_centre(frame: int) -> None:
    x = noise(4000)
    padded = np.pad(x[0].double().numpy(), 512, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    expected = np.fft.rfft(padded[frame * 256 : frame * 256 + 1024] * window)
    assert np.allclose(STFT().stft(x)[0, :, frame].numpy(), expected, atol=1e-4)


def test_the_square_root_window_squares_to_hann() -> None:
    impulse = torch.zeros(1, 4096)
    impulse[0, 2048 + 100] = 1.0
    hann, root = (STFT(1024, 256, w).stft(impulse)[0, :, 8].abs() for w in ("hann", "sqrt_hann"))
    assert torch.allclose(root.square(), hann, atol=1e-6) and hann.min() > 0.5


def test_half_precision_is_widened_and_double_is_kept() -> None:
    assert STFT().stft(noise(2000).bfloat16()).dtype == torch.complex64
    x = noise(2000).double()
    assert (STFT().istft(STFT().stft(x), 2000) - x).abs().max() < 1e-13


@pytest.mark.parametrize(("n_fft", "hop"), [(1024, 257), (1024, 0), (1023, 255), (0, 1)])
def test_sizes_that_cannot_be_inverted_are_refused(n_fft: int, hop: int) -> None:
    with pytest.raises(ValueError, match="n_fft"):
        STFT(n_fft, hop)


def test_wrong_windows_lengths_and_frame_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="window"):
        STFT(1024, 256, "kaiser")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one sample"):
        STFT().stft(torch.zeros(1, 0))
    with pytest.raises(ValueError, match="cannot make"):
        STFT().istft(STFT().stft(noise(4000)), 9000)
