"""Laws of the refiner: clusters in, waveforms out, none of them before the others."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from pse.errors import PseError
from pse.models import conv_tasnet
from pse.models.base import Model, build, num_parameters
from pse.models.cluster_refiner import ClusterRefiner

NET = {"name": "tcn_embedding", "channels": 8, "num_layers": 2, "num_repeats": 1, "embedding_size": 4}
SIZES = {
    "num_filters": 10, "bottleneck_channels": 6, "hidden_channels": 8, "skip_channels": 5, "num_blocks": 2,
    "num_repeats": 2,
}  # fmt: skip
WHOLE = {"name": "cluster_refiner", "net": NET, **SIZES}
NETS = {
    "bins": NET, "columns": {**NET, "node_bins": 0}, "patches": {**NET, "node_bins": 8, "node_frames": 3},
    "frames": {"name": "frame_encoder", "channels": 6, "num_layers": 3, "embedding_size": 4},
}  # fmt: skip


def make(net: dict[str, Any] = NET, **keys: Any) -> Model:
    """A refiner that corrects something: one that nothing trained does not."""
    torch.manual_seed(0)
    model = build({**WHOLE, "net": net, **keys}, "test").eval()
    torch.nn.init.normal_(model.refiner.mask.weight)
    return model


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("num_samples", [1, 15, 16, 17, 63, 1000])
@pytest.mark.parametrize("name", NETS)
def test_as_many_waveforms_come_out_as_clusters_whatever_the_nodes(name: str, num_samples: int) -> None:
    model = make(NETS[name], num_masks=3)
    mix = noise(2, num_samples)
    with torch.no_grad():
        out = model(mix)
        clusters = model.clusters(out.embeddings, mix)
    assert out.wavs.shape == (2, 3, num_samples) and out.wavs.isfinite().all()
    assert torch.allclose(clusters.sum(1), mix, atol=1e-5)
    assert model.node_shape == model.net.node_shape and model.slots == 0


@pytest.mark.parametrize("name", NETS)
def test_training_begins_with_what_the_clusters_separate(name: str) -> None:
    model, mix = build({**WHOLE, "net": NETS[name]}, "test").eval(), noise(2, 2000)
    estimates = noise(2, 3, 2000, seed=1)
    assert torch.allclose(model.refine(mix, estimates), estimates, atol=1e-6)
    model.refine(mix, estimates)[0, 0, :99].sum().backward()
    assert model.refiner.mask.weight.grad.abs().sum() > 0


def test_clusters_are_masked_softly() -> None:
    model, mix = make(), noise(1, 3000)
    with torch.no_grad():
        embeddings = model.net.process(mix).embeddings
        clusters, spectrum = model.clusters(embeddings, mix), model.transform.stft(mix)
        shares = (model.transform.stft(clusters[0]) * spectrum.conj()).real / spectrum.abs().square()
    inside = shares[..., 5:-5]
    assert ((inside > 0.05) & (inside < 0.95)).float().mean() > 0.5


def test_the_order_of_the_estimates_is_that_of_the_outputs_for_any_number() -> None:
    model, mix = make(), noise(2, 3000)
    for count in (1, 2, 5):
        estimates, order = noise(2, count, 3000, seed=1), torch.randperm(count)
        refined = model.refine(mix, estimates)
        assert refined.shape == (2, count, 3000)
        assert torch.allclose(model.refine(mix, estimates[:, order]), refined[:, order], atol=1e-6)


def test_an_output_depends_on_its_own_cluster_and_the_mixture_only() -> None:
    model, mix, estimates = make(), noise(1, 2000), noise(1, 3, 2000, seed=1).requires_grad_()
    model.refine(mix, estimates)[0, 1].square().sum().backward()
    heard = estimates.grad.abs().amax((0, 2))
    assert heard[1] > 0 and heard[0] == heard[2] == 0


def test_the_model_refines_its_own_clusters() -> None:
    model, mix = make(), noise(2, 3000)
    level = mix.square().mean(1, keepdim=True).sqrt()
    with torch.no_grad():
        out = model(mix)
        clusters = model.clusters(out.embeddings, mix / level) * level[:, None]
        assert torch.allclose(model.refine(mix, clusters), out.wavs, atol=1e-6)


def test_the_level_of_the_mixture_is_that_of_the_outputs_and_silence_stays_silence() -> None:
    model, mix, estimates = make(), noise(2, 2000), noise(2, 2, 2000, seed=1)
    with torch.no_grad():
        assert torch.allclose(model(50 * mix).wavs, 50 * model(mix).wavs, atol=1e-4)
        assert torch.allclose(model.refine(50 * mix, 50 * estimates), 50 * model.refine(mix, estimates), atol=1e-4)
        assert (model(0 * mix).wavs == 0).all()
        # How loud an estimate is beside the mixture is heard.
        assert not torch.allclose(model.refine(mix, 0.1 * estimates), model.refine(mix, estimates), atol=1e-4)


def test_the_net_takes_trained_weights_and_never_changes_them() -> None:
    model, trained, mix = make({**NET, "input_noise": 0.5}), build(NET, "test"), noise(2, 2000)
    model.started_from().load_state_dict(trained.state_dict())
    model.train()
    assert not model.net.training and model.refiner.training
    assert torch.equal(model(mix).embeddings, model(mix).embeddings)
    model(mix).wavs.square().sum().backward()
    for name, parameter in model.named_parameters():
        # Conv-TasNet's last residual output leads nowhere.
        frozen = name.startswith(("net.", "refiner.blocks.3.residual."))
        assert (parameter.grad is None) == frozen == (not parameter.requires_grad), name
        assert frozen or parameter.grad.abs().sum() > 0, name


def test_a_trained_refiner_takes_another_number_of_clusters() -> None:
    three = make(num_masks=3)
    three.load_state_dict(make().state_dict())
    assert three(noise(1, 2000)).wavs.shape == (1, 3, 2000)


def test_pieces_of_a_long_signal_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mix, estimates = make(), noise(1, 2000), noise(1, 2, 2000, seed=1)
    whole = model.refine(mix, estimates)
    monkeypatch.setattr(conv_tasnet, "FRAMES_PER_PIECE", 50)
    assert torch.allclose(model.refine(mix, estimates), whole, atol=1e-6)


def test_bf16_autocast_changes_little_and_gives_float32() -> None:
    model, mix, estimates = make(), noise(1, 2000), noise(1, 2, 2000, seed=1)
    expected = model.refine(mix, estimates)
    with torch.autocast("cpu", torch.bfloat16):
        got = model.refine(mix, estimates)
    assert got.dtype == torch.float32 and (got - expected).abs().max() < 0.05 * expected.abs().max()


def test_the_docstring_tells_the_number_of_weights() -> None:
    told = re.search(r"([\d,]+) weights", ClusterRefiner.__doc__)[1]
    model = build({"name": "cluster_refiner", "net": NET}, "test")
    assert num_parameters(model.refiner) == int(told.replace(",", ""))
    assert num_parameters(model) == num_parameters(model.refiner) + num_parameters(build(NET, "test"))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"num_masks": 1}, "num_masks"), ({"restarts": 0}, "restarts"), ({"kernel_size": 4}, "kernel_size"),
        ({"net": {"name": "gru_mask", "hidden_size": 8}}, "embedding model"),
        ({"net": {**NET, "embedding_size": 0, "num_masks": 2}}, "embedding model"),
        ({"net": {"name": "slot_encoder", "net": {"name": "tcn_embedding"}}}, "embedding model"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(PseError, match=told):
        build({**WHOLE, **keys}, "test")


def test_estimates_of_another_shape_are_refused() -> None:
    for estimates in (noise(2, 3000), noise(2, 2, 2999), noise(3, 2, 3000)):
        with pytest.raises(PseError, match="B, S, T"):
            make().refine(noise(2, 3000), estimates)
