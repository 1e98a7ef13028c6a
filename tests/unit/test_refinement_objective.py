"""Training on waveforms: which estimate is whose, what is free, and that a frozen net stays as it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pse.data.speech import Voices
from pse.data.speech_mixture import SpeakerSampler
from pse.errors import PseError
from pse.losses.snr import neg_si_sdr
from pse.models.base import Output, build
from pse.training.objectives.refinement import Options, Refinement
from tests.speech_toy import toy_voices

NET = {"name": "blstm_embedding", "hidden_size": 8, "num_layers": 1, "embedding_size": 4}
WHOLE = {
    "name": "cluster_refiner", "net": NET, "num_filters": 16, "bottleneck_channels": 8, "hidden_channels": 16,
    "skip_channels": 8, "num_blocks": 2, "num_repeats": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def voices() -> Voices:
    return toy_voices()


def make(voices: Voices, num_speakers: tuple[int, ...] = (2,), valid: int = 2) -> Refinement:
    sampler, fixed = (SpeakerSampler(voices, n, 0, s, num_speakers) for n, s in ((2000, "train"), (6000, "valid")))
    return Refinement(sampler, [(fixed.spec(n), fixed.scene(n)) for n in range(valid)], Options())


class Given(nn.Module):
    """A model that says what it is told."""

    def __init__(self, wavs: Tensor) -> None:
        super().__init__()
        self.wavs = wavs

    def forward(self, mix: Tensor) -> Output:
        return Output(wavs=self.wavs)


def test_sources_in_any_order_have_the_least_loss_and_the_full_gain(voices) -> None:
    objective = make(voices, (3,))
    for batch in objective.valid_batches():
        noise = torch.randn(batch["sources"].shape, generator=torch.Generator().manual_seed(0))
        found = []
        for order in ([0, 1, 2], [2, 0, 1]):
            for level in (0.0, 1e-4, 1e-2):
                wavs = batch["sources"][:, order] + level * noise
                found.append(objective.validate(Given(wavs), batch))
        losses, gains = ([f[k].item() for f in found] for k in ("loss", "si_sdr_i_db"))
        assert losses[0] == pytest.approx(losses[3]) and losses[0] < losses[1] < losses[2]
        assert gains[0] == pytest.approx(gains[3]) and gains[0] > gains[1] > gains[2]
        assert losses[0] < -70 and gains[0] > 70


def test_the_loss_is_the_mean_over_the_sources_that_are_heard(voices) -> None:
    objective = make(voices, (1, 2), 0)
    batch = objective.batch(range(8))
    counts = (batch["sources"].abs().amax(2) > 0).sum(1)
    assert set(counts.tolist()) == {1, 2}
    wavs = torch.randn(8, 2, 2000, generator=torch.Generator().manual_seed(0))
    for row, count in enumerate(counts.tolist()):
        sources = batch["sources"][row, :count]
        pairs = [[neg_si_sdr(w[None], s[None]).item() for s in sources] for w in wavs[row]]
        orders = [[a] for a in pairs[0] + pairs[1]] if count == 1 else [
            [pairs[0][0], pairs[1][1]], [pairs[0][1], pairs[1][0]]]  # fmt: skip
        expected = min(sum(x) / count for x in orders)
        mine = type(batch)({k: v[row : row + 1] for k, v in batch.tensors.items()}, batch.ids[row : row + 1])
        assert objective.loss(Given(wavs[row : row + 1]), mine).total.item() == pytest.approx(expected, abs=1e-4)


def test_an_estimate_that_is_left_over_is_free(voices) -> None:
    objective = make(voices, (1,), 0)
    batch = objective.batch(range(3))
    spare = torch.randn(3, 1, 2000, requires_grad=True)
    near = (batch["sources"] + 1e-3 * torch.randn(3, 1, 2000)).requires_grad_()
    objective.loss(Given(torch.cat([spare, near], 1)), batch).total.backward()
    assert spare.grad.abs().max() == 0 < near.grad.abs().max()


def test_a_few_steps_lower_the_loss_and_leave_the_net_inside_as_it_was(voices) -> None:
    torch.manual_seed(0)
    objective, model = make(voices), build(WHOLE, "test").train()
    frozen = [p.clone() for p in model.net.parameters()]
    optimizer, batch = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2), None
    batch, losses = objective.batch(range(4)), []
    for _ in range(12):
        optimizer.zero_grad()
        loss = objective.loss(model, batch).total
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5
    assert all(torch.equal(a, b) for a, b in zip(frozen, model.net.parameters(), strict=True))
    for valid_batch in objective.valid_batches():
        found = objective.validate(model.eval(), valid_batch)
        assert found["loss"].shape == found["si_sdr_i_db"].shape == (1,)


def test_too_few_waveforms_are_refused() -> None:
    two = Output(wavs=torch.zeros(1, 2, 9))
    Refinement.check(two, Options(), [1, 2], "here")
    with pytest.raises(PseError, match="mixtures of 2, 3 speakers with 2 waveforms"):
        Refinement.check(two, Options(), [2, 3], "here")
    with pytest.raises(PseError, match="with 0 waveforms"):
        Refinement.check(Output(embeddings=torch.zeros(1, 2, 3, 2)), Options(), [2], "here")
    assert Refinement.labels(Options(), [2]) == "source signals"
