"""Laws of the encoder of frames: one vector a frame, of that frame alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from pse.errors import PseError
from pse.models import frame_encoder
from pse.models.base import Model, build, num_parameters
from pse.models.frame_encoder import FrameEncoder, layer_sizes

RAW = {"name": "frame_encoder", "channels": 12, "embedding_size": 8, "projection_size": 6}
LOG = {**RAW, "input": "log_magnitude", "context": 2}
MODELS = {"raw": RAW, "log": LOG, "column": {**LOG, "context": 0}}


def make(mapping: dict[str, Any]) -> Model:
    torch.manual_seed(0)
    return build(mapping, "test").eval()


def noise(num_samples: int, batch: int = 2) -> Tensor:
    return 0.1 * torch.randn(batch, num_samples, generator=torch.Generator().manual_seed(0))


def steps(length: int, num_layers: int) -> list[int]:
    """What is left of `length` steps after each layer."""
    left = [length]
    for kernel, stride in layer_sizes(length, num_layers):
        left.append((left[-1] - kernel) // stride + 1)
    return left


def test_six_layers_turn_256_samples_into_one_vector() -> None:
    assert layer_sizes(256, 6) == [(10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2)]
    assert steps(256, 6) == [256, 50, 24, 11, 5, 2, 1]
    model = make(RAW)
    assert model.layers(torch.randn(3, 1, 256)).shape == (3, 12, 1)


def test_the_docstring_tells_the_number_of_weights() -> None:
    told = re.search(r"([\d,]+) weights", FrameEncoder.__doc__)[1]
    with torch.device("meta"):
        assert num_parameters(build({"name": "frame_encoder"}, "test")) == int(told.replace(",", ""))


@pytest.mark.parametrize("frame", [128, 256, 512, 1024])
@pytest.mark.parametrize("num_layers", range(1, 10))
@pytest.mark.parametrize("input", ["raw", "log_magnitude"])
def test_every_depth_and_frame_gives_one_vector_a_frame(input: str, num_layers: int, frame: int) -> None:
    model = make({**RAW, "input": input, "num_layers": num_layers, "frame": frame, "hop": frame // 4})
    assert min(steps(frame, num_layers)) >= 1 and len(model.layers) == 3 * num_layers
    mix = noise(2000)
    with torch.no_grad():
        out = model(mix).embeddings
    assert out.shape == (2, 1, model.transform.stft(mix).shape[2], 8) and model.node_shape == (frame // 2 + 1, 1)
    assert torch.allclose(out.norm(dim=3), torch.tensor(1.0), atol=1e-5)


@pytest.mark.parametrize("num_samples", [1, 63, 64, 128, 129, 1000])
@pytest.mark.parametrize("name", MODELS)
def test_frames_are_those_of_the_spectrum(name: str, num_samples: int) -> None:
    model, mix = make(MODELS[name]), noise(num_samples)
    spectrum = model.transform.stft(mix)
    assert model(mix).embeddings.shape == (2, 1, spectrum.shape[2], 8)
    window = torch.hann_window(256).sqrt()
    assert torch.allclose(torch.fft.rfft(model.frames(mix) * window).mT, spectrum, atol=1e-5)


def test_a_frame_is_encoded_on_its_own() -> None:
    model, mix = make({**RAW, "normalize": "none"}), noise(3000)
    whole = model(mix).embeddings
    frames = model.frames(mix)
    for f in (0, 5, 20, 46):
        assert torch.allclose(model.vectors(model.encode(frames[:, f : f + 1]))[:, :, 0], whole[:, :, f], atol=1e-5)
    # Of a signal that is one frame, the frame at its middle is that frame.
    alone = model(mix[:, 20 * 64 - 128 : 20 * 64 + 128]).embeddings
    assert torch.allclose(alone[:, :, 2], whole[:, :, 20], atol=1e-5)


@pytest.mark.parametrize(("name", "context"), [("raw", 0), ("column", 0), ("log", 2)])
def test_a_vector_depends_on_its_frame_and_context_and_on_nothing_else(name: str, context: int) -> None:
    model = make({**MODELS[name], "normalize": "none"})
    mix = noise(3000, batch=1).requires_grad_()
    model(mix).embeddings[0, 0, 20, 0].backward()
    seen = mix.grad[0].nonzero()
    reach = 128 + 64 * context
    # The outermost sample has a window of zero in the spectrum; strides of 5 leave the last one of 256 out.
    assert int(seen.min()) - 20 * 64 + reach in (0, 1) and 20 * 64 + reach - int(seen.max()) in (1, 2)
    assert model.causal and model.algorithmic_latency_samples() == 256 + 64 * context
    assert model.receptive_field_samples() == 2 * reach


@pytest.mark.parametrize("name", MODELS)
def test_the_level_changes_nothing(name: str) -> None:
    model, mix = make(MODELS[name]), noise(2000)
    with torch.no_grad():
        assert torch.allclose(model(300 * mix).embeddings, model(mix).embeddings, atol=1e-4)
    assert not model.causal


def test_a_long_recording_is_encoded_in_pieces_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mix = make(LOG), noise(4000)
    whole = model(mix).embeddings
    monkeypatch.setattr(frame_encoder, "FRAMES_PER_PIECE", 7)
    assert torch.allclose(model(mix).embeddings, whole, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_silence_is_finite_and_every_weight_gets_a_gradient(name: str) -> None:
    model, mix = make(MODELS[name]), noise(2000)
    mix[0] = 0
    projected = model.project(model(mix).embeddings)
    assert projected.shape == (2, 1, 32, 6)
    assert torch.allclose(projected.norm(dim=3), torch.tensor(1.0), atol=1e-5)
    (projected * torch.rand(2, 1, 32, 6)).sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in model.parameters())
    assert max(float(p.grad.abs().max()) for p in model.parameters()) < 1e4


def test_bf16_autocast_gives_unit_vectors_in_float32() -> None:
    model, mix = make(RAW), noise(2000)
    expected = model(mix).embeddings
    with torch.autocast("cpu", torch.bfloat16):
        got = model(mix).embeddings
    assert got.dtype == torch.float32 and (got * expected).sum(-1).min() > 0.99


def test_a_stream_of_columns_is_encoded_and_one_of_samples_refused() -> None:
    spectrum = torch.randn(2, 129, 10, dtype=torch.complex64)
    model = make({**LOG, "context": 0, "normalize": "none"})
    parts = [model.embeddings(part, {}) for part in spectrum.split(4, 2)]
    assert torch.allclose(torch.cat(parts, 2), model.separate(spectrum, 600).embeddings, atol=1e-5)
    for mapping, told in ((RAW, "input: log_magnitude"), (LOG, "context: 0")):
        with pytest.raises(PseError, match=told):
            make({**mapping, "normalize": "none"}).embeddings(spectrum, {})
    with pytest.raises(PseError, match="input: log_magnitude"):
        make(RAW).separate(spectrum, 600)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"input": "phase"}, "log_magnitude"), ({"context": 1}, "context"), ({"hop": 128}, "hop"),
        ({"num_layers": 0}, "num_layers"), ({"embedding_size": 0}, "embedding_size"), ({"frame": 255}, "even"),
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(PseError, match=told):
        build({**RAW, **keys}, "test")


@pytest.mark.parametrize("kind", MODELS)
def test_the_frames_asked_for_are_encoded_as_among_all(kind: str) -> None:
    model, mix, frames = make(MODELS[kind]), noise(4000), torch.tensor([[0, 62, 5], [7, 7, 1]])
    expected = model(mix).embeddings[:, 0].gather(1, frames.unsqueeze(-1).expand(-1, -1, 8))
    assert torch.allclose(model.embeddings_at(mix, frames), expected, atol=1e-5)
