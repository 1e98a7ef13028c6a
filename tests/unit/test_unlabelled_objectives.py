"""Objectives without labels: what is hidden cannot be seen, what is predicted shares no sample, and both teach."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pse.config import bind
from pse.data.collate import Batch
from pse.data.speech import Voices
from pse.data.speech_mixture import SpeakerSampler
from pse.errors import PseError
from pse.losses.contrastive import info_nce
from pse.models.base import Output, build
from pse.training.config import TrainingConfig
from pse.training.loop import train
from pse.training.objectives.contrastive import Contrastive
from pse.training.objectives.masked_reconstruction import MaskedReconstruction, around, hide
from pse.training.objectives.predictive_coding import PredictiveCoding
from tests.speech_toy import toy_voices

FRAMES = {"name": "frame_encoder", "num_layers": 5, "channels": 16, "embedding_size": 8, "projection_size": 4}
NETS = {
    "raw": FRAMES,
    "columns": FRAMES | {"input": "log_magnitude", "context": 1},
    "blstm": {"name": "blstm_embedding", "hidden_size": 12, "num_layers": 1, "embedding_size": 8, "node_bins": 0},
    "tcn": {"name": "tcn_embedding", "channels": 12, "num_layers": 2, "num_repeats": 1, "embedding_size": 8,
            "node_bins": 0},
}  # fmt: skip
HEADS = {MaskedReconstruction: 129, PredictiveCoding: 24}
KINDS = list(HEADS)


@pytest.fixture(scope="module")
def voices() -> Voices:
    return toy_voices()


def make(voices: Voices, kind: Any, num_valid: int = 4, **options: object) -> Any:
    sampler = SpeakerSampler(voices, 4800, 0, "train", (1,))
    fixed = SpeakerSampler(voices, 8000, 1, "valid", (1,))
    valid = [(fixed.spec(n), fixed.scene(n)) for n in range(num_valid)]
    return kind(sampler, valid, bind(kind.Options, options, "test"))


def net(name: str, kind: Any) -> nn.Module:
    torch.manual_seed(0)
    return build(NETS[name] | {"head_size": HEADS[kind]}, "test")


def changed(batch: Batch, mix: Tensor) -> Batch:
    return Batch({**batch.tensors, "mix": mix}, batch.ids)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_hidden_frames_have_no_sample_left_and_visible_ones_have_all(voices, share: float) -> None:
    transform = net("raw", MaskedReconstruction).transform
    mix, seeds = torch.randn(6, 4810), torch.arange(6)
    heard, hidden, visible = hide(mix, transform, seeds, share, 10)
    left = heard == mix
    assert (left | (heard == 0)).all() and not (hidden & visible).any()
    assert (hidden.sum(1) >= 10).all() and (visible.sum(1) > 0).all()
    assert hidden.float().mean() <= share + 0.07
    for row, frame in hidden.nonzero().tolist():
        assert not left[row, 64 * frame - 128 : 64 * frame + 128].any()
    for row, frame in visible.nonzero().tolist():
        assert left[row, max(0, 64 * frame - 128) : 64 * frame + 128].all()
    # No change of what is hidden changes what is heard.
    other = torch.where(left, mix, torch.randn_like(mix))
    assert torch.equal(hide(other, transform, seeds, share, 10).heard, heard)


@pytest.mark.parametrize("name", NETS)
def test_nothing_hidden_moves_the_prediction(voices, name: str) -> None:
    objective, model = make(voices, MaskedReconstruction), net(name, MaskedReconstruction).eval()
    batch = objective.batch(range(3))
    heard, _, _ = hide(batch["mix"], model.transform, batch["seeds"], 0.3, 10)
    given: list[Tensor] = []
    model.head.register_forward_pre_hook(lambda _, x: given.append(x[0].detach()))
    first = objective.errors(model, batch)
    second = objective.errors(model, changed(batch, torch.where(heard == batch["mix"], heard, heard - 0.5)))
    assert torch.equal(*given) and not torch.equal(first, second)


def test_what_is_around_a_hidden_frame_is_mixed_by_how_near_it_is() -> None:
    vectors = torch.tensor([0.0, 1.0, 9.0, 9.0, 9.0, 5.0, 9.0]).view(1, 7, 1)
    visible = torch.tensor([[False, True, False, False, False, True, False]])
    found = around(vectors, visible).flatten()
    assert torch.allclose(found, torch.tensor([1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.0]))
    assert (around(vectors, torch.zeros_like(visible)) == 0).all()


def test_the_error_is_that_of_normalised_log_magnitudes_at_hidden_frames_alone(voices) -> None:
    objective, model = make(voices, MaskedReconstruction), net("raw", MaskedReconstruction).eval()
    batch = objective.batch(range(3))
    model.set_statistics(torch.full((129,), -3.0), torch.full((129,), 2.0))
    nn.init.zeros_(model.head.weight)
    nn.init.constant_(model.head.bias, 0.25)
    heard, hidden, _ = hide(batch["mix"], model.transform, batch["seeds"], 0.3, 10)
    level = heard.square().mean(1, keepdim=True).sqrt()
    wanted = (model.log_magnitude(model.transform.stft(batch["mix"] / level)) + 3.0) / 2.0
    found = objective.errors(model, batch)
    for row in range(3):
        assert torch.allclose(found[row], (wanted[row, hidden[row]] - 0.25).abs().mean(), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETS)
def test_gradients_reach_the_net_and_its_head(voices, name: str, kind: Any) -> None:
    objective, model = make(voices, kind), net(name, kind)
    objective.loss(model, objective.batch(range(4))).total.backward()
    for part, parameter in model.named_parameters():
        if not part.startswith("projection"):
            assert parameter.grad is not None and parameter.grad.isfinite().all(), part
    assert model.head.weight.grad.abs().max() > 0 and model.embed.weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["columns", "blstm"])
def test_the_loss_falls(voices, name: str, kind: Any) -> None:
    objective, model = make(voices, kind), net(name, kind)
    batch, losses = objective.batch(range(8)), []
    values = model.log_magnitude(model.transform.stft(batch["mix"] / batch["mix"].std())).flatten(0, 1)
    model.set_statistics(values.mean(0), values.std(0))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(25):
        optimizer.zero_grad()
        loss = objective.loss(model, batch).total
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_validation_is_that_of_contrast_and_the_same_each_time(voices, kind: Any) -> None:
    objective, model = make(voices, kind, nodes_per_example=16), net("columns", kind).eval()
    assert objective.headline == "eer" and not objective.larger_is_better
    (batch,) = objective.valid_batches()
    with torch.no_grad():
        found, again = objective.validate(model, batch), objective.validate(model, batch)
        contrast = make(voices, Contrastive, nodes_per_example=16)
        theirs = contrast.validate(model, contrast.valid_batches()[0])
    assert torch.equal(found["eer"], theirs["eer"]) and 0 <= found["eer"][0] <= 100
    assert torch.equal(found["loss"], again["loss"]) and found["loss"].shape == (4,) and found["loss"].isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_hears_the_same(voices, kind: Any) -> None:
    model = net("raw", kind)
    objective, again = make(voices, kind), make(voices, kind)
    batch, resumed = objective.batch(range(6)), again.batch(range(4, 6))
    part = Batch({k: batch[k][4:] for k in batch.tensors}, batch.ids[4:])
    assert torch.equal(objective.loss(model, part).total, again.loss(model, resumed).total)


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_is_resumed_bit_for_bit_with_the_net(voices, kind: Any, tmp_path) -> None:
    config = TrainingConfig(batch_size=4, max_examples=16, valid_every_examples=8, lr=1e-2)
    ended = {}
    for name, stops in {"whole": [16], "resumed": [8, 16]}.items():
        for most in stops:
            model = net("columns", kind)
            again = dataclasses.replace(config, max_examples=most)
            train(model, make(voices, kind), again, tmp_path / name, 0)
        ended[name] = model.state_dict()
    assert all(torch.equal(v, ended["resumed"][k]) for k, v in ended["whole"].items())
    assert not torch.equal(ended["whole"]["head.weight"], net("columns", kind).head.weight)


def test_info_nce_is_log_n_of_equals_and_nothing_where_the_right_one_is_far_ahead() -> None:
    same, every = torch.ones(5, 3) / 3**0.5, torch.ones(5, 5, dtype=torch.bool)
    assert torch.allclose(info_nce(same, same, every), torch.tensor(5.0).log())
    assert info_nce(torch.eye(5), torch.eye(5), every, 0.01) < 1e-6
    assert info_nce(same, same, ~every) == 0 and info_nce(same[:0], same[:0], every[:0, :0]) == 0


def test_predicted_frames_are_ahead_and_share_no_sample(voices) -> None:
    objective = make(voices, PredictiveCoding)
    assert objective.steps(net("raw", PredictiveCoding)) == [4, 6, 12]
    assert objective.steps(net("columns", PredictiveCoding)) == [6, 6, 12]
    assert make(voices, PredictiveCoding, min_apart_samples=640).steps(net("raw", PredictiveCoding)) == [10, 10, 12]
    model, batch = net("raw", PredictiveCoding), objective.batch(range(3))
    drawn, active = objective._frames(model, batch)
    vectors, there, starts, _ = objective._vectors(model, batch, drawn, active)
    every = model(batch["mix"]).embeddings[:, 0]
    crop = batch["starts"][:, :1].expand_as(drawn.places).flatten()
    rows = torch.arange(3)[:, None].expand_as(drawn.places).flatten()
    seen = 0
    for n in there.any(1).nonzero().flatten().tolist():
        frame = int(starts[n] - crop[n]) // 64
        for s, step in enumerate((4, 6, 12)):
            if there[n, s]:
                assert active[rows[n], frame + step]
                assert torch.allclose(vectors[n, 1 + s], every[rows[n], frame + step], atol=1e-5)
                seen += 1
    assert seen > 20


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_trained_so_is_refused_in_one_line(voices, kind: Any) -> None:
    frames, options = Output(embeddings=torch.zeros(1, 1, 3, 8)), kind.Options()
    kind.check(frames, options, [1], "here")
    assert kind.labels(options, [1]) == "none"
    with pytest.raises(PseError, match="is no embedding model"):
        kind.check(Output(wavs=torch.zeros(1, 1, 9)), options, [1], "here")
    with pytest.raises(PseError, match="has masks or waveforms"):
        kind.check(Output(embeddings=frames.embeddings, wavs=torch.zeros(1, 2, 9)), options, [1], "here")
    with pytest.raises(PseError, match="learns from single speakers"):
        kind.check(frames, options, [1, 2], "here")
    kind.check_model(net("blstm", kind), options, "here")
    with pytest.raises(PseError, match=f"set head_size: {HEADS[kind]}"):
        kind.check_model(build(NETS["raw"], "here"), options, "here")
    with pytest.raises(PseError, match="node_bins: 0"):
        kind.check_model(build(NETS["blstm"] | {"node_bins": 1}, "here"), options, "here")
    with pytest.raises(PseError, match="no mixtures to separate"):
        make(voices, kind).separated(nn.Identity(), None)
    for wrong in ({"share": 1.0}, {"stretch_frames": 0}, {"temperature": 0.0}, {"steps_frames": [0]},
                  {"nodes_per_example": 0}, {"threshold_db": 1.0}):  # fmt: skip
        if set(wrong) <= {f.name for f in dataclasses.fields(kind.Options)}:
            with pytest.raises(PseError):
                bind(kind.Options, wrong, "here")


def test_a_segment_too_short_for_a_stretch_is_told() -> None:
    with pytest.raises(PseError, match="no room for a hidden stretch"):
        hide(torch.randn(1, 600), net("raw", MaskedReconstruction).transform, torch.zeros(1, dtype=torch.long), 0.3, 10)


def test_a_head_needs_embeddings() -> None:
    with pytest.raises(PseError, match="head_size"):
        build({"name": "blstm_embedding", "embedding_size": 0, "num_masks": 2, "head_size": 3}, "here")
