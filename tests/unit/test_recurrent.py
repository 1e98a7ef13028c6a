"""Laws of the recurrent layers written for training: those of torch's GRU, one model or several."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pse.models import recurrent
from pse.models.base import Model, Output, build
from pse.models.recurrent import product, product_over, run

FRAMES, BATCH, INPUT, HIDDEN = 9, 4, 7, 5


def grus(num: int, dtype: torch.dtype = torch.float64, **keys: Any) -> list[nn.GRU]:
    torch.manual_seed(0)
    return [nn.GRU(INPUT, HIDDEN, dtype=dtype, **keys) for _ in range(num)]


def inputs(num: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(FRAMES, BATCH, INPUT, dtype=dtype, generator=generator) for _ in range(num)]


def gradients(outputs: list[Tensor], of: list[Tensor]) -> list[Tensor]:
    """Of a loss that looks at every output with another weight."""
    generator = torch.Generator().manual_seed(2)
    loss = sum((out * torch.randn(out.shape, dtype=out.dtype, generator=generator)).sum() for out in outputs)
    return list(torch.autograd.grad(loss, of))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("num", "num_layers"), [(1, 1), (1, 2), (3, 1), (3, 3)])
def test_outputs_and_gradients_are_those_of_torch(
    num: int, num_layers: int, bidirectional: bool, dtype: torch.dtype, tolerance: float
) -> None:
    models = grus(num, dtype, num_layers=num_layers, bidirectional=bidirectional)
    xs = [x.requires_grad_() for x in inputs(num, dtype)]
    wanted = [*xs, *(p for model in models for p in model.parameters())]
    got, expected = run(models, xs), [model(x)[0] for model, x in zip(models, xs, strict=True)]
    for one, other in zip(got, expected, strict=True):
        assert (one - other).abs().max() < tolerance
    for one, other in zip(gradients(got, wanted), gradients(expected, wanted), strict=True):
        assert (one - other).abs().max() < tolerance * max(1.0, other.abs().max().item())


@pytest.mark.parametrize("reverse", [False, True])
def test_the_written_gradient_is_the_numerical_one(reverse: bool) -> None:
    models = grus(2)
    weights = [getattr(m, n) for n in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0") for m in models]
    xs = [x[:3, :2].clone().requires_grad_() for x in inputs(2)]
    assert torch.autograd.gradcheck(lambda *tensors: recurrent._Layer.apply(reverse, 2, *tensors), (*xs, *weights))


def test_models_do_not_touch_each_other() -> None:
    models, xs = grus(3, num_layers=2), inputs(3)
    of = [p for model in (models[0], models[2]) for p in model.parameters()]
    clean = run(models, xs)
    expected = gradients([clean[0], clean[2]], of)
    xs[1] = xs[1] * float("nan")
    torn = run(models, xs)
    assert torch.equal(torn[0], clean[0]) and torch.equal(torn[2], clean[2]) and torn[1].isnan().all()
    got = gradients([torn[0], torn[2]], of)
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))


def test_frozen_weights_and_inputs_without_a_gradient_get_none() -> None:
    (model,), (x,) = grus(1), inputs(1)
    model.weight_hh_l0.requires_grad_(False)
    run([model], [x])[0].sum().backward()
    assert x.grad is None and model.weight_hh_l0.grad is None and model.weight_ih_l0.grad.abs().sum() > 0


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 23])
def test_products_are_products(rows: int, onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent, "ROWS_PER_PIECE", 7)
    if not onednn:
        monkeypatch.setattr(recurrent, "_ONEDNN", None)
    x, y, bias = (torch.randn(*shape) for shape in ((rows, 5), (rows, 3), (3,)))
    weight = torch.randn(5, 3)
    # Also of operands that are transposed views.
    assert torch.allclose(product(x, weight.T, bias), x @ weight + bias, atol=1e-5)
    assert torch.allclose(product(x.T.contiguous().T, weight.T), x @ weight, atol=1e-5)
    assert torch.allclose(product_over(x, y), x.T @ y, atol=1e-5)


MODELS = {
    "gru": {"name": "gru_mask", "hidden_size": 5, "n_fft": 64, "hop": 16},
    "bgru": {"name": "gru_mask", "hidden_size": 5, "bidirectional": True, "n_fft": 64, "hop": 16, "num_layers": 1},
    "odd hop": {"name": "gru_mask", "hidden_size": 5, "n_fft": 90, "hop": 20, "normalize": "none"},
    "running": {"name": "gru_mask", "hidden_size": 5, "n_fft": 64, "hop": 16, "normalize": "running"},
    "snr": {"name": "snr_predictor", "hidden_size": 5, "num_layers": 2, "n_fft": 64, "hop": 16},
    "snr log": {"name": "snr_predictor", "hidden_size": 5, "num_layers": 1, "feature": "log_magnitude"},
    "bsnr": {"name": "snr_predictor", "hidden_size": 5, "bidirectional": True, "normalize": "running"},
}


def criterion(out: Output) -> Tensor:
    parts = [value for value in (out.wavs, out.masks, out.frame_snr_db) if value is not None]
    return sum((value - 0.3).square().mean() for value in parts)


@pytest.mark.parametrize("num_samples", [1, 47, 500, 1600])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_in_training_computes_what_it_computes_otherwise(name: str, num_samples: int) -> None:
    torch.manual_seed(0)
    model: Model = build(MODELS[name], "test").double()
    mix = 0.1 * torch.randn(6, num_samples, dtype=torch.float64)
    weights = list(model.parameters())
    value = criterion(model(mix))
    got = torch.autograd.grad(value, weights)
    with recurrent.plain():
        plain = criterion(model(mix))
        expected = torch.autograd.grad(plain, weights)
    assert value.item() == pytest.approx(plain.item(), rel=1e-10)
    for one, other in zip(got, expected, strict=True):
        assert (one - other).abs().max() <= 1e-10 + 1e-8 * other.abs().max()


def test_the_written_layers_are_for_gradients_of_weights_alone() -> None:
    x = torch.zeros(1)
    assert recurrent.is_training(x)
    assert not recurrent.is_training(x.clone().requires_grad_())
    with torch.no_grad():
        assert not recurrent.is_training(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert not recurrent.is_training(x)


def test_a_loss_on_the_mask_alone_has_its_gradient() -> None:
    model = build(MODELS["gru"], "test").double()
    mix = 0.1 * torch.randn(2, 300, dtype=torch.float64)
    got = torch.autograd.grad(model(mix).masks.square().mean(), model.mask.weight)[0]
    expected = torch.autograd.grad(
        model(mix.clone().requires_grad_()).masks.square().mean(), model.mask.weight
    )[0]
    assert torch.allclose(got, expected, rtol=1e-9, atol=1e-12)
