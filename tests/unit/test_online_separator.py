"""Separation of a stream: chunk by chunk what the whole signal gives, a segment late."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pse import Stream
from pse.clustering.options import Clustering
from pse.errors import PseError
from pse.inference.online import OnlineSeparator
from pse.models.base import build

LSTM = {"name": "blstm_embedding", "hidden_size": 12, "embedding_size": 4, "bidirectional": False, "normalize": "none"}
TCN = {
    "name": "tcn_embedding", "channels": 8, "num_layers": 3, "embedding_size": 4, "causal": True, "normalize": "none",
}  # fmt: skip


@pytest.fixture(params=[LSTM, TCN], ids=["lstm", "tcn"])
def model(request: pytest.FixtureRequest) -> OnlineSeparator:
    torch.manual_seed(0)
    net = build(request.param, "test").eval()
    net.set_statistics(torch.randn(129), 1 + torch.rand(129))
    return OnlineSeparator(net, 2, Clustering("online", segment_frames=20, restarts=2))


@pytest.mark.parametrize("sizes", [(12000,), (1, 700, 5000, 3, 2000, 4296), (100,) * 120])
@torch.inference_mode()
def test_a_stream_gives_what_the_whole_signal_does(model: OnlineSeparator, sizes: tuple[int, ...]) -> None:
    mix = 0.1 * torch.randn(2, sum(sizes), generator=torch.Generator().manual_seed(1))
    mix[:, 3000:6000] *= 0.01
    stream, parts = Stream(model, 8000), []
    for chunk in mix.split(sizes, 1):
        parts.append(stream.push(chunk))
    parts.append(stream.flush())
    got, expected = torch.cat(parts, 2), model(mix).wavs
    assert got.shape == expected.shape == (2, 2, 12000)
    assert (got - expected).abs().max() < 1e-4
    assert torch.allclose(got.sum(1), mix, atol=1e-5)


@torch.inference_mode()
def test_no_sample_waits_longer_than_the_latency_and_later_ones_change_nothing(model: OnlineSeparator) -> None:
    stream, latency = Stream(model, 8000), model.algorithmic_latency_samples()
    assert latency == 20 * 64 + 256
    mix, given = 0.1 * np.random.default_rng(0).standard_normal(9000).astype(np.float32), 0
    for start in range(0, 9000, 64):
        given += stream.push(mix[start : start + 64]).shape[1]
        assert given >= start + 64 - latency
    other = mix.copy()
    other[5000:] *= -3
    before, after = (model(torch.from_numpy(x)[None]).wavs[0, :, : 5000 - latency] for x in (mix, other))
    assert torch.allclose(before, after, atol=1e-6)


def test_a_network_that_hears_the_future_is_refused() -> None:
    net = build(LSTM | {"bidirectional": True, "normalize": "rms"}, "test")
    with pytest.raises(PseError, match="needs a causal network of embeddings"):
        OnlineSeparator(net, 2)
    with pytest.raises(PseError, match="the mode is global; set mode: online"):
        OnlineSeparator(build(LSTM, "test"), 2, Clustering("global"))


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        (LSTM | {"node_bins": 4}, "its nodes are 4 x 1 bins and frames"),
        (LSTM | {"node_frames": 2}, "its nodes are 1 x 2 bins and frames"),
        ({"name": "frame_encoder", "channels": 4, "normalize": "none"}, "its nodes are 129 x 1 bins and frames"),
        ({"name": "slot_encoder", "net": {"name": "blstm_embedding", "bidirectional": False}}, "its nodes are slots"),
    ],
)
def test_a_network_whose_nodes_are_not_bins_is_refused(mapping: dict, told: str) -> None:
    with pytest.raises(PseError, match=told) as caught:
        OnlineSeparator(build(mapping, "test"), 2)
    assert "\n" not in str(caught.value) and "single bins are needed" in str(caught.value)
