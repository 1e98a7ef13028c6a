"""Laws of the losses that hold for any signal, level and weight."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pse.losses import snr
from pse.losses.purification import frames_to_samples, loss
from pse.losses.segmental import num_frames

NAMES = ("neg_snr", "neg_si_sdr", "mse")
CASES = [(n, d, p) for n in NAMES for d in ("whole", "segmental") for p in ("paper", "robust")]
LEVELS = st.sampled_from([0.0, 1e-20, 1e-8, 1e-4, 0.1, 1.0, 100.0])


def _signal(seed: int, num_samples: int, level: float) -> Tensor:
    """Noise with a silent stretch, [2, T]."""
    x = level * torch.randn(2, num_samples, generator=torch.Generator().manual_seed(seed))
    x[:, num_samples // 3 : num_samples // 2] = 0
    return x


@pytest.mark.parametrize(("name", "domain", "preset"), CASES)
@settings(max_examples=25)
@given(st.integers(0, 10**6), LEVELS, LEVELS, st.sampled_from([0.0, 1e-30, 1e-4, 1.0]))
def test_value_and_gradient_are_finite(
    name: str, domain: str, preset: str, seed: int, target_level: float, noise_level: float, weight: float
) -> None:
    num_samples = 2500
    target = _signal(seed, num_samples, target_level)
    estimate = (target + _signal(seed + 1, num_samples, noise_level)).requires_grad_()
    weights = weight * torch.rand(2, num_frames(num_samples))
    for w in (None, weights):
        values = loss(name, domain, preset)(estimate, target, w)
        assert values.shape == (2,) and values.isfinite().all()
        (gradient,) = torch.autograd.grad(values.sum(), estimate)
        assert gradient.isfinite().all()


@pytest.mark.parametrize(("name", "domain", "preset"), CASES)
@settings(max_examples=10)
@given(st.integers(0, 10**6), st.integers(513, 4000))
def test_weights_of_one_change_nothing(
    name: str, domain: str, preset: str, seed: int, num_samples: int
) -> None:
    target = _signal(seed, num_samples, 0.1)
    estimate, function = target + _signal(seed + 1, num_samples, 0.05), loss(name, domain, preset)
    ones = torch.ones(2, num_frames(num_samples))
    assert torch.allclose(function(estimate, target, ones), function(estimate, target), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "domain", "preset"), [c for c in CASES if c[1:] != ("segmental", "paper")])
@settings(max_examples=10)
@given(st.integers(0, 10**6), st.floats(1e-3, 1e3))
def test_scaling_normalised_weights_changes_nothing(
    name: str, domain: str, preset: str, seed: int, scale: float
) -> None:
    target = _signal(seed, 3000, 0.1)
    estimate, function = target + _signal(seed + 1, 3000, 0.05), loss(name, domain, preset)
    weights = torch.rand(2, num_frames(3000), generator=torch.Generator().manual_seed(seed)) + 0.01
    scaled, plain = function(estimate, target, scale * weights), function(estimate, target, weights)
    assert torch.allclose(scaled, plain, rtol=1e-4, atol=1e-4)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.05, 100), st.floats(0.1, 1), st.sampled_from(["paper", "robust"]))
def test_si_sdr_is_invariant_to_the_scale_of_the_estimate(
    seed: int, scale: float, noise: float, preset: str
) -> None:
    target = _signal(seed, 2000, 0.1)
    estimate = target + _signal(seed + 1, 2000, 0.1 * noise)
    values = [snr.neg_si_sdr(c * estimate, target, preset=preset) for c in (1.0, scale)]
    assert torch.allclose(*values, atol=0.02)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 3000), st.sampled_from([64, 256, 300]))
def test_interpolated_weights_stay_between_their_neighbours(seed: int, num_samples: int, hop: int) -> None:
    weights = torch.rand(1, 1 + num_samples // hop, generator=torch.Generator().manual_seed(seed))
    samples = frames_to_samples(weights, hop, num_samples)
    assert samples.shape == (1, num_samples)
    assert samples.min() >= weights.min() - 1e-6 and samples.max() <= weights.max() + 1e-6
    left = torch.arange(num_samples) // hop
    pair = torch.stack([weights[0, left], weights[0, (left + 1).clamp_max(weights.shape[-1] - 1)]])
    assert (samples[0] >= pair.amin(0) - 1e-5).all() and (samples[0] <= pair.amax(0) + 1e-5).all()
