"""The models that come with pse, heard on synthesised voices: none of them was trained on such."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from pse.corpora import noises, sentences, voices
from pse.data.mixture import add_noise
from pse.inference import builtin
from pse.inference.frame_snr import frame_snr_db
from pse.inference.loaded import load_model
from pse.inference.package import card_of
from pse.inference.package_checks import FILES, SUMS
from pse.personalize.identity import ALIKE, Heard, alike, strangers
from pse.personalize.identity import voices as voices_of
from pse.personalize.material import Recordings
from pse.scoring.metrics import si_sdr

RATE, MOST_BYTES = 16000, 10_000_000
NAMES = builtin.names()
ENHANCERS = [name for name in NAMES if name.startswith(("gru", "conv"))]


@functools.cache
def spoken(sex: str, number: int, seconds: float = 6.0) -> np.ndarray:
    """Somebody talking [T]."""
    text = sentences.paragraph(np.random.default_rng(number), round(18 * seconds))
    return np.resize(voices.say(voices.speaker(sex, number, 5), text, number), round(seconds * RATE))


def noise(kind: str, seconds: float = 6.0, seed: int = 3) -> np.ndarray:
    """A synthesised noise [T]."""
    return noises.render(kind, np.random.default_rng(seed), seconds, RATE, voices.chatter)


def test_every_default_is_there() -> None:
    assert {*builtin.DEFAULTS.values(), *builtin.SIZES.values()} <= set(NAMES)
    assert builtin.DEFAULTS["enhance"] in builtin.SIZES.values()


@pytest.mark.parametrize("name", NAMES)
def test_a_built_in_model_is_small_and_has_a_card(name: str) -> None:
    place = builtin.PLACE / name
    assert {p.name for p in place.iterdir()} == {*FILES, SUMS}
    assert sum(p.stat().st_size for p in place.iterdir()) <= MOST_BYTES
    card = card_of(place)
    for part in ("\nLicence: ", "seed 0", "Commit: ", "n = ", "## Limits", "## Data"):
        assert part in card, f"{part!r} is missing"


@pytest.mark.parametrize("name", ENHANCERS)
def test_noise_is_removed_from_voices_that_were_never_heard(name: str) -> None:
    model = load_model(name)
    gains = []
    for number, kind in enumerate(("stationary", "modulated", "impulsive", "music")):
        speech = spoken("FM"[number % 2], number)
        mix, _ = add_noise(speech, noise(kind), 0.0)
        made = model.enhance(mix, sample_rate=RATE)
        gains.append(si_sdr(speech, made) - si_sdr(speech, mix))
        louder = model.enhance(4 * mix, sample_rate=RATE)
        assert si_sdr(made, louder) > 30
    assert np.mean(gains) > 3 and min(gains) > 0


@pytest.mark.parametrize("name", ENHANCERS)
@pytest.mark.parametrize("snr", [30.0, 40.0])
def test_speech_that_is_nearly_clean_is_left_alone(name: str, snr: float) -> None:
    speech = spoken("F", 7)
    made = load_model(name).enhance(add_noise(speech, noise("stationary"), snr)[0], sample_rate=RATE)
    assert si_sdr(speech, made) > 10


@pytest.mark.parametrize("name", [name for name in NAMES if "causal" in name])
def test_a_causal_one_streams(name: str) -> None:
    model = load_model(name)
    mix = torch.from_numpy(add_noise(spoken("M", 1, 3.0), noise("stationary", 3.0), 5.0)[0])
    stream = model.stream(RATE)
    streamed = torch.cat([*(stream.push(part) for part in mix.split(1234)), stream.flush()])
    assert torch.allclose(streamed, model.enhance(mix, sample_rate=RATE), atol=1e-5)


def test_the_predictor_tells_speech_from_noise_and_music() -> None:
    predictor = load_model(builtin.DEFAULTS["snr_predictor"]).network
    speech = spoken("F", 2)
    shares = {"clean": (frame_snr_db(predictor, speech) > 0).mean()}
    for snr in (15.0, 0.0, -10.0):
        shares[snr] = (frame_snr_db(predictor, add_noise(speech, noise("stationary"), snr)[0]) > 0).mean()
    shares |= {kind: (frame_snr_db(predictor, noise(kind)) > 0).mean() for kind in ("stationary", "modulated", "music")}
    assert shares["clean"] > 0.75 and shares["clean"] > shares[15.0] > shares[0.0] > shares[-10.0]
    assert max(shares["stationary"], shares["modulated"], shares["music"]) < 0.15


def test_the_separator_separates_two_voices() -> None:
    model, gains = load_model(builtin.DEFAULTS["separate"]), []
    for number in range(3):
        sources = np.stack([spoken("F", number), spoken("M", number)])
        mix = sources.sum(0)
        made = model.separate(mix, sample_rate=RATE, num_speakers=2)
        orders = [np.mean([si_sdr(s, made[i]) for s, i in zip(sources, o, strict=True)]) for o in ((0, 1), (1, 0))]
        gains.append(max(orders) - np.mean([si_sdr(s, mix) for s in sources]))
    assert np.mean(gains) > 4


def test_voices_of_two_people_are_less_alike_than_those_of_one() -> None:
    predictor, encoder = (load_model(builtin.DEFAULTS[task]).network for task in ("snr_predictor", "voice"))

    def heard(sex: str, number: int) -> list[Heard]:
        samples = {f"{sex}{number}": spoken(sex, number, 40.0)}
        tracks = {name: frame_snr_db(predictor, x) for name, x in samples.items()}
        return voices_of(encoder, Recordings(samples, RATE), tracks)

    found = {(sex, number): heard(sex, number) for sex in "FM" for number in (1, 2)}
    for one, windows in found.items():
        assert len(windows) > 5 and len(strangers(windows)) <= 0.25 * len(windows), one
    assert alike(found["F", 1], found["M", 1]) < ALIKE
