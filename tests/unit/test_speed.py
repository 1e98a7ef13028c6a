"""Speech at other speeds: length, pitch and level are those that are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from pse.data.cache import MemoryCache
from pse.data.speech import Voices
from pse.data.speech_mixture import SpeakerSampler
from pse.data.speed import SpeedCache, at_speeds
from tests.speech_toy import toy_voices

RATE = 8000


def tone(hz: float, seconds: float = 2.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.fixture
def cache() -> SpeedCache:
    return SpeedCache(MemoryCache({"a": tone(400), "b": tone(500, 1.0)}, "s", RATE), [0.8, 1.0, 1.25])


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_pitch_and_length_follow_the_speed_and_the_level_stays(cache: SpeedCache, speed: float) -> None:
    played = cache.read(f"a@{speed:g}")
    assert len(played) == cache.num_samples[f"a@{speed:g}"] == int(2 * RATE / speed)
    spectrum = np.abs(np.fft.rfft(played[:8000] * np.hanning(8000)))
    assert abs(np.argmax(spectrum) - 400 * speed) <= 1
    assert np.sqrt(np.mean(played**2)) == pytest.approx(0.3 / 2**0.5, rel=0.01)


@pytest.mark.parametrize("speed", [0.8, 1.25])
@pytest.mark.parametrize("start", [0, 1, 1234, 7000])
def test_a_stretch_is_that_of_the_whole_to_a_sample(cache: SpeedCache, speed: float, start: int) -> None:
    whole, part = cache.read(f"a@{speed:g}"), cache.read(f"a@{speed:g}", start, 2000)
    assert len(part) == 2000
    shifts = [np.abs(whole[max(0, start + k) : start + k + 2000][-1900:] - part[-1900:]).max() for k in (-1, 0, 1)]
    # A sample of this tone moves it by up to 0.1; half a sample is what rounding may do.
    assert min(shifts) < 0.06


def test_the_recording_itself_is_untouched_and_the_end_is_the_end(cache: SpeedCache) -> None:
    assert np.array_equal(cache.read("a", 100, 50), tone(400)[100:150])
    assert len(cache.read("b@1.25", 6000, 1000)) == cache.num_samples["b@1.25"] - 6000
    assert len(cache.read("b@1.25", 9000, 10)) == 0


def test_a_speaker_at_another_speed_is_another_one_of_the_same_sex_and_level() -> None:
    voices = toy_voices()
    more: Voices = at_speeds(voices, [0.9, 1.0, 1.1])
    assert len(set(more.cache.speaker.values())) == 3 * len(set(voices.cache.speaker.values()))
    for utt, speaker in more.cache.speaker.items():
        plain, who = utt.partition("@")[0], speaker.partition("@")[0]
        assert more.level_db[utt] == voices.level_db[plain] and more.sex.get(speaker) == voices.sex.get(who)
    sampler = SpeakerSampler(more, 4000, 0, "train")
    specs = [sampler.spec(n) for n in range(40)]
    assert {s.utt.partition("@")[2] for spec in specs for s in spec.sources} == {"", "0.9", "1.1"}
    assert all(np.isfinite(sampler.render(n)).all() and sampler.render(n).shape == (2, 4000) for n in range(5))
    assert np.array_equal(sampler.render(3), SpeakerSampler(more, 4000, 0, "train").render(3))
