"""Mixtures of speakers under conditions: overlap, noise and rooms are as asked for, and nothing else changes."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from pse.config import bind
from pse.data.cache import MemoryCache
from pse.data.conditions import Conditions, staggered
from pse.data.fixed import _fits
from pse.data.mixture import Crop, MixtureSpec, Sources, extent, read_specs, render, write_specs
from pse.data.rooms import SOUND_M_S, Room, direct_responses, draw_room, impulse_responses
from pse.data.scene import peak_scaled, render_scene, render_sources
from pse.data.segments import FixedSampler
from pse.data.speech_mixture import SpeakerSampler
from pse.dsp.snr import power, snr_db
from pse.errors import EnvironmentFault, PseError
from tests.speech_toy import RATE, toy_voices

EVERYTHING = Conditions((0.2, 0.8), (-6, 3), (0.1, 0.4))


@pytest.fixture(scope="module")
def voices():
    return toy_voices()


@pytest.fixture(scope="module")
def noises():
    rng = np.random.default_rng(9)
    found = {f"n{i}": 0.1 * rng.standard_normal(RATE * (i + 1)).astype(np.float32) for i in range(3)}
    return MemoryCache(found, "noise", RATE)


@pytest.fixture(scope="module")
def rooms():
    """Rooms with places for two, of decay times from dry to very live."""
    pytest.importorskip("pyroomacoustics")
    rng = np.random.default_rng(3)
    return [draw_room(rng, 2, (rt60, rt60)) for rt60 in (0.1, 0.2, 0.4, 0.7, 1.0)]


def described(voices, spec: MixtureSpec) -> list[tuple]:
    """Utterance, start, and level in dB of the sources."""
    return [(s.utt, s.start_samples, round(s.gain_db + voices.level_db[s.utt], 9)) for s in spec.sources]


def test_draws_without_conditions_are_those_of_before_there_were_any(voices) -> None:
    segments = SpeakerSampler(voices, 5000, 2, "n", (1, 4, 5))
    assert described(voices, segments.spec(0)) == [
        ("s5u1", 8017, -20.827339396), ("s2u2", 21873, -23.172660604), ("s1u0", 14346, -22.0),
        ("s4u0", 16284, -19.654678792), ("s3u1", 12601, -24.345321208),
    ]  # fmt: skip
    assert described(voices, segments.spec(2)) == [("s3u0", 11502, -19.626517185)]
    whole = SpeakerSampler(voices, 10**9, 1, "c", whole=True)
    assert described(voices, whole.spec(1)) == [("s0u2", 0, -22.569188466), ("s4u1", 0, -21.430811534)]
    assert [whole.spec(n).num_samples for n in range(3)] == [27813, 28825, 27813]


def test_a_description_without_conditions_is_written_as_ever_and_an_old_one_read(voices, tmp_path) -> None:
    path = tmp_path / "specs.jsonl"
    write_specs(path, [MixtureSpec("m", 3, 0, (Crop("s0u0", 7, 1.5),))])
    assert json.loads(path.read_text()) == {
        "id": "m", "num_samples": 3, "seed": 0, "sources": [{"utt": "s0u0", "start_samples": 7, "gain_db": 1.5}],
        "noise": None, "snr_db": None, "premixture_noise": None, "premixture_snr_db": None,
    }  # fmt: skip
    assert read_specs(path) == [MixtureSpec("m", 3, 0, (Crop("s0u0", 7, 1.5),))]


def test_noise_and_room_change_nothing_of_the_speech(voices, noises) -> None:
    for options in ({}, {"whole": True}):
        plain = SpeakerSampler(voices, 6000, 4, "s", (1, 2, 3), **options)
        heard = SpeakerSampler(
            voices, 6000, 4, "s", (1, 2, 3), conditions=Conditions(None, (-6, 3), (0.1, 1)), noise=noises, **options
        )
        for number in range(20):
            spec = heard.spec(number)
            assert replace(spec, noise=None, snr_db=None, room=None) == plain.spec(number)
            assert -6 <= spec.snr_db <= 3 and 0.1 <= spec.room.rt60_s <= 1
            assert len(spec.room.sources_m) == len(spec.sources)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_one_to_five_speakers_are_mixed(voices, noises, count: int) -> None:
    spec = SpeakerSampler(voices, 6000, 0, "n", (count,), conditions=Conditions(overlap=(0, 1))).spec(0)
    assert render_sources(spec, voices.cache).shape == (count, 6000)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("count", [2, 3])
def test_the_share_that_is_asked_for_overlaps_in_the_signals(voices, share: float, count: int) -> None:
    for whole, longest in ((True, 10**9), (True, 50_000), (False, 16_000)):
        sampler = SpeakerSampler(
            voices, longest, 0, "o", (count,), whole=whole, conditions=Conditions(overlap=(share, share))
        )
        for number in range(5):
            spec = sampler.spec(number)
            sources = render_sources(spec, voices.cache)
            heard = [np.flatnonzero(x) for x in sources]
            first, last = [int(h[0]) for h in heard], [int(h[-1]) + 1 for h in heard]
            lengths = [b - a for a, b in zip(first, last, strict=True)]
            # Zeros at an edge of a toy recording are no pause of the mixture.
            assert lengths == pytest.approx([s.num_samples for s in spec.sources], abs=20)
            for k in range(1, count):
                shorter = min(lengths[k - 1], lengths[k])
                assert (last[k - 1] - first[k]) / shorter == pytest.approx(share, abs=0.005)
            if whole:
                assert spec.num_samples == spec.sources[-1].offset_samples + spec.sources[-1].num_samples <= longest
            else:
                assert spec.num_samples == longest >= max(last) > 0.97 * longest


def test_shares_are_drawn_over_the_whole_range(voices) -> None:
    sampler = SpeakerSampler(voices, 10**9, 0, "o", whole=True, conditions=Conditions(overlap=(0.2, 0.8)))
    shares = []
    for number in range(200):
        a, b = sampler.spec(number).sources
        shares.append((a.num_samples - b.offset_samples) / min(a.num_samples, b.num_samples))
    assert 0.2 <= min(shares) < 0.23 and 0.77 < max(shares) <= 0.8 and np.mean(shares) == pytest.approx(0.5, abs=0.05)


def test_short_speakers_between_long_ones_leave_the_mixture_within_its_length() -> None:
    for share in (0.0, 0.5, 0.9, 1.0):
        placed = staggered([9000, 10, 9000, 50, 700], share, 4000)
        assert 0 < sum(placed[-1]) <= 4000 and all(a >= 0 and n > 0 for a, n in placed)
        assert [a for a, _ in placed] == sorted(a for a, _ in placed)


def test_noise_is_as_loud_against_the_louder_speaker_as_asked(voices, noises) -> None:
    sampler = SpeakerSampler(voices, 8000, 0, "w", (2, 3), conditions=Conditions(None, (-6, 3)), noise=noises)
    found = []
    for number in range(30):
        spec, scene = sampler.spec(number), sampler.scene(number)
        found.append(spec.snr_db)
        assert snr_db(max(scene.sources, key=power), scene.noise) == pytest.approx(spec.snr_db, abs=1e-4)
        assert np.array_equal(scene.mix, scene.sources.sum(0) + scene.noise)
        assert np.array_equal(scene.sources, render_sources(replace(spec, noise=None), voices.cache))
    assert min(found) < -5 and max(found) > 2 and -6 <= min(found) and max(found) <= 3


def test_the_louder_speaker_is_measured_while_he_lasts(voices, noises) -> None:
    conditions = Conditions(overlap=(0, 0), noise_snr_db=(0, 0))
    sampler = SpeakerSampler(voices, 10**9, 0, "w", whole=True, conditions=conditions, noise=noises)
    spec, scene = sampler.spec(0), sampler.scene(0)
    while_speaking = [
        power(x[extent(voices.cache, s, spec.num_samples)]) for x, s in zip(scene.sources, spec.sources, strict=True)
    ]
    assert power(scene.noise) == pytest.approx(max(while_speaking), rel=1e-4)


def test_a_mixture_with_everything_comes_back_from_the_disk_and_renders_the_same(voices, noises, tmp_path) -> None:
    pytest.importorskip("pyroomacoustics")
    sampler = SpeakerSampler(voices, 9000, 5, "all", (1, 3), conditions=EVERYTHING, noise=noises)
    specs = [sampler.spec(n) for n in range(4)]
    write_specs(tmp_path / "specs.jsonl", specs)
    again = read_specs(tmp_path / "specs.jsonl")
    assert again == specs and [hash(s.room) for s in again] == [hash(s.room) for s in specs]
    second = SpeakerSampler(voices, 9000, 5, "all", (1, 3), conditions=EVERYTHING, noise=noises)
    for number, spec in enumerate(again):
        assert second.spec(number) == spec and _fits(spec, Sources(voices.cache, noises))
        first = sampler.scene(number)
        impulse_responses.cache_clear()
        scene = render_scene(spec, Sources(voices.cache, noises))
        for a, b in ((first.mix, scene.mix), (first.sources, scene.sources), (first.noise, scene.noise)):
            assert a.dtype == np.float32 and np.array_equal(a, b)
        assert np.array_equal(scene.mix, scene.sources.sum(0) + scene.noise)


def test_one_gain_scales_speech_noise_and_room_to_a_peak_of_nine_tenths(voices, noises) -> None:
    pytest.importorskip("pyroomacoustics")
    sampler = SpeakerSampler(voices, 9000, 5, "p", (2,), conditions=EVERYTHING, noise=noises)
    before, caches = sampler.spec(0), Sources(voices.cache, noises)
    for reference in ("reverberant", "direct"):
        spec = peak_scaled(before, voices.cache, noises, reference)
        scene, first = render_scene(spec, caches, reference), render_scene(before, caches, reference)
        assert max(np.abs(scene.mix).max(), np.abs(scene.sources).max()) == pytest.approx(0.9, abs=1e-5)
        factor = 10 ** ((spec.sources[0].gain_db - before.sources[0].gain_db) / 20)
        np.testing.assert_allclose(scene.mix, factor * first.mix, atol=1e-5)
        np.testing.assert_allclose(scene.noise, factor * first.noise, atol=1e-5)


def test_silence_is_refused_as_ever(voices, noises) -> None:
    silent = MemoryCache({"a": voices.cache.read("s0u0"), "b": np.zeros(9000, np.float32)}, "x", RATE)
    spec = MixtureSpec("m", 9000, 0, (Crop("a"), Crop("b")))
    with pytest.raises(PseError, match="b is silent where it is mixed"):
        peak_scaled(spec, silent)
    nothing = MemoryCache({"n": np.zeros(9000, np.float32)}, "x", RATE)
    with pytest.raises(PseError, match="mixture m cannot be rendered: a silent signal"):
        render_scene(replace(spec, noise=Crop("n"), snr_db=0.0), Sources(silent, nothing))
    with pytest.raises(PseError, match="silent"):
        SpeakerSampler(voices, 9000, 0, "s", conditions=Conditions(None, (0, 0)), noise=nothing).spec(0)


def test_what_is_more_than_its_sources_is_never_rendered_as_their_sum(voices, noises) -> None:
    room = draw_room(np.random.default_rng(0), 2, (0.2, 0.2))
    spec = SpeakerSampler(voices, 4000, 0, "r").spec(0)
    for more in (replace(spec, room=room), replace(spec, noise=Crop("n0"), snr_db=0.0)):
        with pytest.raises(PseError, match="has noise or a room, .*; render it with render_scene"):
            render_sources(more, voices.cache)
    with pytest.raises(PseError, match="is heard in a room"):
        render(replace(spec, room=room), Sources(voices.cache))
    refused = {
        "no cache of noises": replace(spec, noise=Crop("n0"), snr_db=0.0),
        "2 speakers and a room for 1": replace(spec, room=replace(room, sources_m=room.sources_m[:1])),
        "premixture noise": replace(spec, premixture_noise=Crop("n0"), premixture_snr_db=0.0),
    }
    for told, bad in refused.items():
        with pytest.raises(PseError, match=told):
            render_scene(bad, Sources(voices.cache))
    other_rate = MemoryCache({"n0": noises.read("n0")}, "n", 16000)
    with pytest.raises(PseError, match="speech of 8000 Hz and noise of 16000 Hz"):
        render_scene(replace(spec, noise=Crop("n0"), snr_db=0.0), Sources(voices.cache, other_rate))


def test_segments_of_a_fixed_mixture_are_pieces_of_it(voices, noises) -> None:
    conditions = Conditions(overlap=(0.5, 0.5), noise_snr_db=(0, 0))
    whole = SpeakerSampler(voices, 10**9, 0, "f", whole=True, conditions=conditions, noise=noises)
    specs = [replace(whole.spec(n), noise=None, snr_db=None) for n in range(3)]
    sampler = FixedSampler(voices, specs, 6000, 0, "seg")
    for number in range(9):
        segment = sampler.render(number)
        utts = [s.utt for s in sampler.spec(number).sources]
        mixture = render_sources(next(s for s in specs if [c.utt for c in s.sources] == utts), voices.cache)
        starts = np.flatnonzero((mixture[:, :-5999] == segment[:, :1]).all(0))
        assert any(np.array_equal(mixture[:, s : s + 6000], segment) for s in starts)
    noisy = FixedSampler(voices, [whole.spec(0)], 6000, 0, "seg", noises)
    scene = noisy.scene(1)
    assert snr_db(max(scene.sources, key=power), scene.noise) == pytest.approx(0, abs=1.5)
    assert scene.mix.shape == (6000,) and np.array_equal(scene.mix, scene.sources.sum(0) + scene.noise)


# Rooms


def decay_s(response: np.ndarray, rate: int) -> float:
    """Time to fall by 60 dB, from the slope of Schroeder's backward integral from -5 to -35 dB."""
    left = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1] / np.sum(response**2) + 1e-12)
    there = np.flatnonzero((left <= -5) & (left >= -35))
    return -60 / np.polyfit(there / rate, left[there], 1)[0]


@pytest.mark.parametrize("rate", [8000, 16000])
def test_echoes_decay_as_asked(rooms, rate: int) -> None:
    for room in rooms:
        for number, response in enumerate(impulse_responses(room, rate)):
            after_direct = round(room.distance_m(number) / SOUND_M_S * rate) + 20
            assert decay_s(response[after_direct:], rate) == pytest.approx(room.rt60_s, rel=0.2)


def test_the_direct_sound_comes_after_its_way_with_a_gain_of_one(rooms) -> None:
    for room in rooms:
        both = zip(direct_responses(room, RATE), impulse_responses(room, RATE), strict=True)
        for number, (direct, response) in enumerate(both):
            delay = room.distance_m(number) / SOUND_M_S * RATE
            low = np.fft.rfft(direct, 4096)[:1024]
            phase = np.unwrap(np.angle(low))
            assert -np.polyfit(2 * np.pi * np.arange(1024) / 4096, phase, 1)[0] == pytest.approx(delay, abs=0.01)
            np.testing.assert_allclose(np.abs(low), 1, atol=0.02)
            # No echo is there before the direct sound.
            np.testing.assert_allclose(response[: int(delay)], direct[: int(delay)], atol=0.05)


def test_early_echoes_are_where_the_mirrors_are(rooms) -> None:
    """A lattice of image sources by hand, up to the time where the tail begins to fade in."""
    room, rate = rooms[3], 16000
    response = impulse_responses(room, rate)[0]
    size, microphone, source = np.array(room.size_m), np.array(room.microphone_m), np.array(room.sources_m[0])
    x, y, z = size
    lost = 1 - math.exp(-0.1611 * x * y * z / (2 * (x * y + y * z + x * z) * room.rt60_s))
    by_hand = np.zeros(len(response) + 200)
    for mirror in np.ndindex(19, 19, 19):
        n = np.array(mirror) - 9
        image = n * size + np.where(n % 2, size - source, source)
        distance = np.linalg.norm(image - microphone)
        at = distance / SOUND_M_S * rate
        gain = math.sqrt(1 - lost) ** np.abs(n).sum() * room.distance_m(0) / distance
        taps = np.arange(max(0, int(at) - 60), min(len(by_hand), int(at) + 60))
        by_hand[taps] += gain * np.sinc(taps - at)
    end = round((room.distance_m(0) / SOUND_M_S + 0.043) * rate)
    assert np.abs(response[:end]).max() > 0.8
    assert power(response[:end] - by_hand[:end]) < 0.01 * power(by_hand[:end])


def test_a_room_without_echoes_delays_and_nothing_else(voices) -> None:
    pytest.importorskip("pyroomacoustics")
    # 343 m/s for 40 samples at 8 kHz.
    place = (2.0 + 40 * SOUND_M_S / RATE, 3.0, 1.5)
    spec = replace(SpeakerSampler(voices, 6000, 0, "dry", (1,)).spec(0), room=None)
    dry = render_sources(spec, voices.cache)[0]
    for rt60_s in (0.0, 1e-3):
        room = Room((6.0, 6.0, 3.0), rt60_s, (2.0, 3.0, 1.5), (place,))
        scene = render_scene(replace(spec, room=room), Sources(voices.cache))
        np.testing.assert_allclose(scene.mix[40:], dry[:-40], atol=2e-5)
        np.testing.assert_allclose(scene.mix[:40], 0, atol=2e-5)


def test_direct_references_are_the_direct_part_of_what_is_heard(rooms) -> None:
    rng = np.random.default_rng(0)
    white = MemoryCache({u: 0.1 * rng.standard_normal(16000).astype(np.float32) for u in "ab"}, "x", RATE)
    for room in rooms:
        spec = MixtureSpec("m", 16000, 0, (Crop("a"), Crop("b", gain_db=-3.0)), room=room)
        heard, direct = (render_scene(spec, Sources(white), r) for r in ("reverberant", "direct"))
        assert np.array_equal(heard.mix, direct.mix) and np.array_equal(heard.mix, heard.sources.sum(0))
        for number, (image, reference) in enumerate(zip(heard.sources, direct.sources, strict=True)):
            dry = white.read("ab"[number]) * 10 ** (spec.sources[number].gain_db / 20)
            # As loud as if there were no room, but for what a fractional delay takes at the highest frequencies.
            assert power(reference) == pytest.approx(power(dry), rel=0.05)
            # White noise is like no echo of it: what the image holds of the reference is the direct sound, once.
            assert np.dot(image, reference) / np.dot(reference, reference) == pytest.approx(1, abs=0.1)
            delayed = np.array([np.dot(image[lag:], reference[: 16000 - lag]) for lag in range(400)])
            assert np.argmax(np.abs(delayed)) == 0


def test_drawn_rooms_hold_everybody_and_are_kept_in_a_cache() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        room = draw_room(rng, 5, (0.1, 1.0))
        assert all(0.6 < room.distance_m(n) < 2.01 for n in range(5))
    assert draw_room(np.random.default_rng(1), 2, (0.1, 1)) == draw_room(np.random.default_rng(1), 2, (0.1, 1))
    pytest.importorskip("pyroomacoustics")
    assert impulse_responses(room, RATE) is impulse_responses(replace(room), RATE)


def test_a_missing_simulator_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    room = draw_room(np.random.default_rng(77), 1, (0.3, 0.3))
    with pytest.raises(EnvironmentFault, match=r"pyroomacoustics.* is not installed; pip install pyroomacoustics"):
        impulse_responses(room, RATE)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"num_speakers": (6,)}, "mixtures are of 1 to 5 speakers, not 6"),
        ({"num_speakers": (0, 2)}, "mixtures are of 1 to 5 speakers, not 0, 2"),
        ({"num_speakers": ()}, "mixtures are of 1 to 5 speakers, not none"),
        ({"conditions": Conditions(None, (-6, 3))}, "noise_snr_db is set, and there is no noise"),
    ],
)
def test_what_cannot_be_drawn_is_told_before_anything_is(voices, options, told: str) -> None:
    with pytest.raises(PseError, match=told):
        SpeakerSampler(voices, 4000, 0, "few", **options)


@pytest.mark.parametrize(
    ("target", "values", "told"),
    [
        (Conditions, {"overlap": [0.5, 0.2]}, "overlap must be two numbers from 0 to 1"),
        (Conditions, {"overlap": [0.5, 1.2]}, "overlap must be two numbers from 0 to 1"),
        (Conditions, {"rt60_s": [-0.1, 1]}, "rt60_s must be two numbers from 0 to 5"),
        (Conditions, {"noise_snr": [-6, 3]}, "did you mean 'noise_snr_db'"),
        (Conditions, {"reference": "dry"}, "choose one of reverberant, direct"),
        (Room, {"size_m": [3, 3, 3], "rt60_s": 1, "microphone_m": [1, 1, 4], "sources_m": []}, "not inside a room"),
        (Room, {"size_m": [3, 3, 3], "rt60_s": -1, "microphone_m": [1, 1, 1], "sources_m": []}, "rt60_s must be"),
        (
            Room, {"size_m": [3, 3, 3], "rt60_s": 1, "microphone_m": [1, 1, 1], "sources_m": [[1, 1, 1]]},
            "where the microphone is",
        ),
    ],
)  # fmt: skip
def test_impossible_conditions_are_refused_where_they_are_read(target, values, told: str) -> None:
    with pytest.raises(PseError, match=told):
        bind(target, values, "config")
