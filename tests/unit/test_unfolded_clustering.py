"""Soft k-means as layers: what ideal embeddings come to, what has a gradient, what order means."""

from __future__ import annotations

import pytest
import torch

from pse.losses.activity import dominant_source
from pse.losses.pit import pit, reordered
from pse.models.base import build

NET = {"name": "blstm_embedding", "hidden_size": 8, "num_layers": 1, "embedding_size": 4}
WHOLE = {"name": "unfolded_clustering", "net": NET, "hidden_size": 6}


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return build(WHOLE, "test")


def test_ideal_embeddings_become_the_ideal_masks(model) -> None:
    sources = torch.randn(2, 2, 129, 30, dtype=torch.complex64)
    ideal = dominant_source(sources.abs())
    masks = model.clusters(ideal.permute(0, 2, 3, 1), sources.sum(1))
    cost = (masks[:, :, None] - ideal[:, None]).abs().mean((3, 4))
    least, order = pit(cost)
    assert least.max() < 1e-4
    assert torch.allclose(reordered(masks, order), ideal, atol=1e-3)


def test_masks_add_up_to_one_and_estimates_to_the_mixture(model) -> None:
    mix = torch.randn(2, 4000)
    out = model(mix)
    assert torch.allclose(out.masks.sum(1), torch.ones(2, 129, 63), atol=1e-5)
    assert torch.allclose(out.wavs.sum(1), mix, atol=1e-4)


def test_the_gradient_reaches_the_embedding_net_through_the_clusters(model) -> None:
    model(torch.randn(2, 4000)).masks[:, 0].square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.net.embed.weight.grad.abs().max() > 0


def test_a_trained_model_separates_another_number_of_speakers(model) -> None:
    three = build(WHOLE | {"num_masks": 3}, "test")
    three.load_state_dict(model.state_dict())
    assert three(torch.randn(1, 4000)).wavs.shape == (1, 3, 4000)


def test_the_net_inside_takes_the_weights_of_an_embedding_model(model) -> None:
    trained = build(NET, "test")
    model.started_from().load_state_dict(trained.state_dict())
    mix = torch.randn(1, 4000)
    assert torch.allclose(model(mix).embeddings, trained(mix).embeddings, atol=1e-6)


def test_silence_gives_finite_masks(model) -> None:
    assert model(torch.zeros(1, 4000)).masks.isfinite().all()


@pytest.mark.parametrize("keys", [{"net": {"name": "gru_mask", "hidden_size": 8}}, {"num_masks": 1}, {"hardness": 0.0}])
def test_what_does_not_fit_is_refused(keys: dict[str, object]) -> None:
    with pytest.raises(Exception, match="embedding model|at least 2|hardness must be above 0"):
        build(WHOLE | keys, "test")
