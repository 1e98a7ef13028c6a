"""Losses of masks: nothing for what is ideal, and the same whichever mask is whose."""

from __future__ import annotations

import pytest
import torch

from pse.errors import PseError
from pse.losses.mask_inference import mask_loss, targets


@pytest.fixture
def spectra() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    sources = torch.randn(3, 2, 9, 7, generator=random, dtype=torch.complex128)
    sources *= torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    return sources.sum(1), sources


def test_masks_that_make_the_targets_cost_nothing_in_any_order(spectra) -> None:
    mixture, sources = spectra
    ideal = targets(mixture, sources, "phase_sensitive") / mixture.abs().unsqueeze(1)
    for masks in (ideal, ideal.flip(1)):
        assert mask_loss(masks, mixture, sources).max() < 1e-6


def test_a_fixed_assignment_pays_for_the_wrong_order(spectra) -> None:
    mixture, sources = spectra
    ideal = targets(mixture, sources, "phase_sensitive") / mixture.abs().unsqueeze(1)
    assert mask_loss(ideal, mixture, sources, assignment="fixed").max() < 1e-6
    assert mask_loss(ideal.flip(1), mixture, sources, assignment="fixed").min() > 0.1


def test_one_mask_learns_the_loudest_source(spectra) -> None:
    mixture, sources = spectra
    loudest = targets(mixture, sources, "phase_sensitive")[:, 1:] / mixture.abs().unsqueeze(1)
    assert mask_loss(loudest, mixture, sources, assignment="loudest").max() < 1e-6


def test_phase_sensitive_targets_lie_between_nothing_and_the_mixture(spectra) -> None:
    mixture, sources = spectra
    found = targets(mixture, sources, "phase_sensitive")
    assert found.min() >= 0 and (found <= mixture.abs().unsqueeze(1)).all()
    # Within those bounds none is nearer to the source.
    other = (found + 0.01).minimum(mixture.abs().unsqueeze(1))
    phase = mixture.unsqueeze(1) / mixture.unsqueeze(1).abs()
    assert ((found * phase - sources).abs() <= (other * phase - sources).abs() + 1e-12).all()


@pytest.mark.parametrize("power", [1, 2])
def test_the_loss_does_not_depend_on_the_level(spectra, power: int) -> None:
    mixture, sources = spectra
    masks = torch.rand(3, 2, 9, 7, dtype=torch.float64)
    once = mask_loss(masks, mixture, sources, power=power)
    assert torch.allclose(once, mask_loss(masks, 100 * mixture, 100 * sources, power=power))


def test_silence_costs_nothing(spectra) -> None:
    mixture, sources = spectra
    assert torch.equal(mask_loss(torch.rand(3, 2, 9, 7), 0 * mixture, 0 * sources), torch.zeros(3, dtype=torch.float64))


def test_as_many_masks_as_sources_are_asked_for(spectra) -> None:
    mixture, sources = spectra
    with pytest.raises(PseError, match="3 masks for 2 sources"):
        mask_loss(torch.rand(3, 3, 9, 7), mixture, sources)
