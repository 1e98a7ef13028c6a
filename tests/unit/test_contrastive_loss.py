"""Contrastive losses against their sums over pairs, written out, and what they must not depend on."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pse.errors import PseError
from pse.losses.contrastive import NAMES, contrastive_loss

N, D = 40, 6


def _problem(seed: int = 0, size: int = N, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Unit vectors, labels, and everything that can be known of them."""
    g = torch.Generator().manual_seed(seed)
    v = functional.normalize(torch.randn(size, D, generator=g, dtype=dtype), dim=-1)

    def draw(most: int) -> Tensor:
        return torch.randint(0, most, (size,), generator=g)

    known = {"groups": draw(3), "starts_samples": 64 * draw(20), "recordings": draw(4), "min_apart_samples": 256}
    return v, draw(4), known | {"weights": torch.rand(size, generator=g, dtype=dtype) * (draw(5) > 0)}


def _by_pairs(
    name: str,
    v: Tensor,
    labels: Tensor,
    temperature: float,
    weights: Tensor | None = None,
    groups: Tensor | None = None,
    starts_samples: Tensor | None = None,
    recordings: Tensor | None = None,
    min_apart_samples: int = 0,
) -> Tensor:
    """The losses as the papers write them: sums over pairs, one pair after the other."""
    s, total, mass = v @ v.T / temperature, v.sum() * 0, 0.0

    def compared(i: int, j: int) -> bool:
        shares = min_apart_samples > 0 and recordings[i] == recordings[j]
        shares = shares and abs(int(starts_samples[i] - starts_samples[j])) < min_apart_samples
        return i != j and (groups is None or groups[i] == groups[j]) and not shares

    for i in range(len(v)):
        others = [j for j in range(len(v)) if compared(i, j)]
        positives = [j for j in others if labels[j] == labels[i]]
        negatives = [j for j in others if labels[j] != labels[i]]
        weight = 1.0 if weights is None else float(weights[i])
        if not positives:
            continue
        mass += weight
        for p in positives:
            among = others if name == "sup_con" else [p, *negatives]
            total = total - weight / len(positives) * (s[i, p] - s[i, among].exp().sum().log())
    return total / mass if mass else total


def _value_and_gradient(loss: Any, v: Tensor) -> tuple[Tensor, Tensor]:
    v = v.detach().clone().requires_grad_()
    value = loss(v)
    return value.detach(), torch.autograd.grad(value, v)[0]


KNOWN = [(), ("weights",), ("groups",), ("starts_samples", "recordings", "min_apart_samples")]
KNOWN += [tuple(key for some in KNOWN for key in some)]


@pytest.mark.parametrize("temperature", [0.05, 0.5])
@pytest.mark.parametrize("given", KNOWN, ids=["plain", "weights", "groups", "apart", "all"])
@pytest.mark.parametrize("name", NAMES)
def test_the_loss_in_blocks_is_the_sum_over_pairs_in_value_and_gradient(
    name: str, given: tuple[str, ...], temperature: float
) -> None:
    v, labels, known = _problem()
    known = {key: known[key] for key in given}
    expected = _value_and_gradient(lambda x: _by_pairs(name, x, labels, temperature, **known), v)
    for chunk in (7, 512):
        got = _value_and_gradient(
            lambda x, c=chunk: contrastive_loss(name, x, labels, temperature, chunk=c, **known), v
        )  # fmt: skip
        for one, other in zip(got, expected, strict=True):
            assert torch.allclose(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_the_numerical_one(name: str) -> None:
    v, labels, known = _problem(size=16)
    v.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: contrastive_loss(name, x, labels, 0.3, chunk=5, **known), v)


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_close_to_float64_whatever_the_chunk(name: str) -> None:
    v, labels, known = _problem(size=300)
    expected = _value_and_gradient(lambda x: contrastive_loss(name, x, labels, 0.07, **known), v)
    for chunk in (1, 64, 299, 300, 1000):
        loss, gradient = _value_and_gradient(
            lambda x, c=chunk: contrastive_loss(name, x, labels, 0.07, chunk=c, **known), v.float()
        )
        assert torch.allclose(loss.double(), expected[0], rtol=1e-5)
        assert torch.allclose(gradient.double(), expected[1], atol=1e-5 * float(expected[1].abs().max()))


def test_both_losses_are_one_where_every_label_occurs_twice() -> None:
    v, _, known = _problem()
    labels = torch.arange(N) % (N // 2)
    given = {"weights": known["weights"]}
    one, other = (_value_and_gradient(lambda x, n=n: contrastive_loss(n, x, labels, 0.1, **given), v) for n in NAMES)
    assert torch.allclose(one[0], other[0], rtol=0, atol=1e-12)
    assert torch.allclose(one[1], other[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_vectors_and_the_names_of_classes_and_groups_change_nothing(name: str) -> None:
    v, labels, known = _problem()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    moved = {k: x[order] if isinstance(x, Tensor) else x for k, x in known.items()}
    moved["groups"] = 5 - 7 * moved["groups"]
    expected = _value_and_gradient(lambda x: contrastive_loss(name, x, labels, **known), v)
    loss, gradient = _value_and_gradient(lambda x: contrastive_loss(name, x, 9 - labels[order], **moved), v[order])
    assert torch.allclose(loss, expected[0], rtol=0, atol=1e-12)
    assert torch.allclose(gradient, expected[1][order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_mixture_costs_the_same_alone_and_beside_others(name: str) -> None:
    v, labels, known = _problem()
    labels, groups = labels % 2, known["groups"]
    alone = [contrastive_loss(name, v[groups == n], labels[groups == n]) for n in range(3)]
    sizes = [int((groups == n).sum()) for n in range(3)]
    # Every vector has positives here, so the mean over anchors is that of the mixtures by their sizes.
    mean = sum(size * value for size, value in zip(sizes, alone, strict=True)) / N
    assert torch.allclose(contrastive_loss(name, v, labels, groups=groups), mean, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_one_label_for_all_is_finite_and_in_nt_xent_nothing_to_learn(name: str, dtype: torch.dtype) -> None:
    v, _, _ = _problem(dtype=dtype)
    loss, gradient = _value_and_gradient(lambda x: contrastive_loss(name, x, torch.zeros(N)), v)
    assert loss.isfinite() and gradient.isfinite().all()
    assert (loss == 0 and (gradient == 0).all()) == (name == "nt_xent")


@pytest.mark.parametrize("name", NAMES)
def test_labels_that_occur_once_cost_nothing_and_teach_nothing(name: str) -> None:
    v, _, _ = _problem(dtype=torch.float32)
    loss, gradient = _value_and_gradient(lambda x: contrastive_loss(name, x, torch.arange(N), 0.005), v)
    assert loss == 0 and (gradient == 0).all()
    assert contrastive_loss(name, v[:0], torch.zeros(0)) == 0 and contrastive_loss(name, v[:1], torch.zeros(1)) == 0


@pytest.mark.parametrize("name", NAMES)
def test_anchors_without_positives_do_not_count_but_are_pushed_away(name: str) -> None:
    v, labels, _ = _problem()
    labels = labels.clone()
    labels[:5] = torch.arange(5) + 100
    some = torch.ones(N, dtype=v.dtype)
    some[:5] = 0
    one, other = (
        _value_and_gradient(lambda x, w=w: contrastive_loss(name, x, labels, weights=w), v) for w in (None, some)
    )
    assert torch.allclose(one[0], other[0], atol=1e-14) and torch.allclose(one[1], other[1], atol=1e-14)
    assert one[1][:5].abs().amax(1).min() > 0
    nothing = contrastive_loss(name, v, labels, weights=1 - some)
    assert nothing == 0


@pytest.mark.parametrize("name", NAMES)
def test_equal_vectors_are_finite_at_a_low_temperature(name: str) -> None:
    _, labels, known = _problem(dtype=torch.float32)
    v = functional.normalize(torch.ones(N, D), dim=-1)
    for temperature in (0.05, 0.001):
        loss, gradient = _value_and_gradient(lambda x, t=temperature: contrastive_loss(name, x, labels, t, **known), v)
        assert loss.isfinite() and gradient.isfinite().all()


def test_equal_vectors_cost_the_logarithm_of_how_many_are_compared() -> None:
    v, labels = functional.normalize(torch.ones(N, D), dim=-1).double(), torch.arange(N) % 2
    assert math.isclose(contrastive_loss("sup_con", v, labels), math.log(N - 1), rel_tol=1e-9)
    assert math.isclose(contrastive_loss("nt_xent", v, labels), math.log(N // 2 + 1), rel_tol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_vectors_that_share_samples_do_not_meet(name: str) -> None:
    v, labels, _ = _problem()
    starts = 64 * torch.arange(N)
    known = {"starts_samples": starts, "recordings": torch.zeros(N), "min_apart_samples": 64 * N}
    loss, gradient = _value_and_gradient(lambda x: contrastive_loss(name, x, labels, **known), v)
    assert loss == 0 and (gradient == 0).all()
    known["recordings"] = torch.arange(N)
    assert torch.equal(contrastive_loss(name, v, labels, **known), contrastive_loss(name, v, labels))


@pytest.mark.parametrize("name", NAMES)
def test_bf16_autocast_and_vectors_change_no_precision(name: str) -> None:
    v, labels, known = _problem(dtype=torch.float32)
    expected = _value_and_gradient(lambda x: contrastive_loss(name, x, labels, **known), v)
    with torch.autocast("cpu", torch.bfloat16):
        got = _value_and_gradient(lambda x: contrastive_loss(name, x, labels, **known), v)
    assert all(torch.equal(one, other) and one.dtype == torch.float32 for one, other in zip(got, expected, strict=True))
    half = contrastive_loss(name, v.bfloat16(), labels, **known)
    assert half.dtype == torch.float32
    assert torch.equal(half, contrastive_loss(name, v.bfloat16().float(), labels, **known))


def test_bad_input_is_one_line() -> None:
    v, labels, known = _problem()
    wrong: list[tuple[Any, ...]] = [
        ("nothing", labels, {}), ("sup_con", labels[1:], {}), ("sup_con", labels, {"temperature": 0.0}),
        ("sup_con", labels, {"min_apart_samples": 256}), ("sup_con", labels, {"groups": labels[None]}),
        ("sup_con", labels, {"weights": known["weights"][2:]}),
    ]  # fmt: skip
    for name, given, options in wrong:
        with pytest.raises(PseError) as caught:
            contrastive_loss(name, v, given, **options)
        assert "\n" not in str(caught.value)
