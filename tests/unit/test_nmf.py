"""Laws of the sparse factorisation: descent, optimality, recovery, context, level, seeds, refusals."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor
from torch.nn import functional

from pse.baselines.base import Scene
from pse.baselines.nmf import NMFOptions, masks, next_activations, next_dictionary, objective, train_dictionary
from pse.config import bind
from pse.dsp.stft import STFT
from pse.errors import PseError
from pse.registry import find

K, F, R = 17, 60, 5
DIVERGENCES = ("kl", "euclidean")
SPARSITIES = (0.0, 0.05, 0.5, 5.0)


def _rand(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _train(magnitudes: list[Tensor], options: NMFOptions, seed: int = 0) -> Tensor:
    return train_dictionary(magnitudes, options, torch.Generator().manual_seed(seed))


def _small(**options: object) -> NMFOptions:
    return NMFOptions(**({"num_bases": R, "context_frames": 2, "iterations": 20, "mask_iterations": 20} | options))


def _problem(seed: int = 0, zeros: float = 0.2) -> tuple[Tensor, Tensor, Tensor]:
    """Frames [K, F] of which some numbers are 0, a dictionary [K, R] with columns of length 1, activations [R, F]."""
    frames = _rand(seed, K, F) * (_rand(seed + 1, K, F) > zeros)
    return frames, functional.normalize(_rand(seed + 2, K, R), dim=0), _rand(seed + 3, R, F)


def _steps(options: NMFOptions, count: int, seed: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Frames, dictionary and activations before the first step and after every one of either kind."""
    frames, dictionary, activations = _problem(seed)
    yield frames, dictionary, activations
    for _ in range(count):
        activations = next_activations(frames, dictionary, activations, options)
        yield frames, dictionary, activations
        dictionary, activations = next_dictionary(frames, dictionary, activations, options)
        yield frames, dictionary, activations


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_no_step_raises_the_objective_and_columns_keep_length_one(divergence: str, sparsity: float) -> None:
    options = _small(divergence=divergence, sparsity=sparsity)
    for seed in range(4):
        states = list(_steps(options, 60, seed))
        values = [objective(*state, options).item() for state in states]
        assert all(after <= before + 1e-9 * abs(before) for before, after in itertools.pairwise(values))
        assert values[-1] < 0.9 * values[0]
        assert torch.allclose(states[-1][1].norm(dim=0), torch.ones(R).double())


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_in_float32_the_objective_rises_by_no_more_than_rounding(divergence: str) -> None:
    options = _small(divergence=divergence, sparsity=0.5)
    frames, dictionary, activations = (x.float() for x in _problem())
    last = objective(frames, dictionary, activations, options)
    for _ in range(100):
        activations = next_activations(frames, dictionary, activations, options)
        dictionary, activations = next_dictionary(frames, dictionary, activations, options)
        value = objective(frames, dictionary, activations, options)
        assert value <= last * (1 + 1e-5)
        last = value


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("sparsity", [0.0, 0.2, 1.0])
def test_at_rest_what_is_not_zero_has_no_gradient_through_the_normalisation_of_the_columns(
    divergence: str, sparsity: float
) -> None:
    options = _small(divergence=divergence, sparsity=sparsity)
    *_, (frames, dictionary, activations) = _steps(options, 3000)
    dictionary.requires_grad_()
    activations.requires_grad_()
    objective(frames, functional.normalize(dictionary, dim=0), activations, options).backward()
    assert max((x * x.grad).abs().max().item() for x in (dictionary, activations)) < 0.01


def test_activations_become_those_of_non_negative_least_squares() -> None:
    frames, dictionary, activations = _problem(3)
    options = _small(divergence="euclidean", sparsity=0.0)
    for _ in range(5000):
        activations = next_activations(frames, dictionary, activations, options)
    for f in range(F):
        best = torch.from_numpy(nnls(dictionary.numpy(), frames[:, f].numpy())[0])
        assert torch.allclose(activations[:, f], best, atol=1e-3)


def test_a_single_spectrum_is_heard_as_much_as_the_formulas_say() -> None:
    frames, dictionary, _ = _problem(4)
    one, start = dictionary[:, :1], torch.ones(1, F).double()
    kl = next_activations(frames, one, start, _small(sparsity=2.0))
    assert torch.allclose(kl[0], frames.sum(0) / (one.sum() + 2), rtol=1e-6)
    euclidean = start
    for _ in range(50):
        euclidean = next_activations(frames, one, euclidean, _small(divergence="euclidean", sparsity=0.3))
    assert torch.allclose(euclidean[0], frames.T @ one[:, 0] - 0.3, rtol=1e-6)


def test_without_a_penalty_bringing_columns_to_length_one_leaves_lee_and_seung_s_model_as_it_is() -> None:
    frames, dictionary, activations = _problem(6, zeros=0)
    model, ones = dictionary @ activations, torch.ones(K, F).double()
    steps = {
        "kl": dictionary * ((frames / model) @ activations.T) / (ones @ activations.T),
        "euclidean": dictionary * (frames @ activations.T) / (model @ activations.T),
    }
    for divergence, spectra in steps.items():
        new, louder = next_dictionary(frames, dictionary, activations, _small(divergence=divergence, sparsity=0.0))
        assert torch.allclose(new @ louder, spectra @ activations, rtol=1e-6)


def _speakers(seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Two speakers with spectra in bins of their own, magnitudes [K, F] of each to train on, and others."""
    low = torch.zeros(K, 1, dtype=torch.float64)
    low[: K // 2] = 1
    seen, unseen = [], []
    for n, support in enumerate((low, 1 - low)):
        spectra = support * (0.1 + _rand(seed + n, K, 3))
        seen.append(spectra @ _rand(seed + n + 10, 3, 400))
        unseen.append(spectra @ _rand(seed + n + 20, 3, F))
    return seen, unseen


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("context", [1, 3])
def test_speakers_in_bins_of_their_own_are_separated_exactly(divergence: str, context: int) -> None:
    seen, unseen = _speakers()
    options = _small(divergence=divergence, context_frames=context, sparsity=0.0, iterations=100)
    found = masks(sum(unseen), [_train([x], options) for x in seen], options)
    for mask, source in zip(found, unseen, strict=True):
        assert torch.allclose(mask * sum(unseen), source, atol=1e-6)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_speakers_with_overlapping_spectra_are_told_apart_by_their_dictionaries(divergence: str) -> None:
    spectra = [_rand(n, K, 2).square() for n in range(2)]
    seen, unseen = ([w @ _rand(seed + n, 2, 300) for n, w in enumerate(spectra)] for seed in (5, 8))
    options = _small(
        divergence=divergence, num_bases=2, context_frames=1, sparsity=0.0, iterations=800, mask_iterations=800
    )
    found = masks(sum(unseen), [_train([x], options) for x in seen], options)
    for mask, source in zip(found, unseen, strict=True):
        assert (mask * sum(unseen) - source).square().mean() < 0.02 * source.square().mean()


def test_a_trained_dictionary_explains_other_speech_better_than_the_start_and_more_spectra_better_still() -> None:
    spectra = _rand(0, K, 8).pow(4)
    seen, unseen = spectra @ _rand(1, 8, 500).square(), spectra @ _rand(2, 8, 100).square()

    def left(**options: object) -> float:
        chosen = _small(context_frames=1, sparsity=0.0, **options)
        dictionary = _train([seen], chosen)
        activations = torch.ones(dictionary.shape[1], 100).double()
        for _ in range(300):
            activations = next_activations(unseen, dictionary, activations, chosen)
        return objective(unseen, dictionary, activations, chosen).item()

    untrained, few, many = left(num_bases=8, iterations=0), left(num_bases=3), left(num_bases=8, iterations=300)
    assert many < 0.2 * few < 0.2 * untrained


def test_the_penalty_makes_activations_sparser() -> None:
    def zeros(sparsity: float) -> float:
        *_, (_, _, activations) = _steps(_small(sparsity=sparsity), 300)
        return (activations < 1e-3 * activations.max()).double().mean().item()

    shares = [zeros(s) for s in (0.0, 0.5, 2.0)]
    assert shares == sorted(shares) and shares[-1] > shares[0] + 0.1


@pytest.mark.parametrize("context", [1, 2, 4])
def test_a_frame_stands_on_those_before_it_and_on_silence_at_the_start(context: int) -> None:
    magnitudes = [_rand(1, K, 6) + 0.1, _rand(2, K, 4) + 0.1]
    columns = []
    for m in magnitudes:
        for f in range(m.shape[1]):
            columns.append(torch.cat([m[:, f - c] if f >= c else torch.zeros(K) for c in range(context)]))
    stacked = torch.stack(columns, 1)
    # Stacked by hand there is nothing left to stack; the same seed draws the same frames and the same start.
    options = {"num_bases": 4, "sparsity": 0.1}
    ours = _train(magnitudes, _small(context_frames=context, **options))
    assert torch.allclose(ours, _train([stacked], _small(context_frames=1, **options)))


@pytest.mark.parametrize("context", [1, 3])
def test_only_the_last_frames_of_a_context_are_heard_in_a_frame_s_masks(context: int) -> None:
    mixture, changed = _rand(3, K, F), _rand(3, K, F)
    changed[:, 30] += 1
    options = _small(context_frames=context, sparsity=0.1, divergence="kl")
    dictionaries = [functional.normalize(_rand(n, context * K, R), dim=0) for n in range(2)]
    differs = (masks(mixture, dictionaries, options) - masks(changed, dictionaries, options)).abs().amax((0, 1)) > 1e-5
    assert differs.nonzero().flatten().tolist() == list(range(30, 30 + context))


def test_masks_are_ratios_of_the_current_frame_s_part_of_the_spectra() -> None:
    one, other = ((_rand(n, 3 * K, 1) + 0.1) for n in range(2))
    found = masks(_rand(3, K, F), [one, other], _small(context_frames=3, sparsity=0.1))
    ratios = found[0] / found[1] / (one[:K] / other[:K])
    assert torch.allclose(ratios, ratios[:1].expand(K, F), rtol=1e-6)


@pytest.mark.parametrize("num_speakers", [1, 2, 3])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_masks_sum_to_one_also_in_silence(num_speakers: int, divergence: str) -> None:
    mixture = _rand(0, K, F).float()
    mixture[:, 10:20], mixture[3] = 0, 0
    dictionaries = [_rand(n, 2 * K, R + n).float() for n in range(num_speakers)]
    for m in (mixture, torch.zeros(K, F)):
        found = masks(m, dictionaries, _small(divergence=divergence))
        assert found.shape == (num_speakers, K, F) and found.dtype == torch.float32
        assert found.min() >= 0 and torch.allclose(found.sum(0), torch.ones(K, F), atol=1e-6)
    assert torch.allclose(found, torch.tensor(1 / num_speakers))


def test_masks_follow_the_order_of_the_dictionaries() -> None:
    mixture, dictionaries = _rand(0, K, F), [_rand(n, 2 * K, R) for n in range(3)]
    found = masks(mixture, dictionaries, _small())
    assert torch.allclose(masks(mixture, dictionaries[::-1], _small()), found.flip(0), atol=1e-9)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e9])
def test_neither_dictionary_nor_masks_depend_on_the_level(divergence: str, scale: float) -> None:
    options = _small(divergence=divergence, sparsity=0.1)
    magnitudes, mixture = [_rand(0, K, 80)], _rand(1, K, F)
    dictionary = _train(magnitudes, options)
    assert torch.allclose(_train([scale * magnitudes[0]], options), dictionary, atol=1e-6)
    pair = [dictionary, _rand(2, 2 * K, R)]
    assert torch.allclose(masks(scale * mixture, pair, options), masks(mixture, pair, options), atol=1e-6)
    assert torch.allclose(masks(mixture, [3 * d for d in pair], options), masks(mixture, pair, options), atol=1e-6)


def test_a_seed_has_one_dictionary_and_another_seed_another() -> None:
    magnitudes = [_rand(0, K, 50), _rand(1, K, 70)]
    one, same, other = (_train(magnitudes, _small(max_frames=60), seed) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.allclose(one, other, atol=1e-3)


def test_no_more_frames_are_drawn_than_asked_and_no_silent_ones() -> None:
    magnitudes = torch.zeros(K, 500)
    magnitudes[4, 100], magnitudes[5, 200] = 1, 1
    options = _small(num_bases=8, context_frames=1, sparsity=0.0, max_frames=1)
    heard = [(_train([magnitudes], options, seed) > 1e-3).any(1).nonzero().flatten().tolist() for seed in range(6)]
    assert sorted({tuple(h) for h in heard}) == [(4,), (5,)]


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("sparsity", [0.0, 1e6])
def test_extremes_give_finite_dictionaries_and_masks(divergence: str, sparsity: float) -> None:
    options = _small(divergence=divergence, sparsity=sparsity, num_bases=30)
    spikes = torch.zeros(K, 20)
    spikes[3, 4] = 1e12
    dictionaries = [_train([spikes], options), _train([_rand(0, K, 3).float()], options)]
    assert all(d.isfinite().all() for d in dictionaries)
    found = masks(spikes, dictionaries, options)
    assert found.isfinite().all() and torch.allclose(found.sum(0), torch.ones(K, 20), atol=1e-6)


def test_half_precision_is_widened() -> None:
    magnitudes = _rand(0, K, 40).bfloat16()
    assert torch.equal(_train([magnitudes], _small()), _train([magnitudes.float()], _small()))


@pytest.mark.parametrize(
    "options",
    [
        {"divergence": "is"},
        {"num_bases": 0},
        {"context_frames": 0},
        {"mask_iterations": 0},
        {"max_frames": 0},
        {"iterations": -1},
        {"sparsity": -0.1},
        {"sparsity": float("nan")},
        {"sparsity": float("inf")},
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        _small(**options)


@pytest.mark.parametrize(
    ("magnitudes", "message"),
    [
        ([], "common number of bins"),
        ([torch.rand(K, 9), torch.rand(K + 1, 9)], "common number of bins"),
        ([torch.zeros(K, 9)], "silent"),
        ([torch.rand(1, K, 9)], r"no magnitudes \[K, F\]"),
        ([torch.rand(K, 0)], r"no magnitudes \[K, F\]"),
        ([torch.rand(K, 9).to(torch.complex64)], r"no magnitudes \[K, F\]"),
        ([-torch.rand(K, 9)], "negative"),
        ([torch.full((K, 9), float("nan"))], "no numbers"),
        ([torch.full((K, 9), float("inf"))], "infinite"),
    ],
)
def test_bad_recordings_are_refused(magnitudes: list[Tensor], message: str) -> None:
    with pytest.raises(PseError, match=message):
        _train(magnitudes, _small())


@pytest.mark.parametrize(
    "dictionaries", [[], [torch.rand(K, R)], [torch.rand(2 * K, R), torch.rand(2 * K + 1, R)], [torch.rand(2 * K)]]
)
def test_dictionaries_that_do_not_fit_the_mixture_are_refused(dictionaries: list[Tensor]) -> None:
    with pytest.raises(PseError, match=rf"2 x {K} rows it takes; train a dictionary"):
        masks(torch.rand(K, F), dictionaries, _small())
    with pytest.raises(PseError, match="no magnitudes"):
        masks(torch.rand(K), [torch.rand(2 * K, R)], _small())


class _Cache:
    """Two speakers, a low and a high voice, with two utterances each."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.samples = {
            f"{speaker}-{n}": _harmonics(rng, pitch) for speaker, pitch in (("low", 5), ("high", 8)) for n in range(2)
        }
        self.reads: list[str] = []

    def of_speaker(self, speaker: str) -> list[str]:
        return [u for u in self.samples if u.split("-")[0] == speaker]

    def read(self, utt: str) -> np.ndarray:
        self.reads.append(utt)
        return self.samples[utt]


def _harmonics(rng: np.random.Generator, pitch: int) -> np.ndarray:
    time = np.arange(3000) / 64
    level = np.repeat(rng.uniform(0.1, 1, (4, 20)), 150, 1)
    return sum(a * np.sin(2 * np.pi * pitch * (h + 1) * time) for h, a in enumerate(level)).astype(np.float32)


def _plugin() -> object:
    plugin = find("baseline", "nmf")
    return plugin(bind(plugin.Options, {"num_bases": 8, "iterations": 60}, "baseline"), STFT(128, 32), _Cache())


def test_the_plug_in_separates_training_speakers_and_learns_each_once() -> None:
    baseline, rng = _plugin(), np.random.default_rng(1)
    sources = np.stack([_harmonics(rng, 8), _harmonics(rng, 5)])
    spectra = baseline.transform.stft(torch.from_numpy(np.concatenate([sources.sum(0, keepdims=True), sources])))
    scene = Scene("a", sources.sum(0), 8000, spectra, ["high", "low"])
    found = baseline.masks(scene)
    error = (found * spectra[:1] - spectra[1:]).abs().square().sum((1, 2)) / spectra[1:].abs().square().sum((1, 2))
    assert (error < 0.1).all()
    assert torch.equal(baseline.masks(scene), found) and len(baseline.cache.reads) == 4


def test_the_plug_in_refuses_a_speaker_without_training_speech() -> None:
    with pytest.raises(PseError, match="open has no training speech; take the baseline for"):
        _plugin().dictionary("open")
