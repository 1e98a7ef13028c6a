"""Training an embedding model: its loss, its batches, and what validation says of ideal and poor embeddings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pse.config import read_yaml
from pse.data.collate import Batch
from pse.data.conditions import Conditions
from pse.data.mixture import Crop
from pse.data.scene import render_sources
from pse.data.segments import FixedSampler
from pse.data.speech_mixture import SpeakerSampler
from pse.dsp.stft import STFT
from pse.errors import PseError
from pse.losses.activity import dominant_source
from pse.models.base import Output, build, num_parameters
from pse.training.objectives.deep_clustering import DeepClustering, Options
from pse.training.objectives.mask_inference import MaskInference
from pse.training.objectives.mask_inference import Options as MaskOptions
from pse.training.objectives.separation import _gain_db, spectra_of
from tests.speech_toy import toy_voices

NET = {"name": "blstm_embedding", "hidden_size": 16, "num_layers": 1, "embedding_size": 6}


@pytest.fixture(scope="module")
def objective() -> DeepClustering:
    return _objective(Options())


def _objective(options: Options) -> DeepClustering:
    voices = toy_voices()
    sampler = SpeakerSampler(voices, 4000, 0, "train", (2, 3))
    fixed = [SpeakerSampler(voices, 8000, 1, "valid").spec(n) for n in range(3)]
    return DeepClustering(sampler, [(s, sampler.rendered(s)) for s in fixed], options)


class Ideal(nn.Module):
    """Embeddings that are the ideal masks, or (wrong: 1) of which a share of bins is the other speaker's."""

    def __init__(self, sources: torch.Tensor, wrong: float = 0.0) -> None:
        super().__init__()
        self.transform, self.sources, self.wrong = STFT(256, 64, "sqrt_hann"), sources, wrong

    def forward(self, mix: torch.Tensor) -> Output:
        spectra = self.transform.stft(self.sources.flatten(0, 1)).unflatten(0, self.sources.shape[:2])
        ideal = dominant_source(spectra.abs()).permute(0, 2, 3, 1)
        flipped = torch.rand(ideal.shape[:3], generator=torch.Generator().manual_seed(0)) < self.wrong
        return Output(embeddings=torch.where(flipped.unsqueeze(-1), ideal.flip(-1), ideal))


def test_batches_hold_mixtures_that_are_the_sum_of_their_sources(objective) -> None:
    batch = objective.batch(range(8))
    assert batch["sources"].shape == (8, 3, 4000)
    assert torch.allclose(batch["mix"], batch["sources"].sum(1), atol=1e-6)
    assert {int((x.abs().amax(1) > 0).sum()) for x in batch["sources"]} == {2, 3}
    again = objective.batch([6])
    assert torch.equal(again["mix"][0], batch["mix"][6])


@pytest.mark.parametrize("fixed", [False, True])
def test_clean_mixtures_are_bit_for_bit_the_sum_that_they_were_before_there_were_scenes(fixed: bool) -> None:
    voices = toy_voices()
    sampler = SpeakerSampler(voices, 4000, 0, "train", (2, 3, 4, 5))
    if fixed:
        short = [SpeakerSampler(voices, n, 1, "valid", (2, 3)).spec(n) for n in (3000, 3500, 9000)]
        sampler = FixedSampler(voices, short, 4000, 0, "train")
    batch, specs = DeepClustering(sampler, [], Options()).batch(range(12)), [sampler.spec(n) for n in range(12)]
    sources = torch.zeros(12, batch["sources"].shape[1], max(s.num_samples for s in specs))
    for row, spec in zip(sources, specs, strict=True):
        row[: len(spec.sources), : spec.num_samples] = torch.from_numpy(render_sources(spec, voices.cache))
    assert torch.equal(batch["sources"], sources)
    assert torch.equal(batch["mix"], sources.sum(1))


def test_under_noise_and_in_rooms_the_mixture_is_the_scenes() -> None:
    voices, noise = toy_voices(), toy_voices(2, 2, 9).cache
    conditions = Conditions(overlap=(0.3, 0.6), noise_snr_db=(0.0, 5.0))
    sampler = SpeakerSampler(voices, 4000, 0, "train", (1, 2), conditions=conditions, noise=noise)
    objective = DeepClustering(sampler, [(sampler.spec(n), sampler.scene(n)) for n in range(8)], Options())
    batch = objective.batch(range(4))
    for number, (mix, sources) in enumerate(zip(batch["mix"], batch["sources"], strict=True)):
        scene = sampler.scene(number)
        assert torch.equal(mix, torch.from_numpy(scene.mix))
        assert torch.equal(sources[: len(scene.sources)], torch.from_numpy(scene.sources))
        assert not torch.allclose(mix, sources.sum(0), atol=1e-3)
    assert objective.loss(build(NET, "test"), batch).total.isfinite()
    assert {len(b["sources"][0]) for b in objective.valid_batches()} == {2}
    assert 0 < len(objective.valid_batches()) < 8


def test_what_is_quiet_is_told_of_what_is_heard_of_a_recording() -> None:
    voices = toy_voices()
    objective = DeepClustering(SpeakerSampler(voices, 4000, 0, "train"), [], Options())
    utt, transform = voices.cache.ids[0], STFT(256, 64, "sqrt_hann")
    size = transform.stft(torch.from_numpy(voices.cache.read(utt).copy())[None])[0].abs()
    crop = Crop(utt, 640, -3.0, offset_samples=1000, num_samples=1280)
    heard = size[:, 10:31]
    expected = size.max() / heard.max(), (size.square().sum(0).max() / heard.square().sum(0).max()).sqrt()
    assert objective._louder(crop, 4000) == pytest.approx([x.item() for x in expected], rel=1e-5)
    assert objective._louder(replace(crop, num_samples=None), 2280) == pytest.approx([x.item() for x in expected])


def test_one_speaker_has_one_affinity_and_is_not_what_separation_is_validated_on() -> None:
    sampler = SpeakerSampler(toy_voices(), 4000, 0, "train", (1,))
    objective, ones = DeepClustering(sampler, [], Options()), torch.zeros(4, 129, 63, 3)
    batch = objective.batch(range(4))
    assert torch.equal(batch["mix"], batch["sources"][:, 0]) and batch["sources"].shape[1] == 1
    ones[..., 1] = 1.0
    assert objective._affinity_loss(spectra_of(Ideal(batch["sources"]), batch), ones).max() < 1e-6
    with pytest.raises(PseError, match="3 validation examples have one speaker each"):
        DeepClustering(sampler, [(sampler.spec(n), sampler.scene(n)) for n in range(3)], Options())


def test_estimates_that_are_left_over_do_not_lower_the_gain() -> None:
    batch = list(_objective(Options()).valid_batches())[0]
    mix, sources = batch["mix"][0], batch["sources"][0]
    noise = torch.randn_like(sources[:1])
    assert _gain_db(mix, sources, torch.cat([noise, sources.flip(0)])) == _gain_db(mix, sources, sources)


def test_the_ledger_tells_what_a_training_knows() -> None:
    assert DeepClustering.labels(Options(), [2]) == MaskInference.labels(MaskOptions(), [2]) == "source signals"


def test_what_is_quiet_is_told_by_the_whole_recording() -> None:
    voices = toy_voices()
    objective = DeepClustering(SpeakerSampler(voices, 2000, 0, "train"), [], Options())
    batch, transform = objective.batch(range(6)), STFT(256, 64, "sqrt_hann")
    assert batch["louder"].shape == (6, 2) and (batch["louder"] >= 1).all()
    spec, louder = objective.sampler.spec(3), batch["louder"][3]
    for source, found in zip(spec.sources, louder, strict=True):
        whole = transform.stft(torch.from_numpy(voices.cache.read(source.utt).copy())[None]).abs()
        first = source.start_samples // 64
        assert found.item() == pytest.approx(whole.max().item() / whole[..., first : first + 32].max().item())
    net, quieter = build(NET, "test"), {**batch.tensors, "louder": batch["louder"] * 1e6}
    by_crop = Batch({**batch.tensors, "louder": louder.new_ones(6, 2)}, batch.ids)
    assert objective.loss(net, batch).total != objective.loss(net, by_crop).total
    assert objective.loss(net, Batch(quieter, batch.ids)).total == 0


def test_ideal_embeddings_have_no_loss_and_separate_better_than_faulty_ones(objective) -> None:
    gains = []
    for wrong in (0.0, 0.2, 0.5):
        batches = list(objective.valid_batches())
        found = [objective.validate(Ideal(batch["sources"], wrong), batch) for batch in batches]
        gains.append(sum(f["si_sdr_i_db"].item() for f in found) / len(found))
        if not wrong:
            assert max(f["loss"].item() for f in found) < 1e-5
    assert gains[0] > 10 and gains[0] > gains[1] + 3 > gains[2] + 3


@pytest.mark.parametrize("name", ["paper", "unweighted", "magnitude", "manifold", "whitened"])
def test_every_loss_falls_when_a_net_is_trained_by_it(name: str) -> None:
    torch.manual_seed(0)
    objective, net = _objective(Options(loss=name)), build(NET, "test")
    optimizer, batch, losses = torch.optim.Adam(net.parameters(), 1e-2), objective.batch(range(4)), []
    for _ in range(15):
        optimizer.zero_grad()
        loss = objective.loss(net, batch).total
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_a_mask_head_has_its_share_of_the_loss() -> None:
    torch.manual_seed(0)
    voices = toy_voices()
    objective = DeepClustering(SpeakerSampler(voices, 4000, 0, "train"), [], Options(mask_weight=0.975))
    found = objective.loss(build(NET | {"num_masks": 2}, "test"), objective.batch(range(4)))
    expected = 0.025 * found.parts["affinity"] + 0.975 * found.parts["mask"]
    assert found.total.item() == pytest.approx(expected.item())


def test_a_model_that_cannot_be_trained_so_is_refused() -> None:
    embeddings = Output(embeddings=torch.zeros(1, 3, 3, 2))
    DeepClustering.check(embeddings, Options(), [2], "here")
    with pytest.raises(PseError, match="is no embedding model"):
        DeepClustering.check(Output(wavs=torch.zeros(1, 1, 9)), Options(), [2], "here")
    with pytest.raises(PseError, match="as many masks as speakers"):
        DeepClustering.check(embeddings, Options(mask_weight=0.5), [2], "here")
    with pytest.raises(PseError, match="has 2 masks, which mask_weight: 0 does not train"):
        chimera = Output(embeddings=embeddings.embeddings, masks=torch.zeros(1, 2, 3, 3))
        DeepClustering.check(chimera, Options(), [2], "here")


MASKS = NET | {"embedding_size": 0, "num_masks": 2}


@pytest.mark.parametrize(
    "options", [{}, {"assignment": "loudest"}, {"assignment": "fixed"}, {"target": "magnitude", "power": 2}]
)
def test_a_mask_net_learns_a_batch_by_heart(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    voices = toy_voices()
    fixed = [SpeakerSampler(voices, 8000, 1, "valid").spec(n) for n in range(2)]
    sampler = SpeakerSampler(voices, 4000, 0, "train")
    objective = MaskInference(sampler, [(s, sampler.rendered(s)) for s in fixed], MaskOptions(**options))
    net, batch, losses = build(MASKS, "test"), objective.batch(range(4)), []
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        loss = objective.loss(net, batch).total
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert len(objective.valid_batches()) == 2
    for valid_batch in objective.valid_batches():
        found = objective.validate(net, valid_batch)
        assert found["loss"].shape == found["si_sdr_i_db"].shape == (1,)
    assert net(batch["mix"]).embeddings is None


def test_a_mask_net_has_a_mask_for_each_speaker() -> None:
    masks = Output(masks=torch.zeros(1, 2, 3, 3))
    MaskInference.check(masks, MaskOptions(), [2], "here")
    with pytest.raises(PseError, match="is trained on mixtures of 3 speakers with 2 masks"):
        MaskInference.check(masks, MaskOptions(), [3], "here")


def test_input_noise_is_for_training_only() -> None:
    torch.manual_seed(0)
    net, mix = build(NET | {"input_noise": 0.6}, "test"), torch.randn(1, 4000)
    first, second = net(mix).embeddings, net(mix).embeddings
    assert not torch.allclose(first, second)
    net.eval()
    assert torch.equal(net(mix).embeddings, net(mix).embeddings)


def test_the_papers_net_has_the_papers_size() -> None:
    path = Path(__file__).resolve().parents[2] / "egs" / "wsj0_2mix_dc" / "conf" / "models" / "blstm_2x600.yaml"
    assert num_parameters(build(read_yaml(path), path)) == pytest.approx(18.36e6, rel=1e-3)
