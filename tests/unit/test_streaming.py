"""Laws of a stream: the output of the whole signal, in time, in bounded memory."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pse.config import read_yaml
from pse.dsp.stft import STFT, Analysis, Synthesis
from pse.errors import PseError
from pse.inference.listening import FixedDelay
from pse.inference.package import save_package
from pse.inference.streaming import Stream, causal_config
from pse.models.base import Model, Output, build
from pse.models.layers import PastMoments

ROOT = Path(__file__).parents[2]
CONF = ROOT / "egs" / "librispeech_pse" / "conf" / "models"
FAMILIES = ("gru_*", "conv_tasnet_*", "snr_predictor_*")
SHIPPED = sorted(path for family in FAMILIES for path in CONF.glob(f"{family}_causal.yaml"))
TASNET = {
    "name": "conv_tasnet", "bottleneck_channels": 4, "hidden_channels": 6, "num_filters": 20, "skip_channels": 5,
    "num_blocks": 3, "num_repeats": 2, "causal": True, "normalize": "none",
}  # fmt: skip
GRU = {"name": "gru_mask", "hidden_size": 8, "n_fft": 64, "hop": 16, "normalize": "none"}
SNR = {"name": "snr_predictor", "hidden_size": 8, "num_layers": 2, "n_fft": 64, "hop": 16, "normalize": "none"}
MODELS = {
    "tasnet": TASNET, "two sources": {**TASNET, "num_sources": 2},
    "odd stride": {**TASNET, "filter_length": 20, "stride": 5}, "no overlap": {**TASNET, "filter_length": 8},
    "no look back": {**TASNET, "kernel_size": 1}, "gru": GRU, "odd hop": {**GRU, "hop": 13},
    "snr": SNR, "log snr": {**SNR, "feature": "log_magnitude"},
    "running gru": {**GRU, "normalize": "running"}, "running snr": {**SNR, "normalize": "running"},
}  # fmt: skip
DENOISERS = [name for name in MODELS if "snr" not in name]


def make(mapping: dict[str, Any]) -> Model:
    torch.manual_seed(0)
    return build(mapping, "test").eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whole(model: Model, mix: Tensor) -> Tensor:
    """What the model makes of mix: [C, T] at once, without an axis for a single source."""
    with torch.no_grad():
        out = model(mix)
    return out.frame_snr_db if out.wavs is None else out.wavs.squeeze(1)


def cut(num_samples: int, sizes: Sequence[int]) -> Iterator[slice]:
    """Chunks of these sizes, over and over; at most 40 of them, and the rest."""
    start = 0
    for number in range(40):
        stop = min(num_samples, start + sizes[number % len(sizes)])
        yield slice(start, stop)
        start = stop
    yield slice(start, num_samples)


def streamed(stream: Stream, mix: Tensor, sizes: Sequence[int]) -> Tensor:
    return torch.cat([*(stream.push(mix[..., part]) for part in cut(mix.shape[-1], sizes)), stream.flush()], -1)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=15)
@given(
    num_samples=st.one_of(st.sampled_from([1, 15, 16, 17, 31, 32, 33, 63, 64, 65]), st.integers(1, 400)),
    sizes=st.lists(st.one_of(st.integers(0, 3), st.integers(0, 200)), min_size=1, max_size=8),
    silent=st.integers(0, 100),
    level=st.sampled_from([1e-4, 0.03, 1.0]),
)
def test_any_chunks_give_the_output_of_the_whole_signal(
    name: str, num_samples: int, sizes: list[int], silent: int, level: float
) -> None:
    model, mix = make(MODELS[name]), level * noise(2, num_samples)
    mix[:, :silent] = 0
    expected = whole(model, mix)
    got = streamed(Stream(model, 16000), mix, sizes)
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_causal_config_streams_and_differs_from_its_sibling_in_nothing_else(path: Path) -> None:
    mapping = read_yaml(path)
    sibling = read_yaml(path.with_name(path.name.replace("_causal", "")))
    of_gru, of_tasnet = {"normalize": "running", "bidirectional": False}, {"normalize": "none", "causal": True}
    assert {**sibling, **(of_tasnet if "causal" in sibling else of_gru)} == mapping
    model, mix = make(mapping), noise(1, 5000)
    got = streamed(Stream(model, 16000), mix, [160, 0, 1, 1300])
    assert (got - whole(model, mix)).abs().max() <= 1e-5


@pytest.mark.parametrize(
    "mapping", [{**TASNET, "num_repeats": 1}, {**GRU, "n_fft": 1024, "hop": 256}], ids=["tasnet", "gru"]
)
def test_minutes_do_not_drift(mapping: dict[str, Any]) -> None:
    model, mix = make(mapping), noise(120 * 16000)
    mix *= torch.linspace(0.01, 2.0, 120).repeat_interleave(16000)
    got = streamed(Stream(model, 16000), mix, [47991, 48007])
    assert (got - whole(model, mix[None])[0]).abs().max() <= 1e-5


def test_a_frame_still_counts_after_a_hundred_hours() -> None:
    past, before = PastMoments(), 100 * 3600 * 2000
    past.num_frames, past.sums = before, torch.tensor([0.25, 2.0]).double().reshape(2, 1, 1) * before
    mean, power = past.include(torch.full((1, 1), 1.25), torch.full((1, 1), 5.0))
    assert past.sums.flatten().tolist() == pytest.approx([0.25 * before + 1.25, 2.0 * before + 5.0], rel=1e-15)
    assert (mean.item(), power.item()) == pytest.approx((0.25, 2.0), rel=1e-6)
    # Another hour at another level shows, by exactly its share.
    for _ in range(10):
        mean, power = past.include(torch.full((1, 720_000), 1.25), torch.full((1, 720_000), 5.0))
    share = (past.num_frames - before) / past.num_frames
    assert mean[0, -1].item() == pytest.approx(0.25 + share, rel=1e-6)
    assert power[0, -1].item() == pytest.approx(2.0 + 3.0 * share, rel=1e-6)


@pytest.mark.parametrize("name", DENOISERS)
def test_a_sample_comes_when_the_latency_is_over_and_the_latency_is_used(name: str) -> None:
    stream, emitted, lags = Stream(make(MODELS[name]), 16000), 0, []
    for pushed in range(1, 400):
        emitted += stream.push(noise(1)).shape[-1]
        lags.append(pushed - emitted)
    # Sample t came by the push of sample t + latency - 1.
    assert max(lags) == stream.latency_samples - 1
    assert stream.flush().shape[-1] == lags[-1]


def test_a_ratio_comes_when_half_a_window_after_its_centre_is_there() -> None:
    stream = Stream(make(SNR), 16000)
    counts = np.cumsum([stream.push(noise(1)).shape[-1] for _ in range(300)])
    assert stream.latency_samples == 32
    assert [int(np.argmax(counts > frame)) + 1 for frame in range(10)] == [frame * 16 + 32 for frame in range(10)]


# The window of an STFT is zero on its first sample, so one sample of the latency has no effect.
@pytest.mark.parametrize(("name", "unused"), [("tasnet", 0), ("odd stride", 0), ("gru", 1), ("odd hop", 1)])
def test_no_output_depends_on_what_comes_after_the_latency(name: str, unused: int) -> None:
    model = make(MODELS[name]).double()
    mix, waits = noise(1, 300).double().requires_grad_(), []
    wavs = model(mix).wavs[0, 0]
    for place in range(100, 140):
        (gradient,) = torch.autograd.grad(wavs[place], mix, retain_graph=True)
        waits.append(int(gradient[0].nonzero().max()) - place + 1)
    assert max(waits) == model.algorithmic_latency_samples() - unused


def held_bytes(value: object) -> int:
    """Bytes of all tensors that an object holds, the model's own left out."""
    if isinstance(value, Tensor):
        return value.untyped_storage().nbytes()
    if isinstance(value, list | tuple):
        return sum(map(held_bytes, value))
    return 0 if isinstance(value, Model) or not hasattr(value, "__dict__") else held_bytes(list(vars(value).values()))


@pytest.mark.parametrize("name", ["tasnet", "gru", "snr"])
def test_memory_does_not_grow_with_the_stream(name: str) -> None:
    stream, held = Stream(make(MODELS[name]), 16000), []
    for _ in range(12):
        stream.push(noise(1600))
        held.append(held_bytes(stream))
    assert 0 < held[-1] <= max(held[:3])
    stream.push(noise(16000))
    after_a_second = held_bytes(stream)
    stream.push(noise(5 * 16000))
    assert held_bytes(stream) <= 1.01 * after_a_second


def test_what_goes_in_comes_out_in_its_kind_and_shape() -> None:
    model, mix = make(GRU), noise(3, 500)
    expected = whole(model, mix)
    for samples, kind in ((mix, Tensor), (mix.numpy(), np.ndarray), (mix.numpy().astype(np.float64), np.ndarray)):
        stream = Stream(model, 16000)
        parts = [stream.push(samples[:, :200]), stream.push(samples[:, 200:]), stream.flush()]
        assert all(isinstance(part, kind) for part in parts)
        assert np.allclose(np.concatenate([np.asarray(part) for part in parts], -1), expected, atol=1e-6)
    alone = Stream(model, 16000).push(mix[1])
    assert alone.shape == (448,) and torch.allclose(alone, expected[1, :448], atol=1e-6)
    alone *= 2.0  # An ordinary tensor, which the caller may change.
    both = Stream(make({**TASNET, "num_sources": 2}), 16000)
    assert both.push(noise(40)).shape == (2, 32) and both.flush().shape == (2, 8)


@pytest.mark.parametrize("name", MODELS)
def test_flush_ends_a_signal_and_begins_another(name: str) -> None:
    model = make(MODELS[name])
    stream = Stream(model, 16000)
    assert stream.flush().shape[-1] == 0
    assert stream.push(noise(2, 0)).shape[-1] == 0 and stream.flush().shape[0] == 2
    first, again = (streamed(stream, noise(2, 333), [100]) for _ in range(2))
    assert torch.equal(first, again)
    assert streamed(stream, noise(77), [10]).shape[-1] == whole(model, noise(1, 77)).shape[-1]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full(10, np.nan, np.float32), "NaN"), (np.array([np.inf]), "NaN"), (np.zeros(10, np.int16), "32768"),
        (np.zeros((2, 10), np.float32), "shape"), (torch.zeros(10), "shape"), (np.zeros((1, 1, 4)), "shape"),
    ],
)  # fmt: skip
def test_a_bad_chunk_is_refused_and_the_stream_goes_on(bad: np.ndarray, message: str) -> None:
    model, mix = make(GRU), noise(400).numpy()
    stream = Stream(model, 16000)
    parts = [stream.push(mix[:300])]
    with pytest.raises(PseError, match=message):
        stream.push(bad)
    parts += [stream.push(mix[300:]), stream.flush()]
    assert np.allclose(np.concatenate(parts), whole(model, torch.from_numpy(mix)[None])[0], atol=1e-6)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda p: p.stem)
def test_a_model_that_needs_the_whole_signal_is_refused_with_a_config_that_does_not(path: Path) -> None:
    mapping = read_yaml(path)
    if path in SHIPPED or mapping["name"] not in ("conv_tasnet", "gru_mask", "snr_predictor"):
        return
    model = build(mapping, path)
    with pytest.raises(PseError, match="whole signal") as caught:
        Stream(model, 16000)
    line = str(caught.value)
    assert "\n" not in line and f"normalize: {mapping['normalize']}" in line
    assert ("bidirectional: true" in line) == mapping.get("bidirectional", False)
    assert ("causal: false" in line) == ("causal" in mapping)
    assert f"conf/models/{causal_config(model)}" in line and CONF / causal_config(model) in SHIPPED


def code_of_page(name: str) -> str:
    """The block of docs/streaming.md whose first line is a comment with this name."""
    text = (ROOT / "docs" / "streaming.md").read_text("utf-8")
    return text.split(f"```python\n# {name}\n")[1].split("```")[0]


def test_the_program_of_the_page_enhances_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapping = {**GRU, "n_fft": 1024, "hop": 256}
    model, mix = make(mapping), noise(9000).clamp(-0.99, 0.99)
    save_package(tmp_path / "model", model, mapping, "# a card\n")
    soundfile.write(tmp_path / "in.wav", mix.numpy(), 16000, "FLOAT")
    (tmp_path / "denoise.py").write_text(code_of_page("denoise.py"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["denoise.py", "model", "in.wav", "out.wav"])
    runpy.run_path("denoise.py")
    out, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert rate == 16000 and out.shape == (9000,)
    assert np.allclose(out, whole(model, mix[None])[0], atol=1e-6)


@pytest.mark.parametrize("name", ["tasnet", "gru"])
def test_a_fixed_delay_gives_as_much_as_it_takes(name: str) -> None:
    model, mix = make(MODELS[name]), noise(700)
    delay = FixedDelay(Stream(model, 16000))
    outs = [delay(mix[part].numpy()) for part in cut(700, [16, 0, 1, 53])]
    assert [len(out) for out in outs] == [part.stop - part.start for part in cut(700, [16, 0, 1, 53])]
    late = model.algorithmic_latency_samples() - 1
    expected = np.concatenate([np.zeros(late, np.float32), whole(model, mix[None])[0].numpy()])[:700]
    assert np.allclose(np.concatenate(outs), expected, atol=1e-6)


@pytest.mark.parametrize(("hop", "window"), [(16, "hann"), (16, "sqrt_hann"), (5, "sqrt_hann"), (1, "hann")])
@pytest.mark.parametrize("num_samples", [1, 31, 32, 33, 200])
def test_analysis_and_synthesis_in_pieces_are_the_stft_and_its_inverse(
    hop: int, window: str, num_samples: int
) -> None:
    transform, x = STFT(64, hop, window), noise(2, num_samples).double()
    analysis, synthesis = Analysis(transform), Synthesis(transform)
    spectra = [*(analysis.push(x[:, part]) for part in cut(num_samples, [7, 0, 30])), analysis.flush()]
    assert torch.allclose(torch.cat(spectra, 2), transform.stft(x), atol=1e-12)
    pieces = [synthesis.push(spectrum) for spectrum in spectra if spectrum.shape[2]]
    assert torch.allclose(torch.cat([*pieces, synthesis.flush(num_samples)], 1), x, atol=1e-12)


@pytest.mark.parametrize("name", ["tasnet", "gru"])
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_the_caller_may_write_the_next_chunk_over_the_last_one(name: str, kind: Any) -> None:
    model, mix, place = make(MODELS[name]), noise(600).numpy(), np.empty(10, np.float32)
    stream, parts = Stream(model, 16000), []
    for chunk in mix.reshape(-1, 10):
        place[:] = chunk
        parts.append(np.asarray(stream.push(kind(place))).copy())
    got = np.concatenate([*parts, np.asarray(stream.flush())])
    assert np.allclose(got, whole(model, torch.from_numpy(mix)[None])[0], atol=1e-5)


def test_another_rate_and_a_model_without_a_streamer_are_refused() -> None:
    class Plain(Model):
        causal = True

        def process(self, mix: Tensor) -> Output:
            return Output(wavs=mix[:, None])

        def receptive_field_samples(self) -> int:
            return 1

        def algorithmic_latency_samples(self) -> int:
            return 1

    with pytest.raises(PseError, match="record at 16000 Hz"):
        Stream(make(GRU), 48000)
    with pytest.raises(PseError, match="Plain cannot stream"):
        Stream(Plain(16000, "none"), 16000)
