"""Telling speakers by their embeddings: the equal error rate, and what it selects when there are no mixtures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pse.data.mixture import Crop, MixtureSpec
from pse.data.speech import Voices
from pse.data.speech_mixture import SpeakerSampler
from pse.models.base import build
from pse.scoring.verification import equal_error_rate
from pse.training.objectives.contrastive import Contrastive, Options
from tests.speech_toy import toy_voices

FRAMES = {"name": "frame_encoder", "num_layers": 3, "channels": 16, "embedding_size": 8, "projection_size": 4}
COLUMNS = {"name": "blstm_embedding", "hidden_size": 16, "num_layers": 1, "embedding_size": 6, "node_bins": 0}


@pytest.fixture(scope="module")
def voices() -> Voices:
    return toy_voices()


def make(voices: Voices, num_valid: int) -> Contrastive:
    sampler, fixed = (SpeakerSampler(voices, n, 0, s, (1,)) for n, s in ((3000, "train"), (8000, "valid")))
    valid = [(fixed.spec(n), fixed.scene(n)) for n in range(num_valid)]
    return Contrastive(sampler, valid, Options(nodes_per_example=16, min_apart_samples=256))


def test_the_equal_error_rate_of_known_pairs() -> None:
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert equal_error_rate(scores, torch.tensor([1, 1, 1, 0, 0, 0]).bool()) == 0
    assert equal_error_rate(scores, torch.tensor([0, 0, 0, 1, 1, 1]).bool()) == 100
    assert equal_error_rate(scores, torch.tensor([1, 1, 0, 1, 0, 0]).bool()) == pytest.approx(100 / 3)
    assert equal_error_rate(torch.zeros(6), torch.tensor([1, 1, 0, 0, 0, 0]).bool()) == pytest.approx(50)
    generator = torch.Generator().manual_seed(0)
    same = torch.arange(40000) < 10000
    apart = torch.randn(40000, generator=generator) + 2.0 * same
    # Two normal distributions two deviations apart: 1 - Phi(1).
    assert equal_error_rate(apart, same) == pytest.approx(15.87, abs=0.6)
    assert np.isnan(equal_error_rate(scores, torch.ones(6).bool()))


def test_a_frame_encoder_learns_single_speakers_and_its_equal_error_rate_falls(voices) -> None:
    torch.manual_seed(0)
    objective, model = make(voices, 12), build(FRAMES, "test")
    (valid,) = objective.valid_batches()
    assert (objective.headline, objective.larger_is_better, len(valid)) == ("eer", False, 12)
    before = objective.validate(model, valid)
    assert before["eer"].shape == (12,) and torch.equal(before["eer"], objective.validate(model, valid)["eer"])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(30):
        optimizer.zero_grad()
        objective.loss(model, objective.batch(range(16 * step, 16 * step + 16))).total.backward()
        optimizer.step()
    after = objective.validate(model, valid)
    assert after["eer"][0] < before["eer"][0] - 10 and after["loss"][0] < before["loss"][0]


def test_validation_recordings_are_heard_as_long_as_they_are(voices) -> None:
    specs = [MixtureSpec(f"v{n}", size, 0, (Crop(f"s{n}u0", 0),)) for n, size in enumerate((3000, 8000))]
    sampler, model = SpeakerSampler(voices, 4000, 0, "train", (1,)), build(COLUMNS, "test")
    heard = []
    model.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0].shape))
    objective = Contrastive(sampler, [(s, sampler.rendered(s)) for s in specs], Options())
    objective.validate(model, objective.valid_batches()[0])
    assert heard == [(1, 3000), (1, 8000)]


def test_only_the_loss_sees_the_projection(voices) -> None:
    objective, model = make(voices, 6), build(FRAMES, "test")
    before = objective.validate(model, objective.valid_batches()[0])
    nn.init.normal_(model.projection[2].weight)
    after = objective.validate(model, objective.valid_batches()[0])
    assert torch.equal(before["eer"], after["eer"]) and not torch.equal(before["loss"], after["loss"])
