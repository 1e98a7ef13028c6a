"""Masks from clusters: sums, policies, perfect reconstruction, the oracle's permutation."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from pse.clustering.kmeans import kmeans
from pse.clustering.masks import SILENT, binary_masks, permutations, permuted, soft_masks
from pse.dsp.stft import STFT
from pse.errors import PseError
from pse.losses.activity import activity, bins, dominant_source, unflattened

B, S, K, F = 2, 3, 9, 7


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _case() -> tuple[Tensor, Tensor, Tensor]:
    """Squared distances [B, S, K, F], their nearest centroids, and bins of which half are active."""
    distances = _random(0, B, S, K, F).abs()
    return distances, distances.argmin(1), _random(1, B, K, F) > 0


@pytest.mark.parametrize("silent", SILENT)
@pytest.mark.parametrize("soft", [False, True])
def test_masks_add_up_as_their_policy_says_and_active_bins_do_not_depend_on_it(silent: str, soft: bool) -> None:
    distances, labels, active = _case()
    masks = soft_masks(distances, active, silent) if soft else binary_masks(labels, S, active, silent)
    plain = soft_masks(distances) if soft else binary_masks(labels, S)
    total = {"nearest": 1, "none": 0, "all": S, "split": 1}[silent]
    assert torch.allclose(masks.sum(1), torch.where(active, 1.0, float(total)), atol=1e-6)
    assert torch.equal(masks * active.unsqueeze(1), plain * active.unsqueeze(1))
    quiet = masks[~active.unsqueeze(1).expand_as(masks)]
    value = {"none": 0, "all": 1, "split": 1 / S}.get(silent)
    assert torch.equal(masks, plain) if value is None else torch.allclose(quiet, torch.tensor(float(value)))


@pytest.mark.parametrize("silent", ["nearest", "split"])
@pytest.mark.parametrize("soft", [False, True])
def test_masks_that_sum_to_one_give_the_mixture_back(silent: str, soft: bool) -> None:
    transform, mixture = STFT(256, 64, "sqrt_hann"), 0.3 * _random(2, 1, 4000)
    spectrum = transform.stft(mixture)
    distances = _random(3, 1, S, *spectrum.shape[1:]).abs()
    active = activity(spectrum.abs().unsqueeze(1), threshold_db=-10)
    assert 0 < active.sum() < active.numel()
    masks = soft_masks(distances, active, silent) if soft else binary_masks(distances.argmin(1), S, active, silent)
    parts = transform.istft((masks * spectrum.unsqueeze(1))[0], 4000)
    assert (parts.sum(0) - mixture[0]).abs().max() < 1e-6


def test_soft_masks_become_binary_ones_as_they_harden() -> None:
    distances, labels, _ = _case()
    assert torch.allclose(soft_masks(distances, hardness=1e6), binary_masks(labels, S), atol=1e-6)
    assert torch.allclose(soft_masks(distances, hardness=0), torch.tensor(1 / S))


def test_a_single_source_gets_everything_that_its_policy_leaves() -> None:
    labels, active = torch.zeros(1, K, F, dtype=torch.long), _random(4, 1, K, F) > 0
    for silent in ("nearest", "all", "split"):
        assert torch.equal(binary_masks(labels, 1, active, silent), torch.ones(1, 1, K, F))
    assert torch.equal(binary_masks(labels, 1, active, "none")[:, 0], active.float())


@pytest.mark.parametrize("kind", ["complex", "magnitude"])
@pytest.mark.parametrize("num_masks", [S, S + 1])
def test_the_permutation_is_the_best_of_all(kind: str, num_masks: int) -> None:
    sources = torch.complex(_random(5, B, S, K, F), _random(6, B, S, K, F))
    mixture = sources.sum(1)
    if kind == "magnitude":
        sources, mixture = sources.abs(), mixture.abs()
    masks = torch.softmax(_random(7, B, num_masks, K, F), 1)
    found = permutations(masks, mixture, sources)
    for b in range(B):
        errors = {
            p: sum((masks[b, p[s]] * mixture[b] - sources[b, s]).abs().square().sum().item() for s in range(S))
            for p in itertools.permutations(range(num_masks), S)
        }
        assert tuple(found[b].tolist()) == min(errors, key=errors.__getitem__)


def test_ideal_masks_in_any_order_come_back_in_that_of_the_sources() -> None:
    sources = torch.complex(_random(8, 6, S, K, F), _random(9, 6, S, K, F))
    ideal = dominant_source(sources.abs())
    orders = torch.tensor(list(itertools.permutations(range(S))))
    shuffled = permuted(ideal, orders)
    assert torch.equal(permuted(shuffled, permutations(shuffled, sources.sum(1), sources)), ideal)


def test_ideal_embeddings_lead_to_the_ideal_masks() -> None:
    sources = _random(10, 1, S, K, F).abs()
    ideal = dominant_source(sources)
    found = kmeans(bins(ideal), S, bins(activity(sources)).float())
    masks = binary_masks(unflattened(found.labels, K), S)
    assert torch.equal(permuted(masks, permutations(masks, sources.sum(1), sources)), ideal)


def test_bad_input_is_one_line() -> None:
    distances, labels, active = _case()
    with pytest.raises(PseError, match="nearest, none, all, split") as caught:
        binary_masks(labels, S, active, "some")
    assert "\n" not in str(caught.value)
    with pytest.raises(PseError, match="2 masks for 3 sources"):
        permutations(distances[:, :2], distances[:, 0], distances)
