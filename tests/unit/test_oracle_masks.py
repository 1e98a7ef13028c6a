"""Oracle masks: what each is the best of, sums, silence, refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pse.baselines.base import Scene
from pse.baselines.oracle import MASKS, oracle_masks, shares
from pse.config import bind
from pse.dsp.stft import STFT
from pse.errors import PseError
from pse.registry import find

B, S, K, F = 2, 3, 9, 7


def _sources(seed: int = 0, *shape: int, dtype: torch.dtype = torch.complex128) -> Tensor:
    return torch.randn(*(shape or (B, S, K, F)), dtype=dtype, generator=torch.Generator().manual_seed(seed))


def _error(masks: Tensor, sources: Tensor, mixture: Tensor) -> Tensor:
    """Squared error of every bin, [B, S, K, F]."""
    return (masks * mixture.unsqueeze(1) - sources).abs().square()


@pytest.mark.parametrize("name", MASKS)
def test_masks_are_real_and_within_zero_and_one(name: str) -> None:
    sources = _sources(dtype=torch.complex64)
    masks = oracle_masks(name, sources, sources.sum(1))
    assert masks.shape == sources.shape and masks.dtype == torch.float32
    assert masks.min() >= 0 and masks.max() <= 1 + 1e-6


@pytest.mark.parametrize("name", ["ibm", "irm", "wfm"])
def test_masks_of_magnitudes_sum_to_one(name: str) -> None:
    sources = _sources(1)
    sources[:, :, 2] = 0
    assert torch.allclose(oracle_masks(name, sources, sources.sum(1)).sum(1), torch.ones(B, K, F).double(), atol=1e-12)


def test_of_disjoint_sources_every_mask_is_the_binary_one_and_separates_exactly() -> None:
    owner = torch.randint(0, S, (B, 1, K, F), generator=torch.Generator().manual_seed(2))
    sources = _sources(2) * (torch.arange(S).view(1, S, 1, 1) == owner)
    mixture = sources.sum(1)
    binary = oracle_masks("ibm", sources, mixture)
    for name in MASKS:
        assert torch.allclose(oracle_masks(name, sources, mixture), binary, atol=1e-12)
    assert torch.allclose(binary * mixture.unsqueeze(1), sources)


def test_the_phase_sensitive_mask_has_the_least_error_of_all_masks_in_every_bin() -> None:
    sources = _sources(3)
    mixture = sources.sum(1)
    least = _error(oracle_masks("psm", sources, mixture), sources, mixture)
    for other in [*(oracle_masks(name, sources, mixture) for name in MASKS), *torch.linspace(0, 1, 21).tolist()]:
        assert (least <= _error(torch.as_tensor(other), sources, mixture) + 1e-12).all()


def test_within_its_limits_the_phase_sensitive_mask_leaves_an_error_at_right_angles_to_the_mixture() -> None:
    sources = _sources(4)
    mixture = sources.sum(1)
    masks = oracle_masks("psm", sources, mixture)
    inside = (masks > 0) & (masks < 1)
    assert 0.1 < inside.double().mean() < 0.9
    error = masks * mixture.unsqueeze(1) - sources
    assert (error * mixture.unsqueeze(1).conj()).real[inside].abs().max() < 1e-12


def _mean_error_over_phases(masks: Tensor, sources: Tensor) -> Tensor:
    """Mean squared error for the first of two sources when the phase between them is random, exactly.

    The error has no harmonic of the phase above the first, so four phases have the mean of all.
    """
    turned = [torch.stack([sources[:, 0], sources[:, 1] * 1j**n], 1) for n in range(4)]
    return sum(_error(masks, t, t.sum(1))[:, 0] for t in turned) / 4


def test_with_random_phases_the_wiener_mask_is_the_best_and_the_binary_one_the_best_of_zero_and_one() -> None:
    sources = _sources(5, B, 2, K, F)
    mixture = sources.sum(1)
    least = _mean_error_over_phases(oracle_masks("wfm", sources, mixture), sources)
    binary = _mean_error_over_phases(oracle_masks("ibm", sources, mixture), sources)
    for value in [*torch.linspace(0, 1, 21), oracle_masks("irm", sources, mixture)]:
        assert (least <= _mean_error_over_phases(value, sources) + 1e-12).all()
    zero, one = (_mean_error_over_phases(torch.tensor(v), sources) for v in (0.0, 1.0))
    assert torch.allclose(binary, torch.minimum(zero, one))


def test_ratios_of_a_three_four_five_triangle() -> None:
    sources = torch.tensor([3.0 + 0j, 4j]).view(1, 2, 1, 1)
    mixture = sources.sum(1)
    expected = {"ibm": (0, 1), "irm": (3 / 7, 4 / 7), "wfm": (9 / 25, 16 / 25), "psm": (9 / 25, 16 / 25)}
    for name, values in expected.items():
        assert oracle_masks(name, sources, mixture).flatten().tolist() == pytest.approx(values)


def test_the_phase_sensitive_mask_is_cut_where_a_source_exceeds_or_opposes_the_mixture() -> None:
    sources = torch.tensor([3.0 + 0j, -1.0]).view(1, 2, 1, 1)
    assert oracle_masks("psm", sources, sources.sum(1)).flatten().tolist() == [1, 0]


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e15])
def test_no_mask_depends_on_the_level(name: str, scale: float) -> None:
    sources = _sources(6, dtype=torch.complex64)
    masks = oracle_masks(name, sources, sources.sum(1))
    scaled = sources * scale
    assert torch.allclose(oracle_masks(name, scaled, scaled.sum(1)), masks, atol=1e-5)


@pytest.mark.parametrize("name", MASKS)
def test_silence_and_cancellation_have_finite_masks(name: str) -> None:
    sources = _sources(7, dtype=torch.complex64)
    sources[0], sources[1, 0, 3] = 0, 0
    sources[1, 2] = -sources[1, 1]
    masks = oracle_masks(name, sources, sources.sum(1))
    assert masks.isfinite().all()
    silent = {"ibm": [1, 0, 0], "psm": [0, 0, 0]}.get(name, [1 / 3] * 3)
    assert masks[0, :, 0, 0].tolist() == pytest.approx(silent)


def test_shares_are_ratios_whatever_the_number_of_axes() -> None:
    assert shares(torch.tensor([[1.0, 3.0], [0.0, 0.0]])).tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert math.isclose(shares(torch.full((1, 4, 2, 2), 1e-37)).sum().item(), 4, rel_tol=1e-6)


@pytest.mark.parametrize("name", MASKS)
def test_the_plug_in_has_the_masks_of_the_scene_s_spectra(name: str) -> None:
    sources = _sources(8)
    plugin = find("baseline", "oracle")
    baseline = plugin(bind(plugin.Options, {"mask": name}, "baseline"), STFT(16, 4), None)
    scene = Scene("a", sources.real[0, 0, 0].numpy(), 8000, torch.cat([sources.sum(1)[:1], sources[0]]), ["x"] * S)
    assert torch.equal(baseline.masks(scene), oracle_masks(name, sources, sources.sum(1))[0])


@pytest.mark.parametrize("options", [{}, {"mask": "irm"}, {"mask": "wfm", "node_bins": 0}])
def test_noise_is_a_source_whose_mask_nobody_gets(options: dict[str, Any]) -> None:
    sources, plugin = _sources(8), find("baseline", "oracle")
    baseline = plugin(bind(plugin.Options, options, "baseline"), STFT(16, 4), None)
    spectra, silent = torch.cat([sources.sum(1)[:1], sources[0]]), np.zeros(9, np.float32)
    whole = baseline.masks(Scene("a", silent, 8000, spectra, ["x"] * S))
    noisy = baseline.masks(Scene("a", silent, 8000, spectra[:-1], ["x"] * (S - 1), spectra[-1]))
    assert torch.equal(noisy, whole[:-1])


def test_an_unknown_mask_is_refused_with_the_names() -> None:
    with pytest.raises(PseError, match="'iam'.*ibm, irm, wfm, psm"):
        oracle_masks("iam", _sources(), _sources().sum(1))


@pytest.mark.parametrize(
    ("sources", "mixture"),
    [
        (_sources(), _sources()[:, 0, :, 1:]),
        (_sources()[0], _sources()[0, 0]),
        (_sources().abs(), _sources()[:, 0]),
        (_sources(), _sources()[:, 0].abs()),
        (_sources()[:, :0], _sources()[:, 0]),
        (_sources()[0, 0, 0, 0], _sources()[0, 0, 0, 0]),
    ],
)
def test_spectra_that_do_not_fit_are_refused(sources: Tensor, mixture: Tensor) -> None:
    with pytest.raises(PseError, match="do not fit.*complex"):
        oracle_masks("irm", sources, mixture)
