"""Contrastive training: which nodes are compared, by which labels, and what validation says of good and poor ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pse.config import bind
from pse.data.cache import MemoryCache
from pse.data.collate import Batch
from pse.data.conditions import Conditions
from pse.data.mixture import Crop, MixtureSpec
from pse.data.segments import FixedSampler
from pse.data.speech import Voices
from pse.data.speech_mixture import SpeakerSampler
from pse.dsp.stft import STFT
from pse.errors import PseError
from pse.losses.activity import dominant_source
from pse.models.base import Output, build
from pse.models.nodes import pooled
from pse.training.objectives.contrast import draw
from pse.training.objectives.contrastive import Contrastive, Options
from tests.speech_toy import toy_voices

NET = {"name": "blstm_embedding", "hidden_size": 16, "num_layers": 1, "embedding_size": 6}
FRAMES = {"name": "frame_encoder", "num_layers": 3, "channels": 16, "embedding_size": 8, "projection_size": 4}
# As deep as it takes to leave one step: the mean over several does not tell where in a column a tone is.
COLUMNS = {**FRAMES, "input": "log_magnitude", "context": 1, "num_layers": 5}
NETS = [NET, NET | {"node_bins": 4, "node_frames": 3}, NET | {"node_bins": 0}, FRAMES, COLUMNS]


@pytest.fixture(scope="module")
def voices() -> Voices:
    return toy_voices()


def make(voices: Voices, num_speakers: tuple[int, ...] = (2,), num_valid: int = 2, **options: object) -> Contrastive:
    sampler = SpeakerSampler(voices, 3000, 0, "train", num_speakers)
    fixed = SpeakerSampler(voices, 8000, 1, "valid", num_speakers)
    valid = [(fixed.spec(n), fixed.scene(n)) for n in range(num_valid)]
    return Contrastive(sampler, valid, bind(Options, options, "test"))


class Ideal(nn.Module):
    """Embeddings of nodes by their loudest source; a share `wrong` of them is the next source's."""

    slots = 0

    def __init__(self, sources: Tensor, shape: tuple[int, int] = (1, 1), wrong: float = 0.0) -> None:
        super().__init__()
        self.transform, self.sources, self.node_shape, self.wrong = STFT(256, 64, "sqrt_hann"), sources, shape, wrong

    def forward(self, mix: Tensor) -> Output:
        spectra = self.transform.stft(self.sources.flatten(0, 1)).unflatten(0, self.sources.shape[:2])
        ideal = dominant_source(pooled(spectra.abs().square(), self.node_shape)).permute(0, 2, 3, 1)
        flipped = torch.rand(ideal.shape[:3], generator=torch.Generator().manual_seed(0)) < self.wrong
        return Output(embeddings=torch.where(flipped.unsqueeze(-1), ideal.roll(1, -1), ideal))


@pytest.mark.parametrize("shape", [(1, 1), (4, 2)])
def test_ideal_embeddings_have_the_least_loss_and_separate_better_than_faulty_ones(voices, shape) -> None:
    objective, gains, losses = make(voices, (2, 3), scope="mixture", loss="nt_xent"), [], []
    for wrong in (0.0, 0.2, 0.5):
        batches = list(objective.valid_batches())
        found = [objective.validate(Ideal(b["sources"], shape, wrong), b) for b in batches]
        gains.append(sum(f["si_sdr_i_db"].item() for f in found) / len(found))
        losses.append(sum(f["loss"].item() for f in found) / len(found))
    assert objective.headline == "si_sdr_i_db" and objective.larger_is_better
    assert gains[0] > gains[1] + 3 > gains[2] + 3 and (gains[0] > 10 or shape != (1, 1))
    # Of 64 nodes, at a temperature of 0.1: log(1 + 63 exp(-10)) at most.
    assert losses[0] < 0.003 < losses[1] < losses[2]


@pytest.mark.parametrize("net", NETS)
def test_labels_are_the_loudest_speakers_of_nodes_that_are_active(voices, net: dict[str, object]) -> None:
    objective, model = make(voices, (2, 3), margin_db=1.0), build(net, "test")
    batch = objective.batch(range(5))
    drawn = objective._drawn(model, batch, 20)
    cache = objective.sampler.voices.cache
    names, utts = sorted(set(cache.speaker.values())), sorted(cache.ids)
    spectra = model.transform.stft(batch["sources"].flatten(0, 1)).unflatten(0, batch["sources"].shape[:2])
    sizes = pooled(spectra.abs().square(), model.node_shape)
    for row in range(5):
        spec = objective.sampler.spec(row)
        places = [int(p) for p, there in zip(drawn.places[row], drawn.there[row], strict=True) if there]
        assert len(places) == len(set(places)) > 0
        for q, place in enumerate(drawn.places[row].tolist()):
            if not drawn.there[row, q]:
                continue
            column, node = divmod(place, sizes.shape[2])
            heard = sizes[row, :, node, column]
            crop = spec.sources[int(heard.argmax())]
            assert names[drawn.labels[row, q]] == cache.speaker[crop.utt]
            assert utts[drawn.recordings[row, q]] == crop.utt
            step = model.node_shape[1] * model.transform.hop
            assert drawn.starts_samples[row, q] == crop.start_samples + column * step
            first, second = heard.sort(descending=True).values[:2]
            assert first >= 10**0.1 * second * (1 - 1e-5) and first > 0


def test_a_node_is_who_speaks_there_and_starts_where_he_is_in_his_recording(voices) -> None:
    spec = MixtureSpec("one-after-the-other", 8000, 0, (
        Crop("s1u0", 500, 0.0, 0, 3000), Crop("s0u1", 700, 0.0, 5000, 3000)))  # fmt: skip
    objective = Contrastive(FixedSampler(voices, [spec], 8000, 0, "train"), [], Options(threshold_db=-30.0))
    drawn = objective._drawn(build(FRAMES, "test"), objective.batch([0]), 1000)
    frames, there = drawn.places[0], drawn.there[0]
    first, second = there & (frames <= 46), there & (frames >= 79)
    assert first.sum() > 20 < second.sum() and not (there & ~first & ~second & (frames > 48) & (frames < 77)).any()
    assert (drawn.labels[0, first] == 1).all() and (drawn.labels[0, second] == 0).all()
    assert torch.equal(drawn.starts_samples[0, first], 500 + 64 * frames[first])
    assert torch.equal(drawn.starts_samples[0, second], 700 - 5000 + 64 * frames[second])


def test_what_is_quiet_in_the_recording_is_no_node_however_loud_it_is_in_the_crop(voices) -> None:
    objective, model = make(voices), build(FRAMES, "test")
    batch = objective.batch(range(4))
    assert objective._drawn(model, batch, 1000).there.any()
    quiet = Batch({**batch.tensors, "louder_frame": batch["louder_frame"] * 1e6}, batch.ids)
    assert not objective._drawn(model, quiet, 1000).there.any()
    assert objective.loss(model, quiet).total == 0


def test_nodes_are_drawn_alike_and_each_at_most_once() -> None:
    active = torch.zeros(200, 12, dtype=torch.bool)
    active[:, 2:10] = True
    active[0, 4:] = False
    places, there = draw(active, torch.arange(200), 4)
    assert there[1:].all() and sorted(places[0, there[0]].tolist()) == [2, 3]
    assert all(len(set(row.tolist())) == 4 for row in places[1:])
    counts = torch.bincount(places[1:].flatten(), minlength=12)
    assert counts[[0, 1, 10, 11]].sum() == 0 and counts[2:10].min() > 60


def test_the_gradient_by_chunks_is_that_of_the_whole_batch(voices) -> None:
    for net in (NET, FRAMES):
        gradients = []
        for chunk in (0, 1, 3):
            torch.manual_seed(0)
            objective, model = make(voices, chunk=chunk), build(net, "test").double()
            batch = objective.batch(range(5))
            batch = Batch({k: v.double() if v.is_floating_point() else v for k, v in batch.tensors.items()}, batch.ids)
            objective.loss(model, batch).total.backward()
            gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        assert gradients[0].abs().max() > 0
        assert all(torch.allclose(g, gradients[0], rtol=1e-9, atol=1e-12) for g in gradients[1:])


def test_chunks_keep_no_more_for_the_gradient_however_many_examples_there_are(voices) -> None:
    kept = {}
    for chunk in (0, 1):
        for size in (2, 6):
            objective, model, total = make(voices, chunk=chunk, nodes_per_example=4), build(NET, "test"), 0

            def count(x: Tensor) -> Tensor:
                nonlocal total
                total += x.numel()
                return x

            batch = objective.batch(range(size))
            with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
                objective.loss(model, batch)
            kept[chunk, size] = total
    assert kept[0, 6] > 2.5 * kept[0, 2] and kept[1, 6] < kept[0, 2] / 4


def test_frames_that_share_samples_are_never_compared(voices) -> None:
    # One recording of one speaker: its frames are all there is, and those nearby are no positives.
    sampler = SpeakerSampler(voices, 4000, 0, "train", (1,))
    spec = sampler.spec(0)
    model = build(FRAMES, "test")
    for apart, alone in ((0, False), (4096, True)):
        options = Options(nodes_per_example=8, min_apart_samples=apart)
        objective = Contrastive(FixedSampler(voices, [spec], 4000, 0, "train"), [], options)
        assert (objective.loss(model, objective.batch([0])).total == 0) == alone


def test_a_crop_of_another_example_shares_samples_too(voices) -> None:
    crops = [MixtureSpec(f"m{n}", 4000, 0, (Crop("s0u0", 1000 + 32 * n),)) for n in range(2)]
    sampler = FixedSampler(voices, crops, 4000, 0, "train")
    objective = Contrastive(sampler, [], Options(nodes_per_example=100, min_apart_samples=4096))
    batch = objective.batch(range(2))
    assert sorted(batch["starts"][:, 0].tolist()) == [1000, 1032] and len(set(batch["seeds"].tolist())) == 2
    assert objective.loss(build(FRAMES, "test"), batch).total == 0


def test_a_resumed_run_draws_the_same_nodes(voices) -> None:
    model = build(NET, "test")
    objective, again = make(voices, (1, 2, 3)), make(voices, (1, 2, 3))
    batch, resumed = objective.batch(range(8)), again.batch(range(4, 8))
    count = resumed["sources"].shape[1]
    for name in resumed.tensors:
        mine = batch[name][4:, :count] if name in ("sources", "speakers", "starts") else batch[name][4:]
        assert name in ("louder", "louder_frame", "recordings") or torch.equal(mine, resumed[name])
    whole, part = objective._drawn(model, batch, 16), again._drawn(model, resumed, 16)
    assert all(torch.equal(x[4:], y) for x, y in zip(whole, part, strict=True))
    assert not torch.equal(whole.places[0], whole.places[1])


@pytest.mark.parametrize(
    ("net", "scope"), [(NETS[0], "mixture"), (NETS[1], "batch"), (NETS[2], "batch"), (COLUMNS, "mixture")]
)
def test_a_few_steps_lower_the_loss(voices, net: dict[str, object], scope: str) -> None:
    torch.manual_seed(0)
    numbers = (2,) if scope == "mixture" else (1, 2)
    objective, model = make(voices, numbers, scope=scope, nodes_per_example=32), build(net, "test")
    optimizer, batch, losses = torch.optim.Adam(model.parameters(), 5e-3), objective.batch(range(4)), []
    values = model.log_magnitude(model.transform.stft(batch["mix"] / batch["mix"].std())).flatten(0, 1)
    model.set_statistics(values.mean(0), values.std(0))
    for _ in range(12):
        optimizer.zero_grad()
        loss = objective.loss(model, batch).total
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]
    for valid_batch in objective.valid_batches():
        found = objective.validate(model.eval(), valid_batch)
        assert found["loss"].shape == found["si_sdr_i_db"].shape == (1,)


def test_noise_and_rooms_train_too(voices) -> None:
    noise = MemoryCache({"n": 0.1 * np.random.default_rng(0).standard_normal(20000).astype(np.float32)}, "n", 8000)
    conditions = Conditions(overlap=(0.0, 0.5), noise_snr_db=(0.0, 5.0))
    sampler = SpeakerSampler(voices, 6000, 0, "train", (1, 2, 3), conditions=conditions, noise=noise)
    objective = Contrastive(sampler, [(sampler.spec(n), sampler.scene(n)) for n in range(6)], Options())
    assert objective.loss(build(NET, "test"), objective.batch(range(4))).total.isfinite()
    batch = objective.valid_batches()[0]
    assert objective.validate(build(NET, "test"), batch)["si_sdr_i_db"].isfinite().all()


def test_a_model_that_cannot_be_trained_so_is_refused_in_one_line() -> None:
    embeddings = torch.zeros(1, 3, 3, 2)
    Contrastive.check(Output(embeddings=embeddings), Options(), [1], "here")
    with pytest.raises(PseError, match="is no embedding model"):
        Contrastive.check(Output(wavs=torch.zeros(1, 1, 9)), Options(), [2], "here")
    with pytest.raises(PseError, match="has masks or waveforms"):
        Contrastive.check(Output(embeddings=embeddings, masks=torch.zeros(1, 2, 3, 3)), Options(), [2], "here")
    with pytest.raises(PseError, match="in which nobody else speaks"):
        Contrastive.check(Output(embeddings=embeddings), Options(scope="mixture"), [1], "here")
    for wrong in ({"temperature": 0.0}, {"nodes_per_example": 1}, {"margin_db": -1.0}, {"chunk": -1}, {"scope": "x"}):
        with pytest.raises(PseError):
            bind(Options, wrong, "here")


def test_single_speakers_need_who_they_are_and_mixtures_their_sources() -> None:
    assert Contrastive.labels(Options(), [1]) == "speaker identity"
    assert Contrastive.labels(Options(), [2]) == Contrastive.labels(Options(), [1, 2]) == "source signals"
