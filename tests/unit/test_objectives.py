"""Objectives: which target, which weights, and that what is said to be a function of the number is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pse.config import bind
from pse.data.cache import MemoryCache
from pse.data.mixture import Mixture, MixtureSampler, MixtureSpec, Sources
from pse.dsp.snr import frame_energy, frame_snr_db
from pse.errors import PseError
from pse.losses.purification import frames_to_samples
from pse.models.base import Output
from pse.registry import find, names
from pse.training.objectives import pseudo_se, snr_regression
from pse.training.objectives.enhancement import Enhancement

T = 8192


def cache(seed: int, level: float = 0.1) -> MemoryCache:
    rng = np.random.default_rng(seed)
    return MemoryCache({f"u{i}": level * rng.standard_normal(20000).astype(np.float32) for i in range(3)}, "s", 16000)


def sampler() -> MixtureSampler:
    return MixtureSampler(Sources(cache(0), cache(1), cache(2)), ["u0", "u1"], T, 0, "t", (-5, 5), (0, 15))


def fixed() -> list[tuple[MixtureSpec, Mixture]]:
    return [(sampler().spec(i), sampler().render(i)) for i in range(5)]


def make(name: str, helper: nn.Module | None = None, **options: object) -> Enhancement:
    plugin = find("objective", name)
    return plugin(sampler(), fixed(), bind(plugin.Options, options, "x"), helper)


class Passing(nn.Module):
    """A model that returns its input, scaled by a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, mix: Tensor) -> Output:
        return Output(wavs=self.gain * mix[:, None], frame_snr_db=self.gain * torch.zeros(len(mix), 1 + T // 256))


def test_the_ways_of_training_are_found_by_name() -> None:
    of_speech = "contrastive_mixtures distillation pseudo_se snr_regression supervised"
    of_mixtures = "contrastive deep_clustering mask_inference masked_reconstruction predictive_coding refinement slots"
    assert names("objective") == sorted((of_speech + " " + of_mixtures).split())


def test_supervised_aims_at_speech_and_pseudo_se_at_the_noisy_recording() -> None:
    clean, pseudo = make("supervised").batch(range(3)), make("pseudo_se").batch(range(3))
    for row, number in enumerate(range(3)):
        mixture = sampler().render(number)
        np.testing.assert_array_equal(clean["target"][row], mixture.speech)
        np.testing.assert_array_equal(pseudo["target"][row], mixture.premixture)
        np.testing.assert_array_equal(pseudo["mix"][row], mixture.mix)


def test_a_batch_depends_on_the_numbers_alone() -> None:
    objective = make("pseudo_se")
    whole, parts = objective.batch(range(4)), [objective.batch([n]) for n in (3, 1, 0, 2)]
    for number, part in zip((3, 1, 0, 2), parts, strict=True):
        assert torch.equal(whole["mix"][number], part["mix"][0])
    assert len(whole) == 4 and len(set(whole.ids)) == 4


def test_validation_reports_the_gain_over_doing_nothing() -> None:
    objective = make("supervised")
    batches = list(objective.valid_batches())
    assert sum(len(b) for b in batches) == 5
    found = objective.validate(Passing(), batches[0])
    assert torch.allclose(found["si_sdr_i_db"], torch.zeros(5), atol=1e-4)
    assert objective.headline in found and "loss" in found


def test_oracle_weights_follow_the_true_frame_snr() -> None:
    objective = make("pseudo_se", purification="oracle", weigh="loss", slope=0.5, offset_db=3.0)
    batch = objective.batch(range(2))
    weights = objective.weights(batch)
    truth = frame_snr_db(batch["speech"], batch["premixture_noise"])
    assert torch.allclose(weights, torch.sigmoid(0.5 * (truth - 3.0)))
    assert make("pseudo_se").weights(batch) is None


@pytest.mark.parametrize("domain", ["whole", "segmental"])
def test_frames_without_weight_do_not_train_the_model(domain: str) -> None:
    class Gate(nn.Module):
        """Trusts the first half of the frames only."""

        def forward(self, mix: Tensor) -> Output:
            snr = torch.full((len(mix), 1 + T // 256), -100.0)
            snr[:, : (1 + T // 256) // 2] = 100.0
            return Output(frame_snr_db=snr)

    objective = make("pseudo_se", Gate(), purification="predictor", weigh="loss", domain=domain)
    batch = objective.batch(range(2))
    estimate = batch["mix"].clone().requires_grad_()
    objective.waveform_loss(estimate, batch["target"], objective.weights(batch)).sum().backward()
    assert estimate.grad[:, : T // 4].abs().max() > 0
    assert estimate.grad[:, -T // 4 :].abs().max() < 1e-6


def test_a_purified_target_fades_where_it_is_noise() -> None:
    objective = make("pseudo_se", purification="oracle")
    batch = objective.batch(range(3))
    assert objective.weights(batch) is None
    target = objective.target(batch)
    gain = frames_to_samples(1 / (1 + 10 ** (-frame_snr_db(batch["speech"], batch["premixture_noise"]) / 10)), 256, T)
    assert torch.allclose(target, gain * batch["target"], atol=1e-6)
    assert torch.equal(make("pseudo_se").target(batch), batch["target"])


@pytest.mark.parametrize("domain", ["whole", "segmental"])
@pytest.mark.parametrize("preset", ["paper", "robust"])
def test_unnormalised_weights_scale_the_loss_by_how_much_is_usable(domain: str, preset: str) -> None:
    weighted = {"purification": "oracle", "weigh": "loss", "domain": domain, "preset": preset}
    batch = make("pseudo_se").batch(range(3))
    relative, absolute = (make("pseudo_se", normalise=n, **weighted) for n in (True, False))
    weights, estimate = relative.weights(batch), 0.5 * batch["mix"]
    share = weights.mean(-1) if domain == "segmental" else frames_to_samples(weights, 256, T).mean(-1)
    want = share * relative.waveform_loss(estimate, batch["target"], weights)
    assert torch.allclose(absolute.waveform_loss(estimate, batch["target"], weights), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("domain", ["whole", "segmental"])
@pytest.mark.parametrize("weigh", ["loss", "target"])
def test_true_weights_reward_clean_speech_more_than_wrong_ones_do(domain: str, weigh: str) -> None:
    """Weights of the loss: that of the clean estimate. Weights of the target: how far it is from clean speech."""

    class Wrong(nn.Module):
        def forward(self, mix: Tensor) -> Output:
            return Output(frame_snr_db=-frame_snr_db(batch["speech"], batch["premixture_noise"]))

    batch = make("pseudo_se").batch(range(6))
    losses = {}
    for name, objective in {
        "oracle": make("pseudo_se", purification="oracle", domain=domain, weigh=weigh),
        "wrong": make("pseudo_se", Wrong(), purification="predictor", domain=domain, weigh=weigh),
        "none": make("pseudo_se", domain=domain),
    }.items():
        target = objective.target(batch)
        pair = (batch["speech"], target) if weigh == "loss" else (target, batch["speech"])
        losses[name] = objective.waveform_loss(*pair, objective.weights(batch)).mean()
    assert losses["oracle"] < losses["none"] < losses["wrong"]


@pytest.mark.parametrize("hears", ["mixture", "recording"])
def test_the_estimate_of_the_teacher_is_the_target(hears: str) -> None:
    teacher = Passing()
    teacher.gain.data.fill_(0.5)
    objective = make("distillation", teacher, hears=hears, teacher="generalist")
    batch = objective.batch(range(2))
    rendered = [sampler().render(n) for n in range(2)]
    for row, mixture in enumerate(rendered):
        np.testing.assert_allclose(objective.target(batch)[row], 0.5 * mixture.premixture, rtol=1e-6)
        heard = mixture.mix if hears == "mixture" else mixture.premixture
        np.testing.assert_array_equal(batch["mix"][row], heard)
    assert objective.modules() == [teacher] and not objective.target(batch).requires_grad
    assert next(iter(objective.valid_batches()))["mix"].shape == (5, T)


def test_asking_a_predictor_that_is_not_there_is_refused() -> None:
    objective = make("pseudo_se", purification="predictor")
    with pytest.raises(PseError, match="snr_predictor.model"):
        objective.target(objective.batch([0]))
    with pytest.raises(PseError, match="did you mean 'purification'"):
        make("pseudo_se", purifikation="none")
    with pytest.raises(PseError, match="did you mean 'neg_snr'"):
        make("supervised", loss="negsnr")


def test_the_predictor_learns_from_the_premixture_alone() -> None:
    objective = snr_regression.SnrRegression(sampler(), fixed(), snr_regression.Options(clamp_db=30.0))
    batch = objective.batch(range(2))
    assert torch.allclose(batch["mix"], batch["speech"] + batch["noise"], atol=1e-6)
    truth = frame_snr_db(batch["speech"], batch["noise"], clamp_db=30.0)
    assert objective.loss(Passing(), batch).total.item() == pytest.approx(float(truth.square().mean()), rel=1e-5)
    found = objective.validate(Passing(), batch)
    assert torch.allclose(found["mae_db"], truth.abs().mean(-1))


def test_frame_snr_of_scaled_copies_is_the_scale() -> None:
    noise = torch.randn(2, T, generator=torch.Generator().manual_seed(0))
    wanted = torch.full((2, 1 + T // 256), 20 * np.log10(3.0))
    assert torch.allclose(frame_snr_db(3.0 * noise, noise), wanted, atol=1e-3)
    silent = frame_snr_db(torch.zeros(1, T), noise[:1])
    assert silent.isfinite().all() and (silent < -80).all()
    assert (frame_snr_db(torch.zeros(1, T), noise[:1], clamp_db=30.0) == -30.0).all()


def test_frame_energy_is_the_energy_of_hann_windowed_frames() -> None:
    signal = torch.randn(2, 5000, dtype=torch.float64)
    frames = signal.unfold(-1, 1024, 256) * torch.hann_window(1024, dtype=torch.float64)
    assert torch.allclose(frame_energy(signal.square(), 1024, 256), frames.square().sum(-1))


def test_weights_of_the_loss_have_the_published_slope() -> None:
    objective = make("pseudo_se", purification="oracle", weigh="loss")
    batch = objective.batch(range(2))
    truth = frame_snr_db(batch["speech"], batch["premixture_noise"])
    assert torch.allclose(objective.weights(batch), torch.sigmoid(truth))
    flat = make("pseudo_se", purification="oracle", weigh="loss", slope=0.0)
    assert torch.equal(flat.weights(batch), torch.full_like(truth, 0.5))
    assert pseudo_se.Options().purification == "none"
