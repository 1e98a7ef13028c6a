"""Training slots: which slot of a frame is for whom, and what ideal ones separate."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pse.config import bind
from pse.data.speech import Voices
from pse.data.speech_mixture import SpeakerSampler
from pse.dsp.stft import STFT
from pse.errors import PseError
from pse.losses.mask_inference import targets
from pse.models.base import Output, build
from pse.training.objectives.separation import spectra_of
from pse.training.objectives.slots import Options, Slots, slot_loss
from tests.speech_toy import toy_voices

NET = {
    "name": "slot_encoder", "net": {"name": "blstm_embedding", "hidden_size": 16, "num_layers": 1},
    "embedding_size": 6,
}  # fmt: skip


@pytest.fixture(scope="module")
def voices() -> Voices:
    return toy_voices()


def make(voices: Voices, num_speakers: tuple[int, ...] = (2,), **options: object) -> Slots:
    sampler, fixed = (SpeakerSampler(voices, n, 0, s, num_speakers) for n, s in ((3000, "train"), (8000, "valid")))
    valid = [(fixed.spec(n), fixed.scene(n)) for n in range(2)] if max(num_speakers) > 1 else []
    return Slots(sampler, valid, bind(Options, options, "test"))


class Ideal(nn.Module):
    """Slots in another order in every frame, with the best masks and a vector of the source's own."""

    node_shape = (129, 1)

    def __init__(self, sources: Tensor, mixed_up: float = 0.0) -> None:
        super().__init__()
        self.transform, self.sources, self.slots, self.mixed_up = STFT(256, 64, "sqrt_hann"), sources, 2, mixed_up

    def forward(self, mix: Tensor) -> Output:
        generator, spectrum = torch.Generator().manual_seed(0), self.transform.stft(mix)
        spectra = self.transform.stft(self.sources.flatten(0, 1)).unflatten(0, self.sources.shape[:2])
        masks = targets(spectrum, spectra, "phase_sensitive") / spectrum.abs().unsqueeze(1).clamp_min(1e-9)
        vectors = torch.eye(2)[None, :, None].expand(len(mix), -1, masks.shape[-1], -1)
        wrong = torch.rand(masks.shape[-1], generator=generator) < self.mixed_up
        vectors = torch.where(wrong[:, None], vectors.flip(1), vectors)
        turned = torch.rand(masks.shape[-1], generator=generator) < 0.5
        return Output(
            masks=torch.where(turned, masks.flip(1), masks),
            embeddings=torch.where(turned[:, None], vectors.flip(1), vectors),
        )


def test_ideal_slots_have_the_least_loss_and_separate_better_than_mixed_up_ones(voices) -> None:
    objective, losses, gains = make(voices, scope="mixture", loss="nt_xent"), [], []
    for mixed_up in (0.0, 0.2, 0.5):
        found = [objective.validate(Ideal(b["sources"], mixed_up), b) for b in objective.valid_batches()]
        losses.append(sum(f["loss"].item() for f in found) / 2)
        gains.append(sum(f["si_sdr_i_db"].item() for f in found) / 2)
    assert losses[0] < 0.001 < losses[1] < losses[2]
    assert gains[0] > 10 and gains[0] > gains[1] + 3 > gains[2]
    batch = objective.batch(range(3))
    parts = objective.loss(Ideal(batch["sources"]), batch).parts
    assert parts["mask"] < 1e-6


def test_every_frame_has_the_order_of_least_error() -> None:
    torch.manual_seed(0)
    mixture, wanted = torch.ones(2, 5, 7, dtype=torch.complex64), torch.rand(2, 3, 5, 7)
    orders = torch.stack([torch.randperm(3) for _ in range(14)], 1).view(3, 2, 7).transpose(0, 1)
    masks = torch.zeros_like(wanted).scatter(1, orders.unsqueeze(2).expand(-1, -1, 5, -1), wanted)
    loss, slots = slot_loss(masks, mixture, wanted)
    assert loss.max() < 1e-6 and torch.equal(slots, orders)
    worse, again = slot_loss(masks + 0.01, mixture, wanted)
    assert torch.allclose(worse, torch.full((2,), 0.01), atol=1e-5) and torch.equal(again, orders)


def test_of_more_sources_than_slots_the_loudest_of_each_frame_count(voices) -> None:
    objective, batch = make(voices, (4,)), make(voices, (4,)).batch(range(3))
    spectra = spectra_of(Ideal(batch["sources"]), batch)
    wanted, sources, _ = objective._wanted(batch, spectra, 2)
    power = spectra[:, 1:].abs().square().sum(2)
    assert torch.equal(sources.sort(1).values, power.topk(2, dim=1).indices.sort(1).values)
    every = targets(spectra[:, 0], spectra[:, 1:], "phase_sensitive")
    for row, slot, frame in ((0, 0, 3), (1, 1, 20), (2, 0, 40)):
        assert torch.equal(wanted[row, slot, :, frame], every[row, sources[row, slot, frame], :, frame])


def test_slots_without_a_source_are_to_be_silent_and_are_compared_with_nothing(voices) -> None:
    objective = make(voices, (1,))
    batch = objective.batch(range(3))
    wanted, _, active = objective._wanted(batch, spectra_of(Ideal(batch["sources"]), batch), 3)
    assert wanted.shape[1] == 3 and wanted.sum((2, 3)).gt(0).sum(1).tolist() == [1, 1, 1]
    assert (active.sum(1) <= 1).all() and active.any()
    assert objective.loss(build(NET, "test"), batch).total.isfinite()


def test_a_slots_label_is_the_speaker_whom_its_mask_is_for(voices) -> None:
    # Ideal masks, and vectors that are the masks' own: alike labels mean alike vectors, in whichever slot.
    objective = make(voices, scope="batch", nodes_per_example=40, min_apart_samples=256, loss="nt_xent")
    batch = objective.batch([0])
    ideal, turned = Ideal(batch["sources"]), Ideal(batch["sources"], 1.0)
    assert objective.loss(ideal, batch).parts["contrast"] < 0.01
    # All vectors with each other's: labels still part them. Half of them: no longer.
    assert objective.loss(turned, batch).parts["contrast"] < 0.01
    assert objective.loss(Ideal(batch["sources"], 0.5), batch).parts["contrast"] > 1


@pytest.mark.parametrize(("num_speakers", "scope"), [((2,), "mixture"), ((1, 2, 3), "batch")])
def test_a_few_steps_lower_both_losses(voices, num_speakers: tuple[int, ...], scope: str) -> None:
    torch.manual_seed(0)
    objective, model, found = make(voices, num_speakers, scope=scope), build(NET, "test"), []
    optimizer, batch = torch.optim.Adam(model.parameters(), 1e-2), objective.batch(range(4))
    for _ in range(15):
        optimizer.zero_grad()
        found.append(objective.loss(model, batch))
        found[-1].total.backward()
        optimizer.step()
    for name in ("mask", "contrast"):
        assert found[-1].parts[name] < found[0].parts[name]
    alone = make(voices, num_speakers, contrast_weight=0.0).loss(model, batch)
    assert not alone.parts and alone.total == objective.loss(model, batch).parts["mask"]


def test_a_model_without_slots_is_refused() -> None:
    vectors = torch.zeros(1, 2, 3, 2)
    Slots.check(Output(embeddings=vectors, masks=torch.zeros(1, 2, 5, 3)), Options(), [1, 2, 3], "here")
    for out in (Output(embeddings=vectors), Output(embeddings=vectors, masks=torch.zeros(1, 3, 5, 3))):
        with pytest.raises(PseError, match="has no slots with masks"):
            Slots.check(out, Options(), [2], "here")
    with pytest.raises(PseError, match="contrast_weight must not be negative"):
        bind(Options, {"contrast_weight": -1.0}, "here")
    assert Slots.labels(Options(), [1]) == "source signals"
