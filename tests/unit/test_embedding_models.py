"""Laws of the networks that embed time-frequency bins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from pse.errors import PseError
from pse.models.base import Model, build, num_parameters

BLSTM = {"name": "blstm_embedding", "hidden_size": 6, "embedding_size": 4}
TCN = {"name": "tcn_embedding", "channels": 6, "num_layers": 3, "embedding_size": 4}
CAUSAL = {"normalize": "none"}
MODELS = {
    "blstm": BLSTM, "lstm": {**BLSTM, **CAUSAL, "bidirectional": False}, "tcn": TCN,
    "causal tcn": {**TCN, **CAUSAL, "causal": True}, "logistic": {**BLSTM, "activation": "logistic"},
    "linear": {**TCN, "activation": "linear"}, "chimera": {**TCN, "num_masks": 3},
}  # fmt: skip


def make(mapping: dict[str, Any]) -> Model:
    torch.manual_seed(0)
    return build(mapping, "test").eval()


def noise(num_samples: int, batch: int = 2) -> Tensor:
    return 0.1 * torch.randn(batch, num_samples, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("hidden_size", "num_layers", "embedding_size", "millions"),
    [(600, 2, 40, 18.36), (600, 2, 20, 15.26), (300, 4, 20, 9.08), (300, 4, 40, 10.63), (600, 4, 40, 35.65)],
)
def test_published_sizes_have_the_published_number_of_weights(
    hidden_size: int, num_layers: int, embedding_size: int, millions: float
) -> None:
    sizes = {"hidden_size": hidden_size, "num_layers": num_layers, "embedding_size": embedding_size}
    with torch.device("meta"):
        model = build({**BLSTM, **sizes}, "test")
    assert round(num_parameters(model) / 1e6, 2) == millions


@pytest.mark.parametrize("num_samples", [1, 63, 64, 1000])
@pytest.mark.parametrize("name", MODELS)
def test_every_bin_has_a_unit_vector(name: str, num_samples: int) -> None:
    with torch.no_grad():
        out = make(MODELS[name])(noise(num_samples))
    assert out.embeddings.shape == (2, 129, 1 + num_samples // 64, 4)
    assert torch.allclose(out.embeddings.norm(dim=3), torch.tensor(1.0), atol=1e-5)
    assert (out.embeddings.min() >= 0) == (name == "logistic")


@pytest.mark.parametrize("name", ["blstm", "tcn", "chimera"])
def test_embeddings_do_not_depend_on_the_level_and_estimates_do(name: str) -> None:
    model, mix = make(MODELS[name]), noise(2000)
    with torch.no_grad():
        loud, plain = model(50 * mix), model(mix)
    assert torch.allclose(loud.embeddings, plain.embeddings, atol=1e-4)
    if name == "chimera":
        assert torch.allclose(loud.wavs, 50 * plain.wavs, atol=1e-3)


def test_masks_sum_to_one_and_the_estimates_to_the_mixture() -> None:
    mix = noise(3000)
    with torch.no_grad():
        out = make(MODELS["chimera"])(mix)
    assert out.masks.shape == (2, 3, 129, 47) and out.wavs.shape == (2, 3, 3000)
    assert torch.allclose(out.masks.sum(1), torch.tensor(1.0), atol=1e-5)
    assert torch.allclose(out.wavs.sum(1), mix, atol=1e-5)


@pytest.mark.parametrize("name", ["lstm", "causal tcn"])
def test_a_causal_net_does_not_look_ahead(name: str) -> None:
    model, mix = make(MODELS[name]), noise(3000)
    changed = mix.clone()
    changed[:, 2000:] += 1
    with torch.no_grad():
        before, after = model(mix).embeddings, model(changed).embeddings
    assert model.causal
    # The last frame without a changed sample is centred half a window before it.
    untouched = (2000 - 128) // 64
    assert torch.allclose(before[:, :, :untouched], after[:, :, :untouched], atol=1e-6)
    assert not torch.allclose(before[:, :, untouched + 2 :], after[:, :, untouched + 2 :], atol=1e-3)


def test_statistics_normalise_the_log_magnitudes_and_are_stored_with_the_weights() -> None:
    model, mix = make(BLSTM), noise(4000, batch=8)
    feature = model.log_magnitude(model.transform.stft(mix / mix.square().mean(1, keepdim=True).sqrt()))
    model.set_statistics(feature.mean((0, 1)), feature.std((0, 1)))
    heard = (feature - model.mean) / model.deviation
    assert torch.allclose(heard.mean((0, 1)), torch.zeros(129), atol=1e-4)
    assert torch.allclose(heard.std((0, 1)), torch.ones(129), atol=1e-4)
    again = make(BLSTM)
    again.load_state_dict(load(save(model.state_dict())))
    with torch.no_grad():
        assert torch.equal(again(mix).embeddings, model(mix).embeddings)


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_gets_a_gradient(name: str) -> None:
    model = make(MODELS[name]).train()
    out = model(noise(1000))
    total = (out.embeddings[..., 0] * torch.rand(2, 129, 16)).sum()
    (total if out.wavs is None else total + out.wavs[:, 0].square().sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        ({**BLSTM, "activation": "relu"}, "activation"), ({**BLSTM, "num_masks": 1}, "num_masks"),
        ({**BLSTM, "embedding_size": 0}, "embedding_size"), ({**BLSTM, "dropout": 1.0}, "dropout"),
        ({**TCN, "kernel_size": 4}, "kernel_size"), ({**TCN, "causal": True}, "normalize: none"),
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(mapping: dict[str, Any], told: str) -> None:
    with pytest.raises(PseError, match=told):
        build(mapping, "test")
