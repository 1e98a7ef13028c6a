"""Laws of the encoder of slots: vectors and masks of the speakers of each frame."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pse.errors import PseError
from pse.models.base import Model, build

BLSTM = {"name": "blstm_embedding", "hidden_size": 6}
TCN = {"name": "tcn_embedding", "channels": 6, "num_layers": 3}
SIZES = {"num_slots": 3, "embedding_size": 5}
CAUSAL = {**TCN, "causal": True, "normalize": "none"}


def make(net: dict[str, Any], **sizes: int) -> Model:
    torch.manual_seed(0)
    return build({"name": "slot_encoder", "net": net, **SIZES, **sizes}, "test").eval()


def noise(num_samples: int) -> Tensor:
    return 0.1 * torch.randn(2, num_samples, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("num_samples", [1, 63, 64, 1000])
@pytest.mark.parametrize("net", [BLSTM, TCN, CAUSAL], ids=["blstm", "tcn", "causal"])
def test_every_slot_has_a_unit_vector_and_a_mask(net: dict[str, Any], num_samples: int) -> None:
    model, mix = make(net), noise(num_samples)
    with torch.no_grad():
        out, spectrum = model(mix), model.transform.stft(mix)
    assert out.embeddings.shape == (2, 3, spectrum.shape[2], 5) and out.masks.shape == (2, 3, *spectrum.shape[1:])
    assert torch.allclose(out.embeddings.norm(dim=3), torch.tensor(1.0), atol=1e-5)
    assert torch.allclose(out.masks.sum(1), torch.tensor(1.0), atol=1e-5) and out.wavs is None
    assert model.slots == 3 and model.node_shape == (129, 1)


def test_the_masked_mixtures_of_all_slots_add_up_to_the_mixture() -> None:
    model, mix = make(TCN), noise(3000)
    with torch.no_grad():
        spectrum = model.transform.stft(mix)
        parts = (model(mix).masks * spectrum[:, None]).flatten(0, 1)
        sources = model.transform.istft(parts, 3000).unflatten(0, (2, 3))
    assert torch.allclose(sources.sum(1), mix, atol=1e-5)


@pytest.mark.parametrize("net", [BLSTM, TCN], ids=["blstm", "tcn"])
def test_the_level_changes_nothing_and_silence_is_finite(net: dict[str, Any]) -> None:
    model, mix = make(net), noise(2000)
    with torch.no_grad():
        loud, plain, silent = model(50 * mix), model(mix), model(0 * mix)
    assert torch.allclose(loud.embeddings, plain.embeddings, atol=1e-4)
    assert torch.allclose(loud.masks, plain.masks, atol=1e-4)
    assert silent.embeddings.isfinite().all() and silent.masks.isfinite().all()


def test_a_vector_is_that_of_its_own_slot() -> None:
    model, mix = make(TCN), noise(1000)
    before = model(mix).embeddings
    with torch.no_grad():
        model.net.embed.weight[5:10] += 1
    changed = (model(mix).embeddings - before).abs().amax((0, 2, 3))
    assert changed[1] > 0 and changed[0] == changed[2] == 0


@pytest.mark.parametrize("net", [BLSTM, TCN], ids=["blstm", "tcn"])
def test_every_weight_gets_a_gradient(net: dict[str, Any]) -> None:
    model = make(net).train()
    out = model(noise(1000))
    ((out.embeddings * torch.rand(2, 3, 16, 5)).sum() + out.masks[:, 0].square().sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_causal_net_inside_makes_it_causal_and_statistics_reach_it() -> None:
    model = make(CAUSAL)
    assert model.causal and model.algorithmic_latency_samples() == 256
    assert model.receptive_field_samples() == model.net.receptive_field_samples()
    assert not make(TCN).causal and make(TCN).algorithmic_latency_samples() is None
    model.set_statistics(torch.ones(129), torch.full((129,), 2.0))
    assert (model.net.mean == 1).all() and (model.net.deviation == 2).all()
    assert model.log_magnitude(model.transform.stft(noise(640))).shape == (2, 11, 129)


@pytest.mark.parametrize(
    ("net", "sizes", "told"),
    [
        (TCN, {"num_slots": 1}, "num_slots"), (TCN, {"embedding_size": 0}, "embedding_size"),
        ({**TCN, "num_masks": 2}, {}, "num_masks"), ({**TCN, "node_bins": 4}, {}, "node_bins"),
        ({"name": "gru_mask", "hidden_size": 8}, {}, "embedding model"), ({"channels": 8}, {}, "None"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(net: dict[str, Any], sizes: dict[str, int], told: str) -> None:
    with pytest.raises(PseError, match=told):
        make(net, **sizes)
