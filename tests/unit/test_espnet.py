"""Laws of ESPnet's networks inside our contract: the same numbers, the same weights, honest promises."""

from __future__ import annotations

import copy
import importlib
import warnings
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from pse.errors import PseError
from pse.models.base import Model, Output, build
from pse.models.espnet import CLASSES, ESPnetModel
from pse.models.info import describe

for needed in ("espnet2", "torch_complex", "typeguard", "librosa"):
    pytest.importorskip(needed)

CONV = {"encoder": "conv", "encoder_conf": {"channel": 24, "kernel_size": 16, "stride": 8}}
STFT = {"encoder": "stft", "encoder_conf": {"n_fft": 64, "hop_length": 16}}
TCN = {"layer": 3, "stack": 2, "bottleneck_dim": 6, "hidden_dim": 10, "nonlinear": "sigmoid"}
CAUSAL = {"normalize": "none", "separator_conf": {**TCN, "causal": True, "norm_type": "cLN"}}
LSTM = {"separator": "rnn", "separator_conf": {"rnn_type": "lstm", "layer": 1, "unit": 8}, "normalize": "none"}
CONFORMER = {
    "adim": 8, "aheads": 2, "layers": 2, "linear_units": 12, "nonlinear": "sigmoid",
    "dropout_rate": 0.0, "positional_dropout_rate": 0.0, "attention_dropout_rate": 0.0,
}  # fmt: skip
GRID = {"n_layers": 1, "lstm_hidden_units": 6, "emb_dim": 8, "attn_n_head": 2}
EMBED = {"layer": 1, "unit": 8, "emb_D": 3}
MODELS = {
    "tcn": {"separator": "tcn", **CONV, "separator_conf": TCN},
    "tcn stft": {"separator": "tcn", **STFT, "separator_conf": TCN},
    "tcn map": {"separator": "tcn", **CONV, "separator_conf": {**TCN, "masking": False, "nonlinear": "linear"}},
    "tcn causal": {"separator": "tcn", **CONV, **CAUSAL},
    "tcn causal stft": {"separator": "tcn", **STFT, **CAUSAL},
    "rnn": {"separator": "rnn", **STFT, "separator_conf": {"layer": 1, "unit": 8}},
    "rnn causal": {**STFT, **LSTM},
    "rnn causal conv": {**CONV, **LSTM},
    "dprnn": {"separator": "dprnn", **CONV, "separator_conf": {"layer": 1, "unit": 8, "segment_size": 10}},
    "conformer": {"separator": "conformer", **STFT, "separator_conf": CONFORMER},
    "tfgridnetv3": {"separator": "tfgridnetv3", **STFT, "separator_conf": GRID},
    "half overlap": {
        "separator": "rnn", "encoder": "stft", "encoder_conf": {"n_fft": 64, "win_length": 48, "hop_length": 24},
        "separator_conf": {"layer": 1, "unit": 8}, "num_sources": 2,
    },
}  # fmt: skip
EMBEDDERS = {
    "dpcl": {"separator": "dpcl", **STFT, "num_sources": 2, "separator_conf": EMBED},
    "dpcl conv": {"separator": "dpcl", **CONV, "num_sources": 2, "separator_conf": EMBED},
    "dan": {"separator": "dan", **STFT, "num_sources": 3, "separator_conf": EMBED},
}
ALL = {**MODELS, **EMBEDDERS}
# Whole frames of every encoder above.
FITTING = 16 + 8 * 298


def make(mapping: dict, seed: int = 0) -> ESPnetModel:
    torch.manual_seed(seed)
    return build({"name": "espnet", **mapping}, "test")


def noise(num_samples: int, batch: int = 2, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(batch, num_samples, generator=torch.Generator().manual_seed(seed))


def made(out: Output) -> Tensor:
    return out.wavs if out.wavs is not None else out.embeddings


def theirs(mapping: dict, model: Model) -> SimpleNamespace:
    """The parts as ESPnet's EnhancementTask.build_model puts them together, with the weights of ours."""

    def find(part: str, kind: str) -> type[nn.Module]:
        module, name = CLASSES[part, kind]
        return getattr(importlib.import_module(f"espnet2.enh.{module}"), name)

    conf, chain = mapping["encoder_conf"], nn.Module()
    sources = "n_srcs" if mapping["separator"] == "tfgridnetv3" else "num_spk"
    count = {sources: mapping.get("num_sources", 1)}
    chain.encoder = find("encoder", mapping["encoder"])(**conf)
    chain.separator = find("separator", mapping["separator"])(
        chain.encoder.output_dim, **count, **mapping["separator_conf"]
    )
    chain.decoder = find("decoder", mapping["encoder"])(**conf)
    chain.load_state_dict(model.state_dict())
    return chain


@pytest.mark.parametrize("name", MODELS)
def test_the_output_is_that_of_the_chain_in_espnet(name: str) -> None:
    model, mix = make({**MODELS[name], "normalize": "none"}), noise(FITTING)
    chain, lengths = theirs(MODELS[name], model), torch.full((2,), FITTING)
    with torch.no_grad():
        features, num_frames = chain.encoder(mix, lengths)
        estimates, _, others = chain.separator(features, num_frames)
        wavs = torch.stack([chain.decoder(e, lengths)[0] for e in estimates], 1)
        out = model(mix)
    assert (out.wavs - wavs).abs().max() < 1e-6 * wavs.abs().max()
    if out.masks is not None:
        assert torch.allclose(out.masks[:, 0], others["mask_spk1"].mT, atol=1e-6)
    assert (out.masks is None) == (name in ("tfgridnetv3", "tcn map"))


@pytest.mark.parametrize("name", MODELS)
def test_a_length_between_frames_is_that_of_the_signal_with_zeros_after_it(name: str) -> None:
    model, mix = make({**MODELS[name], "normalize": "none"}), noise(FITTING - 3)
    with torch.no_grad():
        longer = model(nn.functional.pad(mix, (0, 3))).wavs
        assert torch.allclose(model(mix).wavs, longer[..., :-3], atol=1e-6)


@pytest.mark.parametrize("name", EMBEDDERS)
def test_embeddings_are_those_of_espnet(name: str) -> None:
    model, mix = make({**EMBEDDERS[name], "normalize": "none"}), noise(FITTING)
    separator, frames = model.separator.train(), model.encoder(mix, torch.full((2,), FITTING))
    others = {}
    if name != "dan":
        others = separator(*frames)[2]
    out = model(mix)
    assert out.wavs is None and out.embeddings.shape[0] == 2
    if others:
        expected = others["tf_embedding"].unflatten(1, frames[0].shape[1:]).transpose(1, 2)
        assert torch.allclose(out.embeddings, expected, atol=1e-6)


@pytest.mark.parametrize("num_sources", [2, 3])
def test_attractors_give_what_espnet_makes_of_the_references_in_training(num_sources: int) -> None:
    mapping = {**EMBEDDERS["dan"], "num_sources": num_sources}
    model, references = make(mapping), noise(FITTING, 2 * num_sources).unflatten(0, (2, num_sources))
    mix = references.sum(1)
    chain, lengths, level = theirs(mapping, model).train(), torch.full((2,), FITTING), mix.square().mean(1).sqrt()
    features, num_frames = chain.encoder(mix / level[:, None], lengths)
    spectra = [chain.encoder(r, lengths)[0] for r in references.unbind(1)]
    estimates, _, others = chain.separator(features, num_frames, {"feature_ref": spectra})
    out = model.eval().attract(mix, references)
    for source, estimate in enumerate(estimates):
        wav = chain.decoder(estimate, lengths)[0] * level[:, None]
        assert torch.allclose(out.wavs[:, source], wav, atol=1e-6)
        assert torch.allclose(out.masks[:, source], others[f"mask_spk{source + 1}"].mT, atol=1e-5)
    assert torch.equal(out.embeddings, model(mix).embeddings)


def test_only_dan_has_attractors_and_as_many_as_sources() -> None:
    for name, count in (("dpcl", 2), ("dan", 2)):
        with pytest.raises(PseError, match="references"):
            make(EMBEDDERS[name]).attract(noise(800), noise(800, 2 * count).unflatten(0, (2, count)))


@pytest.mark.parametrize("num_samples", [1, 7, 15, 16, 17, 31, 32, 33, 63, 65, 1000, 1001])
@pytest.mark.parametrize("name", ALL)
def test_any_length_goes_in_and_comes_out(name: str, num_samples: int) -> None:
    with torch.no_grad():
        out = make(ALL[name])(noise(num_samples))
    frames = 1 + num_samples // ALL[name]["encoder_conf"].get("hop_length", 1)
    if name in EMBEDDERS:
        assert out.embeddings.shape[::3] == (2, 3) and out.embeddings.isfinite().all()
        assert ALL[name]["encoder"] == "conv" or out.embeddings.shape[2] == frames
        return
    assert out.wavs.shape == (2, ALL[name].get("num_sources", 1), num_samples) and out.wavs.isfinite().all()
    if out.masks is not None and ALL[name]["encoder"] == "stft":
        assert out.masks.shape[1:] == (out.wavs.shape[1], 33, frames)


@pytest.mark.parametrize("name", ALL)
def test_every_weight_gets_a_gradient(name: str) -> None:
    model = make(ALL[name])
    (made(model(noise(3000))) - 0.1).square().sum().backward()
    for key, parameter in model.named_parameters():
        # A decoder has nothing to decode where embeddings are asked for.
        if name not in EMBEDDERS or not key.startswith("decoder."):
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key
            assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("scale", [1e-30, 0.3, 1e4])
@pytest.mark.parametrize("name", ["tcn", "rnn", "dprnn", "conformer", "tfgridnetv3"])
def test_estimates_scale_with_the_input(name: str, scale: float) -> None:
    model, mix = make(MODELS[name]), noise(2000)
    with torch.no_grad():
        loud, plain = model(scale * mix).wavs, model(mix).wavs
    assert (loud / scale - plain).abs().max() < 1e-4 * plain.abs().max()


@pytest.mark.parametrize("name", ALL)
def test_silence_gives_silence_and_finite_gradients(name: str) -> None:
    model, mix = make({**ALL[name], "normalize": "rms"}), torch.zeros(2, 2000, requires_grad=True)
    out = model(mix)
    assert out.wavs is None or out.wavs.abs().max() < 1e-30
    assert made(out).isfinite().all()
    (made(out) - 1.0).square().mean().backward()
    assert mix.grad is None or mix.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ALL)
def test_examples_of_a_batch_do_not_touch_each_other(name: str) -> None:
    """So that signals of several lengths may stand in one batch, zeros after the shorter ones."""
    # In use, that is: in training the conformer's batch norm mixes them.
    model, mix = make(ALL[name]).eval(), noise(2000)
    mix[1, 1200:] = 0.0
    with torch.no_grad():
        alone = torch.cat([made(model(mix[:1])), made(model(mix[1:]))])
        assert torch.allclose(made(model(mix)), alone, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_weights_come_back_from_safetensors(name: str) -> None:
    model, other, mix = make(ALL[name]), make(ALL[name], seed=1), noise(2000)
    other.load_state_dict(load(save(model.state_dict())))
    assert torch.equal(made(model(mix)), made(other(mix)))


@pytest.mark.parametrize("name", ALL)
def test_bfloat16_autocast_changes_little_and_gives_float32(name: str) -> None:
    model, mix = make(ALL[name]), noise(2000)
    expected = made(model(mix))
    with torch.autocast("cpu", torch.bfloat16):
        got = made(model(mix))
    got.square().sum().backward()
    assert got.dtype == torch.float32
    assert (got - expected).abs().max() < 0.06 * expected.abs().max()


@pytest.mark.parametrize("name", [n for n in MODELS if "causal" in n])
def test_a_causal_model_waits_no_longer_than_its_latency(name: str) -> None:
    model, mix, changed = make(MODELS[name]).double(), noise(2000).double(), 1001
    assert model.causal
    later = torch.cat([mix[:, :changed], noise(2000, seed=1).double()[:, : 2000 - changed]], dim=1)
    with torch.no_grad():
        difference = (model(later).wavs - model(mix).wavs).abs().flatten(0, -2).amax(0)
    # A transform is computed in float32, whatever it is given.
    first = int((difference > 1e-7).nonzero()[0])
    assert changed - model.algorithmic_latency_samples() < first <= changed
    assert first <= changed - 0.3 * model.algorithmic_latency_samples()


@pytest.mark.parametrize("name", ["tcn", "rnn", "dprnn", "conformer", "tfgridnetv3", "dpcl", "dan"])
def test_what_sees_the_whole_signal_claims_nothing(name: str) -> None:
    model = make({**ALL[name], "normalize": "none"})
    assert not model.causal and model.algorithmic_latency_samples() is None
    assert (model.receptive_field_samples() is None) == (name != "tcn")


@pytest.mark.parametrize("change", [{"norm_type": "gLN"}, {"causal": False}])
def test_a_tcn_is_causal_only_with_a_norm_of_each_frame_and_the_level_as_given(change: dict) -> None:
    mapping = MODELS["tcn causal"]
    assert not make({**mapping, "separator_conf": mapping["separator_conf"] | change}).causal
    assert not make({**mapping, "normalize": "rms"}).causal


@pytest.mark.parametrize("encoder", [CONV, STFT, {**CONV, "encoder_conf": {**CONV["encoder_conf"], "stride": 5}}])
def test_receptive_field_spans_the_gradient(encoder: dict) -> None:
    # A norm of each frame: that of the whole signal reaches everywhere.
    conf = {**TCN, "norm_type": "cLN"}
    model = make({"separator": "tcn", **encoder, "separator_conf": conf, "normalize": "none"}).double()
    widest = 0
    for place in range(1000, 1016):
        mix = noise(2000, batch=1).double().requires_grad_()
        model(mix).wavs[0, 0, place].backward()
        seen = mix.grad[0].nonzero()
        widest = max(widest, int(seen.max() - seen.min()) + 1)
    assert widest == model.receptive_field_samples()


def test_the_price_is_that_of_the_products() -> None:
    """Per frame: encoder and decoder N L, bottleneck and masks N B, and 2 B H + P H a block."""
    n, length, b, h, p = 24, 16, 6, 10, 3
    a_frame = 2 * n * length + 2 * n * b + 6 * (2 * b * h + p * h)
    slow = make({**MODELS["tcn"], "sample_rate": 1600})
    assert describe(slow)["network_macs_per_s"] == pytest.approx(200 * a_frame, rel=1e-6)


def test_a_model_that_was_used_can_still_be_copied() -> None:
    model = make(MODELS["conformer"])
    model(noise(800))
    assert torch.equal(copy.deepcopy(model)(noise(800)).wavs, model(noise(800)).wavs)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"separator": "tnc"}, "did you mean 'tcn'"),
        ({"separator_conf": {"laier": 3}}, "separator_conf: unknown key 'laier'; did you mean 'layer'?"),
        ({"separator_conf": {"layer": "three"}}, "separator_conf: layer: must be int"),
        ({"separator_conf": {"num_spk": 2}}, "num_spk cannot stand here; write num_sources"),
        ({"separator_conf": {"predict_noise": True}}, "predict_noise cannot stand here"),
        ({"separator_conf": {"nonlinear": "softplus"}}, "separator_conf: Not supporting nonlinear=softplus"),
        ({"separator": "dprnn", "separator_conf": {"rnn_type": "elman"}}, "separator_conf: ESPnet refuses this"),
        ({"encoder_conf": {"channel": 8, "kernel_size": 8}}, "encoder_conf: key 'stride' is missing"),
        ({"encoder_conf": {"channel": 8, "kernel_size": 8, "stride": 9}}, "leaves gaps"),
        ({"decoder_conf": {"stride": 4}}, "decoder_conf: stride: 4 does not stand in encoder_conf"),
        ({"decoder_conf": {"strid": 8}}, "decoder_conf: strid: 8 does not stand in encoder_conf"),
        ({"num_sources": 0}, "num_sources must be a positive whole number"),
        ({"separator": "tfgridnetv3", "separator_conf": {}}, "set encoder: stft"),
        ({"separator": "dpcl", "separator_conf": {}}, "num_sources to 2 or more"),
        ({**STFT, "encoder_conf": {"center": False}}, "center can only be true"),
        ({**STFT, "encoder_conf": {"n_fft": 64, "hop_length": 48}}, "leaves gaps"),
        ({**STFT, "separator_conf": {"masking": False}}, "makes no spectrum"),
        ({**STFT, "encoder_conf": {"n_fft": 64, "hop_length": 16, "window": "hat"}}, "encoder_conf: hat window"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(change: dict, told: str) -> None:
    with pytest.raises(PseError) as raised:
        make({**MODELS["tcn"], **change})
    assert told in str(raised.value) and "\n" not in str(raised.value) and raised.value.exit_code == 1


def test_settings_copied_from_espnet_s_own_config_are_understood() -> None:
    front = {"n_fft": 64, "hop_length": 16, "win_length": None, "window": "hann", "center": True}
    make({**STFT, "separator": "rnn", "encoder_conf": front, "decoder_conf": front, "separator_conf": {"unit": 8}})


def test_nothing_is_printed_or_warned_of_while_a_model_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(MODELS["conformer"])
    assert capsys.readouterr() == ("", "")
