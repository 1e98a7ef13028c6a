"""Contrastive mixtures: what the pairs share, which way their terms push, and the parts of the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pse.data.mixture import MixtureSampler, Sources
from pse.errors import PseError
from pse.losses.snr import neg_snr
from pse.models.base import Output
from pse.training.objectives.contrastive_mixtures import pair
from tests.unit.test_objectives import Passing, T, cache, make, sampler


class Fixed(nn.Module):
    """A model whose estimates are what is optimised."""

    def __init__(self, estimates: Tensor) -> None:
        super().__init__()
        self.estimates = nn.Parameter(estimates.clone())

    def forward(self, mix: Tensor) -> Output:
        return Output(wavs=self.estimates[:, None])


def test_a_positive_pair_is_one_recording_under_two_noises() -> None:
    for number in range(0, 40, 2):
        first, second = pair(sampler(), number)
        assert first.sources == second.sources and first.premixture_noise == second.premixture_noise
        assert first.premixture_snr_db == second.premixture_snr_db
        assert first.noise.utt != second.noise.utt and first.snr_db != second.snr_db
        assert first.id != second.id


def test_a_negative_pair_is_two_recordings_under_one_noise() -> None:
    for number in range(1, 40, 2):
        first, second = pair(sampler(), number)
        assert first.noise == second.noise and first.snr_db == second.snr_db
        assert first.sources[0].utt != second.sources[0].utt
        assert first.premixture_snr_db != second.premixture_snr_db


def test_the_first_of_a_pair_is_the_mixture_that_pseudo_se_would_draw() -> None:
    assert pair(sampler(), 5)[0] == sampler().spec(10)


def test_half_of_a_batch_is_positive_and_targets_are_the_recordings() -> None:
    batch = make("contrastive_mixtures").batch(range(4, 12))
    same = [torch.equal(batch["target"][i], batch["target"][i + 1]) for i in range(0, 8, 2)]
    assert same == [True, False, True, False]
    added = batch["mix"] - batch["target"]
    for i in (2, 6):
        # The same noise, at the same ratio to each recording.
        a, b = added[i] / added[i].norm(), added[i + 1] / added[i + 1].norm()
        assert torch.allclose(a, b, atol=1e-4)
    whole = make("contrastive_mixtures").batch(range(12))
    assert torch.equal(whole["mix"][4:], batch["mix"])


@pytest.mark.parametrize("numbers", [range(6), range(2, 6), range(3)])
def test_batches_that_split_a_pair_are_refused(numbers: range) -> None:
    with pytest.raises(PseError, match="multiple of 4"):
        make("contrastive_mixtures").batch(numbers)


def test_a_single_recording_has_no_negative_pair() -> None:
    lonely = MixtureSampler(Sources(cache(0), cache(1), cache(2)), ["u0"], T, 0, "t", (-5, 5), (0, 15))
    with pytest.raises(PseError, match="two recordings"):
        pair(lonely, 1)


def test_without_lambdas_the_loss_is_that_of_pseudo_se() -> None:
    objective = make("contrastive_mixtures", lambda_positive=0.0, lambda_negative=0.0)
    batch = objective.batch(range(8))
    assert objective.loss(Passing(), batch).total == make("pseudo_se").loss(Passing(), batch).total


def test_the_total_is_the_weighted_sum_of_the_published_terms() -> None:
    objective = make("contrastive_mixtures", lambda_positive=0.5, lambda_negative=0.25)
    batch = objective.batch(range(8))
    out = objective.loss(Passing(), batch)
    y, t = batch["mix"], batch["target"]
    signal = neg_snr(y, t).mean()
    positive = torch.stack([neg_snr(y[i : i + 1], y[i + 1 : i + 2]) for i in (0, 4)]).mean()
    between, apart = (torch.cat([neg_snr(x[i : i + 1], x[i + 1 : i + 2]) for i in (2, 6)]) for x in (y, t))
    negative = (between - apart).square().mean()
    assert out.total.item() == pytest.approx(float(signal + 0.5 * positive + 0.25 * negative), rel=1e-5)
    assert set(out.parts) == {"signal", "positive", "negative"}


def _gap_change(form: str, alike: bool) -> float:
    """How a step against the gradient of the negative term alone changes the distance of a negative pair."""
    objective = make("contrastive_mixtures", lambda_positive=0.0, lambda_negative=1.0, negative=form)
    batch = objective.batch(range(4))
    t = batch["target"]
    if alike:
        # Collapsed: almost the same estimate for both recordings.
        estimates = torch.stack([t[0], t[1], t[2], t[2] + 0.1 * t[3]])
    else:
        estimates = torch.stack([t[0], t[1], t[2] - t[3], t[3] - t[2]])
    model = Fixed(estimates)
    objective.loss(model, batch).parts["negative"].backward()
    step = 1e-3 * model.estimates.grad / model.estimates.grad.norm().clamp_min(1e-12)

    def gap(y: Tensor) -> float:
        return float((y[2] - y[3]).norm() / y[3].norm())

    return gap(estimates - step) - gap(estimates)


def test_the_squared_form_pushes_collapsed_estimates_apart_and_the_maximum_does_not() -> None:
    assert _gap_change("squared", alike=True) > 0
    assert _gap_change("max", alike=True) == 0


def test_both_forms_pull_estimates_that_are_too_far_apart_together() -> None:
    assert _gap_change("squared", alike=False) < 0
    assert _gap_change("max", alike=False) < 0


def test_the_positive_term_pulls_the_estimates_of_one_recording_together() -> None:
    objective = make("contrastive_mixtures")
    batch = objective.batch(range(4))
    model = Fixed(batch["mix"])
    objective.loss(model, batch).parts["positive"].backward()
    y, step = batch["mix"], 1e-3 * model.estimates.grad / model.estimates.grad.norm()
    moved = y - step
    assert (moved[0] - moved[1]).norm() / moved[1].norm() < (y[0] - y[1]).norm() / y[1].norm()


@pytest.mark.parametrize("domain", ["whole", "segmental"])
def test_moments_that_either_recording_is_not_trusted_in_do_not_part_a_pair(domain: str) -> None:
    class Gate(nn.Module):
        """Trusts the first half of first members and the second half of second ones: nothing of a pair."""

        def forward(self, mix: Tensor) -> Output:
            snr = torch.full((len(mix), 1 + T // 256), -100.0)
            half = (1 + T // 256) // 2
            snr[0::2, : half - 4], snr[1::2, half + 4 :] = 100.0, 100.0
            return Output(frame_snr_db=snr)

    options = {"purification": "predictor", "weigh": "loss", "domain": domain, "normalise": False}
    objective = make("contrastive_mixtures", Gate(), **options)
    batch = objective.batch(range(4))
    assert objective.loss(Passing(), batch).parts["negative"].item() == pytest.approx(0.0, abs=1e-6)


def test_an_untrained_example_is_the_same_in_another_process() -> None:
    one, other = (make("contrastive_mixtures").batch(range(8, 12)) for _ in range(2))
    assert torch.equal(one["mix"], other["mix"]) and np.isfinite(one["mix"].numpy()).all()
