"""Losses against analytic values and the published formulas written out plainly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pse.errors import PseError
from pse.losses import snr
from pse.losses.purification import frames_to_samples, loss, snr_to_weight
from pse.losses.segmental import frame_losses, num_frames, segmental

NAMES = ("neg_snr", "neg_si_sdr", "mse")
T = 8000


def _noise(seed: int, *shape: int) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _orthogonal(noise_db: float) -> tuple[Tensor, Tensor]:
    """A sine and an orthogonal cosine `noise_db` below it, over whole periods: [1, T] each."""
    phase = 2 * math.pi * 40 * torch.arange(T) / T
    return 0.5 * torch.sin(phase)[None], 0.5 * 10 ** (-noise_db / 20) * torch.cos(phase)[None]


@pytest.mark.parametrize("preset", ["paper", "robust"])
@pytest.mark.parametrize("noise_db", [-5.0, 0.0, 12.5])
def test_orthogonal_noise_gives_its_snr(preset: str, noise_db: float) -> None:
    target, noise = _orthogonal(noise_db)
    assert snr.neg_snr(target + noise, target, preset=preset).item() == pytest.approx(-noise_db, abs=1e-3)
    assert snr.neg_si_sdr(target + noise, target, preset=preset).item() == pytest.approx(-noise_db, abs=1e-3)


@pytest.mark.parametrize("preset", ["paper", "robust"])
@pytest.mark.parametrize("gain", [0.03, 3.0, -2.0])
def test_si_sdr_ignores_the_scale_of_the_estimate_and_snr_does_not(preset: str, gain: float) -> None:
    target, noise = _orthogonal(10.0)
    scaled = gain * (target + noise)
    assert snr.neg_si_sdr(scaled, target, preset=preset).item() == pytest.approx(-10.0, abs=1e-3)
    expected = 10 * math.log10((1 - gain) ** 2 + gain**2 / 10)
    assert snr.neg_snr(scaled, target, preset=preset).item() == pytest.approx(expected, abs=1e-3)


def test_paper_preset_removes_the_means() -> None:
    target, noise = _orthogonal(10.0)
    offset = target + noise + 0.2
    assert snr.neg_snr(offset, target + 0.7, preset="paper").item() == pytest.approx(-10.0, abs=1e-3)
    assert snr.neg_snr(offset, target, preset="robust").item() > -5.0


def test_mse_is_the_mean_power_of_the_error() -> None:
    target, noise = _orthogonal(0.0)
    assert snr.mse(target + noise, target).item() == pytest.approx(0.125, rel=1e-5)


def _published_frames(estimate: Tensor, target: Tensor, name: str) -> Tensor:
    """The segmental losses of the published code, frame by frame in float64."""
    estimate, target = estimate.double() - estimate.double().mean(), target.double() - target.double().mean()
    pad = torch.nn.ReflectionPad1d(512)
    window, losses = torch.hann_window(1024, dtype=torch.float64), []
    y, t = pad(estimate[None])[0], pad(target[None])[0]
    for start in range(0, len(t) - 1023, 256):
        yf, tf = window * y[start : start + 1024], window * t[start : start + 1024]
        if name == "neg_si_sdr":
            tf = tf * (yf @ tf) / (tf @ tf + 1e-8)
        error = ((yf - tf) ** 2).sum()
        ratio = (tf**2).sum() / (error + 1e-8)
        losses.append(error / 1024 if name == "mse" else -10 * torch.log10(ratio + 1e-8))
    return torch.stack(losses)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_samples", [1000, 8000, 8191, 8192])
def test_paper_preset_equals_the_published_formula(name: str, num_samples: int) -> None:
    target, noise = _noise(1, num_samples), 0.5 * _noise(2, num_samples)
    got = frame_losses((2 * target + noise)[None], target[None], name, "paper")[0]
    want = _published_frames(2 * target + noise, target, name)
    assert got.shape == want.shape == (num_frames(num_samples),)
    assert torch.allclose(got.double(), want, atol=1e-3 if name != "mse" else 1e-7)


def test_paper_weights_are_not_normalised_and_robust_ones_are() -> None:
    target = _noise(1, 2, T)
    estimate, weights = target + _noise(2, 2, T), torch.rand(2, num_frames(T))
    for preset, factor in (("paper", 0.25), ("robust", 1.0)):
        whole = segmental(estimate, target, weights, preset=preset)
        quarter = segmental(estimate, target, 0.25 * weights, preset=preset)
        assert torch.allclose(quarter, factor * whole, rtol=1e-5)
    plain = (weights * frame_losses(estimate, target, "neg_snr", "paper")).mean(-1)
    assert torch.allclose(segmental(estimate, target, weights, preset="paper"), plain)


def _pause() -> tuple[Tensor, slice]:
    """A target whose second half is silent, and the samples seen by silent frames only."""
    target = _noise(3, 1, T)
    # Without a mean, so that the paper preset leaves the pause silent.
    target[:, : T // 2] -= target[:, : T // 2].mean()
    target[:, T // 2 :] = 0
    return target, slice(T // 2 + 1024, T - 1024)


@pytest.mark.parametrize("name", ["neg_snr", "neg_si_sdr"])
def test_noise_in_a_pause_is_free_in_paper_and_penalised_in_robust(name: str) -> None:
    target, pause = _pause()
    for preset, penalised in (("paper", False), ("robust", True)):
        estimate = (target + _noise(4, 1, T)).requires_grad_()
        losses = frame_losses(estimate, target, name, preset)
        silent = losses[:, T // 2 // 256 + 3 : -3]
        (gradient,) = torch.autograd.grad(silent.sum(), estimate)
        assert bool(gradient[:, pause].abs().max() > 1e-3) == penalised, preset


def test_silent_target_frame_costs_eighty_decibels_in_paper() -> None:
    target = torch.zeros(1, T)
    estimate = _noise(5, 1, T).requires_grad_()
    for value in (
        frame_losses(estimate, target, "neg_snr", "paper").mean(),
        snr.neg_snr(estimate, target, preset="paper").mean(),
    ):
        assert value.item() == pytest.approx(80.0, abs=1e-3)
        (gradient,) = torch.autograd.grad(value, estimate)
        assert gradient.abs().max() == 0


def test_robust_frames_stay_within_thirty_decibels() -> None:
    target, _ = _pause()
    for estimate in (target, 1e4 * _noise(6, 1, T)):
        assert frame_losses(estimate, target, "neg_snr", "robust").abs().max() <= 30.0


def test_noise_at_the_floor_of_a_pause_costs_three_decibels() -> None:
    """The floor lies 30 dB below the mean frame of the target."""
    target, pause = _pause()
    level = (_published_frame_energies(target).mean() / 1000).item()
    noise = torch.zeros_like(target)
    noise[:, T // 2 :] = math.sqrt(level / 384)
    losses = frame_losses(target + noise, target, "neg_snr", "robust")[:, T // 2 // 256 + 3 : -3]
    assert torch.allclose(losses, torch.full_like(losses, 30 * math.tanh(10 * math.log10(2) / 30)), atol=0.02)


def _published_frame_energies(signal: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(signal[None], (512, 512), mode="reflect")[0, 0]
    return (padded.unfold(0, 1024, 256) * torch.hann_window(1024)).square().sum(-1)


@pytest.mark.parametrize("gain", [0.1, 1.0, 10.0])
def test_a_perfect_estimate_is_worth_eighty_decibels_at_any_scale(gain: float) -> None:
    target = _noise(13, 1, T)
    assert snr.neg_si_sdr(gain * target, target).item() == pytest.approx(-80.0, abs=0.1)


@pytest.mark.parametrize("domain", ["whole", "segmental"])
@pytest.mark.parametrize("name", NAMES)
def test_samples_of_no_weight_have_no_gradient(name: str, domain: str) -> None:
    target = _noise(7, 1, T)
    estimate = (target + _noise(8, 1, T)).requires_grad_()
    weights = torch.ones(1, num_frames(T))
    weights[:, 10:20] = 0
    loss(name, domain, "robust")(estimate, target, weights).sum().backward()
    ignored = slice(12 * 256, 17 * 256)
    assert estimate.grad[:, ignored].abs().max() == 0
    assert estimate.grad[:, : 8 * 256].abs().max() > 0


def test_whole_signal_purification_is_one_weighted_energy_ratio() -> None:
    target, noise, weights = _noise(9, 2, T), _noise(10, 2, T), torch.rand(2, num_frames(T))
    p = frames_to_samples(weights, 256, T)
    want = -10 * torch.log10((p * target**2).sum(-1) / (p * noise**2).sum(-1))
    assert torch.allclose(loss("neg_snr")(target + noise, target, weights), want, atol=1e-3)


def test_weights_receive_no_gradient() -> None:
    target, weights = _noise(11, 1, T), torch.rand(1, num_frames(T), requires_grad=True)
    for domain in ("whole", "segmental"):
        value = loss("neg_snr", domain)(_noise(12, 1, T).requires_grad_(), target, weights).sum()
        assert torch.autograd.grad(value, weights, allow_unused=True)[0] is None


@pytest.mark.parametrize("domain", ["whole", "segmental"])
def test_250_frames_at_four_seconds_are_refused(domain: str) -> None:
    signal = torch.zeros(1, 64000)
    loss("neg_snr", domain)(signal, signal, torch.ones(1, 251))
    with pytest.raises(PseError, match="250"):
        loss("neg_snr", domain)(signal, signal, torch.ones(1, 250))


def test_too_short_and_misshapen_inputs_are_named() -> None:
    short = torch.zeros(1, 512)
    with pytest.raises(PseError, match="512 samples are too short"):
        segmental(short, short)
    with pytest.raises(PseError, match="sample weights have shape"):
        snr.neg_snr(short, short, torch.ones(1, 3))


def test_losses_stay_in_float32_under_autocast() -> None:
    target, noise = _orthogonal(17.0)
    for name in NAMES:
        for domain in ("whole", "segmental"):
            function = loss(name, domain)
            want = function(target + noise, target)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                got = function(target + noise, target)
            assert got.dtype == torch.float32 and torch.equal(got, want)


def test_weights_are_a_gate_at_zero_decibels() -> None:
    weights = snr_to_weight(torch.tensor([-10.0, -5.0, 0.0, 5.0, 10.0]))
    assert weights.tolist() == pytest.approx([4.5e-5, 0.0067, 0.5, 0.9933, 0.99995], abs=5e-5)
    shifted = snr_to_weight(torch.tensor([3.0, 5.0]), slope=2.0, offset_db=3.0)
    assert shifted.tolist() == pytest.approx([0.5, 1 / (1 + math.exp(-4.0))])


def test_sample_weights_pass_through_the_frame_centres() -> None:
    weights = torch.rand(2, num_frames(1000))
    samples = frames_to_samples(weights, 256, 1000)
    assert samples.shape == (2, 1000)
    assert torch.allclose(samples[:, ::256], weights, atol=1e-6)
    assert torch.allclose(samples[:, 128], (weights[:, 0] + weights[:, 1]) / 2, atol=1e-6)
    assert torch.equal(samples[:, 768:], weights[:, -1:].expand(-1, 232))


@pytest.mark.parametrize(
    ("name", "domain", "preset", "says"),
    [
        ("neg_snrr", "whole", "robust", "did you mean 'neg_snr'"),
        ("neg_snr", "segmentall", "robust", "did you mean 'segmental'"),
        ("neg_snr", "whole", "papers", "did you mean 'paper'"),
        ("xyz", "segmental", "paper", "choose one of"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name: str, domain: str, preset: str, says: str) -> None:
    with pytest.raises(PseError, match=says):
        loss(name, domain, preset)
