"""Laws of the models: sizes, level, length, context, gradients, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from pse.config import read_yaml
from pse.errors import PseError
from pse.models import conv_tasnet, layers
from pse.models.base import Model, Output, build, measure_level, num_parameters

CONF = Path(__file__).parents[2] / "egs" / "librispeech_pse" / "conf" / "models"
PARAMETERS = {
    "conv_tasnet_tiny": 158_037, "conv_tasnet_small": 245_133, "conv_tasnet_medium": 462_333,
    "conv_tasnet_large": 1_068_765, "conv_tasnet_tiny_causal": 158_037, "conv_tasnet_small_causal": 245_133,
    "conv_tasnet_medium_causal": 462_333, "conv_tasnet_large_causal": 1_068_765,
    "gru_32_causal": 75_777, "gru_64_causal": 169_473, "gru_128_causal": 412_161, "gru_256_causal": 1_118_721,
    "gru_512_causal": 3_416_577, "snr_predictor_small_causal": 346_113,
    "gru_32": 75_777, "gru_64": 169_473, "gru_128": 412_161, "gru_256": 1_118_721, "gru_512": 3_416_577,
    "bgru_32": 157_185, "bgru_64": 363_009, "bgru_128": 922_113, "bgru_256": 2_630_145, "bgru_512": 8_405_505,
    "snr_predictor_large": 17_324_033, "snr_predictor_small": 790_529,
    "espnet_conformer": 337_281, "espnet_dprnn": 308_033, "espnet_rnn": 857_601, "espnet_tcn": 291_613,
    "espnet_tcn_causal": 291_613, "espnet_tfgridnetv3": 119_584,
}  # fmt: skip
TASNET = {
    "name": "conv_tasnet", "bottleneck_channels": 4, "hidden_channels": 6, "num_filters": 20,
    "skip_channels": 5, "num_blocks": 3, "num_repeats": 2,
}  # fmt: skip
GRU = {"name": "gru_mask", "hidden_size": 8}
SNR = {"name": "snr_predictor", "hidden_size": 8, "num_layers": 2}
CAUSAL = {"causal": True, "normalize": "none"}
DENOISERS = {
    "tasnet": TASNET, "gru": GRU, "bgru": {**GRU, "bidirectional": True},
    "tasnet causal": {**TASNET, **CAUSAL}, "gru causal": {**GRU, "normalize": "none"},
    "gru running": {**GRU, "normalize": "running"},
}  # fmt: skip
PREDICTORS = {
    "magnitude": SNR, "log": {**SNR, "feature": "log_magnitude"}, "snr causal": {**SNR, "normalize": "none"},
    "bidirectional": {**SNR, "bidirectional": True}, "snr running": {**SNR, "normalize": "running"},
}  # fmt: skip
ALL = {**DENOISERS, **PREDICTORS}


def make(mapping: dict, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return build(mapping, "test")


def noise(num_samples: int, batch: int = 2, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(batch, num_samples, generator=torch.Generator().manual_seed(seed))


def estimate(out: Output) -> Tensor:
    value = out.wavs if out.wavs is not None else out.frame_snr_db
    assert value is not None
    return value


def test_every_config_is_counted() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} == set(PARAMETERS)


@pytest.mark.parametrize(("size", "count"), PARAMETERS.items())
def test_every_size_has_exactly_the_published_number_of_weights(size: str, count: int) -> None:
    if size.startswith("espnet_"):
        pytest.importorskip("espnet2")
    path = CONF / f"{size}.yaml"
    assert path.read_text(encoding="utf-8").startswith("# ")
    with torch.device("meta"):
        assert num_parameters(build(read_yaml(path), path)) == count


@pytest.mark.parametrize("num_samples", [1, 7, 8, 9, 15, 16, 17, 255, 256, 512, 513, 1000, 6001])
@pytest.mark.parametrize("name", DENOISERS)
def test_output_is_as_long_as_the_input(name: str, num_samples: int) -> None:
    with torch.no_grad():
        out = make(DENOISERS[name])(noise(num_samples))
    assert out.wavs.shape == (2, 1, num_samples) and out.wavs.isfinite().all()


@pytest.mark.parametrize("num_samples", [1, 255, 256, 16000, 64000])
def test_the_predictor_gives_one_number_a_hop_and_one_more(num_samples: int) -> None:
    out = make(SNR)(noise(num_samples))
    assert out.frame_snr_db.shape == (2, 1 + num_samples // 256) and out.wavs is None


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 0.3, 7.0, 1e4])
@pytest.mark.parametrize("normalize", ["rms", "peak"])
@pytest.mark.parametrize("name", ["tasnet", "gru", "bgru"])
def test_estimates_scale_with_the_input(name: str, normalize: str, scale: float) -> None:
    model, x = make({**DENOISERS[name], "normalize": normalize}), noise(3000)
    with torch.no_grad():
        loud, plain = model(scale * x).wavs, model(x).wavs
    assert (loud / scale - plain).abs().max() < 1e-5 * plain.abs().max()


@pytest.mark.parametrize("scale", [1e-2, 0.3, 7.0, 1e4])
def test_a_running_level_takes_the_scale_away_as_well(scale: float) -> None:
    model, x = make(DENOISERS["gru running"]), noise(3000)
    with torch.no_grad():
        assert torch.allclose(model(scale * x).wavs / scale, model(x).wavs, atol=1e-6)


def test_the_gru_hears_noise_of_level_one_as_numbers_of_about_one() -> None:
    model = make(GRU)
    heard, _ = model.analyse(10 * noise(64000))
    assert heard.square().mean().sqrt().item() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("name", ["magnitude", "log", "snr running"])
def test_the_predicted_ratio_does_not_depend_on_the_level(name: str) -> None:
    model, x = make(PREDICTORS[name]), noise(3000)
    assert torch.allclose(model(1e-3 * x).frame_snr_db, model(x).frame_snr_db, atol=1e-5)


def test_the_level_is_that_of_each_example() -> None:
    x = noise(1000) * torch.tensor([[1.0], [20.0]])
    assert torch.allclose(measure_level(x, "rms")[:, 0], x.square().mean(1).sqrt())
    assert torch.allclose(measure_level(x, "peak")[:, 0], x.abs().amax(1))
    assert (measure_level(x, "none") == 1).all()


@pytest.mark.parametrize("name", ALL)
def test_silence_gives_silence_and_finite_gradients(name: str) -> None:
    model, x = make(ALL[name]), torch.zeros(2, 3000, requires_grad=True)
    out = model(x)
    if out.wavs is not None:
        assert (out.wavs == 0).all()
    assert estimate(out).isfinite().all()
    (estimate(out) - 1.0).square().mean().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ALL)
def test_every_trained_weight_gets_a_gradient(name: str) -> None:
    model = make(ALL[name])
    estimate(model(noise(3000))).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
        assert not parameter.requires_grad or parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", ALL)
def test_examples_of_a_batch_do_not_touch_each_other(name: str) -> None:
    model, x = make(ALL[name]), noise(3000)
    with torch.no_grad():
        alone = torch.cat([estimate(model(x[:1])), estimate(model(x[1:]))])
        assert torch.allclose(estimate(model(x)), alone, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_weights_come_back_from_safetensors(name: str, tmp_path: Path) -> None:
    model, other = make(ALL[name]), make(ALL[name], seed=1)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    x = noise(3000)
    assert torch.equal(estimate(model(x)), estimate(other(x)))


@pytest.mark.parametrize("name", ALL)
def test_bfloat16_autocast_changes_little_and_gives_float32(name: str) -> None:
    model, x = make(ALL[name]), noise(3000)
    expected = estimate(model(x))
    with torch.autocast("cpu", torch.bfloat16):
        got = estimate(model(x))
    got.square().sum().backward()
    assert got.dtype == torch.float32
    assert (got - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("name", ["tasnet causal", "gru causal", "snr causal"])
def test_a_causal_model_waits_no_longer_than_its_latency(name: str) -> None:
    model, x, changed = make(ALL[name]).double(), noise(6000).double(), 3001
    assert model.causal
    later = torch.cat([x[:, :changed], noise(3000, seed=1).double()[:, : 6000 - changed]], dim=1)
    with torch.no_grad():
        difference = (estimate(model(later)) - estimate(model(x))).abs().flatten(0, -2).amax(0)
    hop = 256 if name == "snr causal" else 1
    first = int((difference > 0).nonzero()[0]) * hop
    assert changed - model.algorithmic_latency_samples() < first <= changed + hop
    # The promise is not idle: most of the latency is really used.
    assert first <= changed - 0.45 * model.algorithmic_latency_samples() + hop


@pytest.mark.parametrize("name", ["tasnet", "gru", "bgru", "magnitude"])
def test_a_model_that_sees_the_whole_signal_says_so(name: str) -> None:
    model, x = make(ALL[name]), noise(6000)
    later = torch.cat([x[:, :5000], 3.0 * x[:, 5000:]], dim=1)
    assert not model.causal and model.algorithmic_latency_samples() is None
    before, after = (estimate(model(mix))[..., :2] for mix in (x, later))
    assert not torch.allclose(before, after, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("num_blocks", [1, 3, 5])
def test_receptive_field_spans_the_gradient(num_blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the statistics of the norms held fixed, which else reach over the whole signal."""
    monkeypatch.setattr(nn.GroupNorm, "forward", lambda self, x: x)
    monkeypatch.setattr(conv_tasnet, "moments_to_scale", lambda m, p, *_: (0.0 * m, 0.0 * p + 1.0))
    model = make({**TASNET, "num_blocks": num_blocks, "normalize": "none"}).double()
    x = noise(6000, batch=1).double().requires_grad_()
    model(x).wavs[0, 0, 3003].backward()
    seen = x.grad[0].nonzero()
    assert int(seen.max() - seen.min()) + 1 == model.receptive_field_samples()


def test_the_paper_s_receptive_field_is_a_quarter_of_a_second() -> None:
    model = build(read_yaml(CONF / "conv_tasnet_tiny.yaml"), "tiny")
    assert model.receptive_field_frames() == 509
    assert model.receptive_field_samples() == 508 * 8 + 16 + 8


def textbook(model: conv_tasnet.ConvTasNet, mix: Tensor) -> Tensor:
    """Conv-TasNet of normalised mix: [B, T] as the paper draws it: every layer on its own, nothing folded."""

    def norm(x: Tensor, layer: nn.Module) -> Tensor:
        if not model.causal:
            statistics = [(x.mean((1, 2)), x.var((1, 2), correction=0))] * x.shape[2]
        else:
            prefixes = [x[..., : f + 1] for f in range(x.shape[2])]
            statistics = [(p.mean((1, 2)), p.var((1, 2), correction=0)) for p in prefixes]
        mean, var = (torch.stack(s, -1)[:, None] for s in zip(*statistics, strict=True))
        return (x - mean) / (var + layer.eps).sqrt() * layer.weight[:, None] + layer.bias[:, None]

    def linear(x: Tensor, layer: nn.Linear) -> Tensor:
        return functional.conv1d(x, layer.weight[..., None], layer.bias)

    w = functional.conv1d(mix[:, None], model.encoder[:, None], stride=model.stride)
    x, total = linear(norm(w, model.norm), model.bottleneck), 0.0
    for block in model.blocks:
        h = norm(functional.prelu(linear(x, block.expand), block.activation_in.weight), block.norm_in)
        h = functional.pad(h, (block.reach, 0) if model.causal else (block.reach // 2, block.reach // 2))
        conv = block.depthwise
        h = functional.conv1d(h, conv.weight, conv.bias, dilation=conv.dilation, groups=h.shape[1])
        h = norm(functional.prelu(h, block.activation_out.weight), block.norm_out)
        x, total = x + linear(h, block.residual), total + linear(h, block.skip)
    masks = linear(functional.prelu(total, model.activation.weight), model.mask).sigmoid()
    masked = masks.unflatten(1, (model.num_sources, -1)) * w[:, None]
    wavs = functional.conv_transpose1d(masked.flatten(0, 1), model.decoder.mT[:, None], stride=model.stride)
    return wavs.reshape(len(mix), model.num_sources, -1)


@pytest.mark.parametrize("extra", [{}, CAUSAL, {"num_sources": 2}, {"filter_length": 20, "stride": 5}])
def test_the_folded_network_computes_the_textbook_one(extra: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv_tasnet, "FRAMES_PER_PIECE", 50)
    model = make({**TASNET, "normalize": "none", **extra}).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.rand_like(parameter))
        x = noise(16 + 8 * 120 if "stride" not in extra else 20 + 5 * 120).double()
        assert torch.allclose(model(x).wavs, textbook(model, x), rtol=1e-9, atol=1e-12)


def test_the_cumulative_norm_is_the_global_norm_of_the_past() -> None:
    x = noise(40, batch=6).reshape(2, 3, 40)
    layer = layers.make_norm(3, causal=True)
    for frame in (0, 1, 17, 39):
        past = functional.group_norm(x[..., : frame + 1], 1, eps=layer.eps)
        assert torch.allclose(layer(x)[..., frame], past[..., frame], atol=1e-4)


def test_the_fast_prelu_is_prelu_with_its_exact_gradient() -> None:
    x, layer = noise(50).double().requires_grad_(), layers.PReLU().double()

    def call(value: Tensor, slope: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": slope}, value)

    assert torch.autograd.gradcheck(call, (x, layer.weight))
    assert torch.equal(layer(x), functional.prelu(x, layer.weight))


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"hidden_size": 8}, "'name' is missing"),
        ({"name": "gru_masc", "hidden_size": 8}, "gru_mask"),
        ({"name": "base"}, "no model is named"),
        ({"name": "gru_mask", "hiden_size": 8}, "hidden_size"),
        ({"name": "gru_mask"}, "'hidden_size' is missing"),
        ({"name": "gru_mask", "hidden_size": 0}, "positive"),
        ({**GRU, "normalize": "loud"}, "loud"),
        ({**GRU, "hop": 1000}, "hop"),
        ({**SNR, "feature": "phase"}, "phase"),
        ({**TASNET, "causal": True}, "normalize: none"),
        ({**TASNET, "stride": 5}, "divide"),
    ],
)
def test_a_wrong_mapping_is_refused_with_its_place(mapping: dict, message: str) -> None:
    with pytest.raises(PseError, match=message) as caught:
        build(mapping, "conf/x.yaml")
    assert "conf/x.yaml" in str(caught.value)


@pytest.mark.parametrize("shape", [(100,), (1, 0), (1, 1, 100)])
def test_a_mixture_must_be_batch_by_samples(shape: tuple[int, ...]) -> None:
    with pytest.raises(PseError, match="batch"):
        make(GRU)(torch.zeros(shape))
