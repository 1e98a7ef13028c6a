"""Deep clustering losses against the N x N form, closed-form gradients and values at the optimum."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pse.errors import PseError
from pse.losses.activity import RULES, activity, bins, dominant_source, points, unflattened
from pse.losses.deep_clustering import (
    NAMES,
    _products,
    class_weights,
    deep_clustering_loss,
    simplex,
    whitened_loss,
)
from pse.precision import full_precision

B, N, D, S = 3, 60, 7, 3


def _problem(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit-norm embeddings, unbalanced one-hot labels, binary activity, magnitudes."""
    g = torch.Generator().manual_seed(seed)
    v = functional.normalize(torch.randn(B, N, D, generator=g, dtype=dtype), dim=-1)
    label = torch.multinomial(torch.tensor([0.7, 0.2, 0.1]), B * N, True, generator=g).view(B, N)
    active = (torch.rand(B, N, generator=g) < 0.6).to(dtype)
    return v, functional.one_hot(label, S).to(dtype), active, torch.rand(B, N, generator=g, dtype=dtype)


def _pairwise(name: str, v: Tensor, y: Tensor, active: Tensor, magnitude: Tensor) -> Tensor:
    """The losses as sums over all pairs of bins, pair by pair as the papers define them."""
    same = y @ y.mT
    weights = active.unsqueeze(2) * active.unsqueeze(1)
    if name == "paper":
        size = (same * active.unsqueeze(1)).sum(2)
        weights = weights / (size.unsqueeze(2) * size.unsqueeze(1)).clamp_min(1).sqrt()
    if name == "magnitude":
        weights = weights * magnitude.unsqueeze(2) * magnitude.unsqueeze(1)
    wanted = torch.where(same > 0, 1.0, -1 / (S - 1)) if name == "manifold" else same
    return (weights * (v @ v.mT - wanted).square()).sum((1, 2)) / weights.sum((1, 2))


@pytest.mark.parametrize("name", ["paper", "unweighted", "magnitude", "manifold"])
def test_low_rank_form_equals_the_pairwise_form_in_value_and_gradient(name: str) -> None:
    v, y, active, magnitude = _problem()
    one, other = v.clone().requires_grad_(), v.clone().requires_grad_()
    value = deep_clustering_loss(name, one, y, active, magnitude)
    expected = _pairwise(name, other, y, active, magnitude)
    assert torch.allclose(value, expected, rtol=0, atol=1e-10)
    value.sum().backward()
    expected.sum().backward()
    assert torch.allclose(one.grad, other.grad, rtol=0, atol=1e-12)


def test_gradient_of_the_paper_s_loss_is_the_closed_form() -> None:
    v, y, active, _ = _problem()
    v.requires_grad_()
    deep_clustering_loss("paper", v, y, active).sum().backward()
    for n in range(B):
        vn, yn = (x[n].detach() * active[n, :, None] for x in (v, y))
        scale = torch.diag(active[n] * (yn @ yn.T).sum(1).clamp_min(1).rsqrt())
        total = scale.sum() ** 2
        expected = 4 * scale @ vn @ (vn.T @ scale @ vn) - 4 * scale @ yn @ (yn.T @ scale @ vn)
        assert torch.allclose(v.grad[n], expected / total, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_a_segment_twice_as_long_costs_the_same(name: str) -> None:
    problem = _problem()
    value = deep_clustering_loss(name, *problem)
    assert torch.allclose(deep_clustering_loss(name, *(torch.cat([x, x], 1) for x in problem)), value, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_inactive_bins_and_the_order_of_bins_and_classes_change_nothing(name: str) -> None:
    v, y, active, magnitude = _problem()
    value = deep_clustering_loss(name, v, y, active, magnitude)
    moved = torch.where(active.unsqueeze(-1) > 0, v, 5.0)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    other = deep_clustering_loss(name, moved[:, order], y[:, order].flip(2), active[:, order], magnitude[:, order])
    assert torch.allclose(other, value, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_rotation_of_the_embeddings_changes_nothing(name: str) -> None:
    v, y, active, magnitude = _problem()
    rotation = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(2), dtype=v.dtype))[0]
    value = deep_clustering_loss(name, v, y, active, magnitude)
    assert torch.allclose(deep_clustering_loss(name, v @ rotation, y, active, magnitude), value, atol=1e-10)


@pytest.mark.parametrize("name", ["paper", "unweighted", "magnitude"])
def test_embeddings_at_the_labels_cost_nothing_and_at_the_origin_one_per_pair_of_a_class(name: str) -> None:
    v, y, active, magnitude = _problem()
    ideal = functional.pad(y, (0, D - S)).requires_grad_()
    value = deep_clustering_loss(name, ideal, y, active, magnitude)
    value.sum().backward()
    assert value.abs().max() < 1e-14 and ideal.grad.abs().max() < 1e-14
    zero = torch.zeros_like(v)
    expected = _pairwise(name, zero, y, active, magnitude)
    assert torch.allclose(deep_clustering_loss(name, zero, y, active, magnitude), expected, atol=1e-12)


def test_simplex_vertices_cost_nothing_in_the_manifold_loss() -> None:
    _, y, active, _ = _problem()
    assert deep_clustering_loss("manifold", functional.pad(simplex(y), (0, 2)), y, active).abs().max() < 1e-14
    assert torch.equal(simplex(y[..., :1]), y[..., :1])


def test_every_class_of_the_paper_s_loss_weighs_as_the_root_of_its_size() -> None:
    _, y, active, _ = _problem()
    per_class = (y.mT @ class_weights(y, active).unsqueeze(-1)).squeeze(-1)
    assert torch.allclose(per_class, (y.mT @ active.unsqueeze(-1)).squeeze(-1).sqrt())


def test_whitened_loss_is_the_trace_form_and_ranges_from_d_minus_s_to_d() -> None:
    v, y, active, _ = _problem()
    value = whitened_loss(v, y, active, ridge=0.0)
    for n in range(B):
        vn, yn = v[n] * active[n, :, None], y[n] * active[n, :, None]
        inner = torch.linalg.inv(vn.T @ vn) @ vn.T @ yn @ torch.linalg.inv(yn.T @ yn) @ yn.T @ vn
        assert torch.allclose(value[n], D - inner.trace(), atol=1e-10)
    assert (value > D - S).all() and (value < D).all()
    ideal = functional.pad(y, (0, D - S))
    assert torch.allclose(whitened_loss(ideal, y, active, ridge=1e-9), torch.tensor(D - S, dtype=v.dtype), atol=1e-6)


def test_gradient_of_the_whitened_loss_is_its_numerical_one() -> None:
    v, y, active, _ = _problem()
    v = v[:, :20].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: whitened_loss(x, y[:, :20], active[:, :20]), v)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_segments_are_finite_and_nothing_active_has_no_gradient(name: str, dtype: torch.dtype) -> None:
    v, y, active, magnitude = _problem(dtype=dtype)
    active[0] = 0
    y[1] = functional.one_hot(torch.zeros(N, dtype=torch.long), S)
    y[2] = y[1]
    y[2, 0] = torch.tensor([0, 0, 1])
    active[2, 0] = 1
    v.requires_grad_()
    value = deep_clustering_loss(name, v, y, active, magnitude)
    value.sum().backward()
    assert value.isfinite().all() and v.grad.isfinite().all()
    assert v.grad[0].abs().max() == 0 and v.grad[1:].abs().amax((1, 2)).min() > 0
    assert value[0] == 0


@pytest.mark.parametrize("name", NAMES)
def test_bf16_autocast_and_embeddings_change_no_precision(name: str) -> None:
    v, y, active, magnitude = _problem(dtype=torch.float32)
    expected = deep_clustering_loss(name, v, y, active, magnitude)
    with torch.autocast("cpu", torch.bfloat16):
        v.requires_grad_()
        value = deep_clustering_loss(name, v, y, active, magnitude)
        gradient = torch.autograd.grad(value.sum(), v)[0]
    assert torch.equal(value, expected) and gradient.dtype == torch.float32
    half = deep_clustering_loss(name, v.detach().bfloat16(), y.bool(), active.bool(), magnitude)
    rounded = deep_clustering_loss(name, v.detach().bfloat16().float(), y, active, magnitude)
    assert half.dtype == torch.float32 and torch.equal(half, rounded)


@pytest.mark.parametrize("chosen", [True, False])
def test_tf32_is_off_inside_and_as_it_was_outside(chosen: bool) -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    try:
        matmul.allow_tf32 = chosen
        with full_precision(torch.device("cuda")):
            assert not matmul.allow_tf32
        assert matmul.allow_tf32 is chosen
    finally:
        matmul.allow_tf32 = before


def test_tf32_stays_off_until_the_last_of_several_threads_is_out() -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    try:
        matmul.allow_tf32 = True
        # As two threads that overlap: the first one in is the first one out.
        first, second = (full_precision(torch.device("cuda")) for _ in range(2))
        for context in (first, second):
            context.__enter__()
        first.__exit__(None, None, None)
        assert not matmul.allow_tf32
        second.__exit__(None, None, None)
        assert matmul.allow_tf32
    finally:
        matmul.allow_tf32 = before


@pytest.mark.parametrize("num_bins", [255, 256, 12900])
def test_float32_stays_close_to_float64_near_the_optimum(num_bins: int) -> None:
    g = torch.Generator().manual_seed(3)
    y = functional.one_hot(torch.randint(0, S, (1, num_bins), generator=g), S)
    near = functional.normalize(functional.pad(y, (0, 4)) + 0.02 * torch.randn(1, num_bins, S + 4, generator=g), dim=-1)
    active = torch.rand(1, num_bins, generator=g) < 0.5
    for name in ("paper", "unweighted"):
        expected = deep_clustering_loss(name, near.double(), y, active)
        assert 0 < expected < 1e-3
        assert ((deep_clustering_loss(name, near, y, active) - expected) / expected).abs() < 5e-3


def test_bins_are_summed_in_blocks_of_any_number() -> None:
    for num_bins in (1, 255, 256, 257, 700):
        g = torch.Generator().manual_seed(num_bins)
        v = torch.randn(2, num_bins, D, generator=g, dtype=torch.float64)
        y = functional.one_hot(torch.randint(0, S, (2, num_bins), generator=g), S).double()
        active = torch.ones(2, num_bins)
        expected = _pairwise("unweighted", v, y, active.double(), active)
        assert torch.allclose(deep_clustering_loss("unweighted", v, y, active), expected, rtol=1e-10)


def test_a_batched_product_is_that_of_its_examples() -> None:
    g = torch.Generator().manual_seed(4)
    batch = [torch.rand(2, 600, *n, generator=g) for n in ((D,), (S,), ())]
    for n in range(2):
        for together, alone in zip(_products(*batch), _products(*(x[n] for x in batch)), strict=True):
            assert torch.allclose(together[n], alone, rtol=1e-5)


def test_bad_input_is_one_line() -> None:
    v, y, active, _ = _problem()
    for name, labels, magnitude in (("nothing", y, None), ("magnitude", y, None), ("paper", y[:, 1:], None)):
        with pytest.raises(PseError) as caught:
            deep_clustering_loss(name, v, labels, active, magnitude)
        assert "\n" not in str(caught.value)


def _spectra() -> Tensor:
    """Two sources [1, 2, 1, 4]: peaks 1 and 0.1; only the last bin is quiet in both."""
    return torch.tensor([[[[1.0, 0.02, 0.001, 0.001]], [[0.1, 0.0005, 0.05, 0.0005]]]])


def test_dominant_source_is_the_loudest_one_in_each_bin() -> None:
    masks = dominant_source(_spectra())
    assert masks.tolist() == [[[[1, 1, 0, 1]], [[0, 0, 1, 0]]]]
    assert torch.equal(dominant_source(torch.zeros(1, 3, 2, 2)).sum(1), torch.ones(1, 2, 2))


def test_each_rule_of_activity_keeps_its_bins() -> None:
    mixture = torch.tensor([[[1.1, 0.02, 0.051, 0.0015]]])
    got = {rule: activity(_spectra(), mixture, rule=rule).int().flatten().tolist() for rule in RULES}
    assert got == {"any_source": [1, 1, 1, 0], "all_sources": [1, 0, 0, 0], "mixture": [1, 1, 1, 0]}
    above = activity(_spectra(), mixture, rule="mixture", threshold_db=-20)
    assert above.int().flatten().tolist() == [1, 0, 0, 0]


def test_activity_ignores_the_level_and_knows_silence_and_whole_recordings() -> None:
    spectra = _spectra()
    assert torch.equal(activity(1e-4 * spectra), activity(spectra))
    assert not activity(torch.zeros(2, 2, 3, 4)).any()
    assert activity(spectra, peaks=torch.tensor([[100.0, 100.0]])).sum() == 0
    with pytest.raises(PseError):
        activity(spectra, rule="mixture")


def test_bins_have_one_order_for_labels_weights_and_embeddings() -> None:
    x = torch.randn(2, 3, 5, 4)
    n = 1 * 5 + 2
    assert torch.equal(bins(x)[:, n], x[:, :, 2, 1]) and torch.equal(bins(x[:, 0])[:, n], x[:, 0, 2, 1])
    assert torch.equal(points(x.permute(0, 2, 3, 1)), bins(x))
    assert torch.equal(unflattened(bins(x[:, 0]), 5), x[:, 0]) and torch.equal(unflattened(bins(x).mT, 5), x)


def test_a_silent_source_does_not_silence_the_others_where_all_must_be_heard() -> None:
    magnitudes = torch.rand(2, 3, 5, 4) + 0.1
    magnitudes[0, 2] = 0
    two = activity(magnitudes[:1, :2], rule="all_sources")
    assert torch.equal(activity(magnitudes, rule="all_sources")[:1], two) and two.any()
    assert not activity(torch.zeros(1, 2, 5, 4), rule="all_sources").any()
