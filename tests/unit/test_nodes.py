"""Nodes: patches of bins as sums, as masks of bins, and as what a network embeds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pse.errors import PseError
from pse.models.base import Model, build
from pse.models.nodes import expanded, grid, pooled

BLSTM = {"name": "blstm_embedding", "hidden_size": 6, "embedding_size": 4}
TCN = {"name": "tcn_embedding", "channels": 6, "num_layers": 3, "embedding_size": 4}
SHAPES = [(1, 1), (4, 4), (129, 1), (1, 5), (8, 1), (129, 200), (128, 3)]


def make(mapping: dict[str, Any]) -> Model:
    torch.manual_seed(0)
    return build(mapping, "test").eval()


def noise(num_samples: int) -> Tensor:
    return 0.1 * torch.randn(2, num_samples, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("num_frames", [1, 2, 7, 64])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_bin_is_in_one_node_and_the_edges_have_what_is_left(shape: tuple[int, int], num_frames: int) -> None:
    ones = torch.ones(2, 129, num_frames)
    counts = pooled(ones, shape)
    assert counts.shape == (2, *grid(shape, 129, num_frames)) and (counts.sum((1, 2)) == 129 * num_frames).all()
    assert (counts[:, :-1, :-1] == shape[0] * shape[1]).all() and counts.min() > 0
    # The sum of what all bins of a node have is the node's value times its bins.
    values = torch.rand(2, *counts.shape[1:])
    wide = expanded(values, shape, 129, num_frames)
    assert wide.shape == (2, 129, num_frames)
    assert torch.allclose(pooled(wide, shape), values * counts, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_pooled_sums_and_expanded_repeats_bin_by_bin(shape: tuple[int, int]) -> None:
    power = torch.rand(129, 11, dtype=torch.float64)
    sums = pooled(power, shape)
    by_hand = torch.zeros_like(sums)
    for k in range(129):
        for f in range(11):
            by_hand[k // shape[0], f // shape[1]] += power[k, f]
    assert torch.allclose(sums, by_hand, atol=1e-10)
    labels = torch.randint(0, 9, sums.shape)
    wide = expanded(labels, shape, 129, 11)
    assert all(wide[k, f] == labels[k // shape[0], f // shape[1]] for k in range(129) for f in range(11))


def test_nodes_that_do_not_fit_are_refused_in_one_line() -> None:
    with pytest.raises(PseError, match=r"make them \(33, 3\)"):
        expanded(torch.zeros(33, 4), (4, 4), 129, 11)
    with pytest.raises(PseError, match="at least 1"):
        pooled(torch.zeros(129, 11), (0, 1))


@pytest.mark.parametrize("num_samples", [1, 64, 1000, 1024])
@pytest.mark.parametrize(("bins", "frames"), [(0, 1), (4, 4), (1, 3), (129, 100), (16, 1)])
@pytest.mark.parametrize("mapping", [BLSTM, TCN], ids=["blstm", "tcn"])
def test_every_node_has_a_unit_vector(mapping: dict[str, Any], bins: int, frames: int, num_samples: int) -> None:
    model = make({**mapping, "node_bins": bins, "node_frames": frames})
    out = model(noise(num_samples)).embeddings
    assert model.node_shape == (bins or 129, frames)
    assert out.shape == (2, *grid(model.node_shape, 129, 1 + num_samples // 64), 4)
    assert torch.allclose(out.norm(dim=3), torch.tensor(1.0), atol=1e-5)
    out[..., 0].sum().backward()
    # The state before the only frame is zero, so that no gradient reaches recurrent weights.
    assert all(p.grad.abs().sum() > 0 for p in model.parameters()) or (num_samples == 1 and mapping is BLSTM)


def test_bins_are_nodes_by_default() -> None:
    plain, told = make(TCN), make({**TCN, "node_bins": 1, "node_frames": 1})
    assert plain.node_shape == (1, 1) and plain.slots == 0
    assert list(plain.state_dict()) == list(told.state_dict())
    assert torch.equal(plain(noise(1000)).embeddings, told(noise(1000)).embeddings)


def test_a_node_of_frames_has_the_mean_of_their_hidden_states() -> None:
    model = make({**TCN, "node_frames": 3, "activation": "linear"})
    spectrum = model.transform.stft(noise(1000))
    hidden = model.hidden(spectrum)
    for node, frames in enumerate([slice(0, 3), slice(3, 6), slice(15, 16)]):
        values = model.embed(hidden[:, frames].mean(1)).unflatten(1, (129, 4))
        got = model.vectors(hidden)[:, :, [0, 1, 5][node]]
        assert torch.allclose(got, values / values.norm(dim=2, keepdim=True), atol=1e-5)


def test_masks_stay_those_of_bins() -> None:
    out = make({**TCN, "node_bins": 0, "node_frames": 2, "num_masks": 2})(noise(1000))
    assert out.masks.shape == (2, 2, 129, 16) and out.embeddings.shape == (2, 1, 8, 4)


def test_a_stream_has_nodes_of_one_frame_only() -> None:
    causal = {**TCN, "causal": True, "normalize": "none", "node_bins": 0}
    spectrum = torch.randn(2, 129, 10, dtype=torch.complex64)
    model = make(causal)
    memory: dict[Any, Any] = {}
    parts = [model.embeddings(part, memory) for part in spectrum.split(4, 2)]
    assert torch.allclose(torch.cat(parts, 2), model.vectors(model.hidden(spectrum)), atol=1e-5)
    several = make({**causal, "node_frames": 4})
    assert several.algorithmic_latency_samples() == 256 + 3 * 64
    with pytest.raises(PseError, match="node_frames: 1"):
        several.embeddings(spectrum, {})


@pytest.mark.parametrize(
    ("keys", "told"),
    [({"node_bins": 130}, "node_bins"), ({"node_bins": -1}, "node_bins"), ({"node_frames": 0}, "node_frames")],
)
def test_sizes_that_do_not_fit_are_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(PseError, match=told):
        build({**BLSTM, **keys}, "test")


def test_unfolded_clustering_wants_bins() -> None:
    with pytest.raises(PseError, match="node_bins: 1"):
        build({"name": "unfolded_clustering", "net": {**BLSTM, "node_bins": 0}}, "test")
