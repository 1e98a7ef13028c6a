"""Mixtures of speakers: who is drawn, how loud each is, and that the published lists come out as published."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from pse.data import wsj0_mix
from pse.data.scene import peak_scaled, render_sources
from pse.data.segments import FixedSampler
from pse.data.speech_mixture import LEVEL_DBFS, SpeakerSampler, listed
from pse.dsp.active_level import active_level
from pse.errors import PseError
from tests.speech_toy import RATE, toy_voices


@pytest.fixture(scope="module")
def voices():
    return toy_voices()


def test_a_mixture_is_a_function_of_seed_stream_and_number(voices) -> None:
    first, second = (SpeakerSampler(voices, 4000, 3, "a") for _ in range(2))
    assert [first.spec(n) for n in (5, 0, 9)] == [second.spec(n) for n in (5, 0, 9)]
    assert first.spec(0).sources != SpeakerSampler(voices, 4000, 4, "a").spec(0).sources
    assert first.spec(0).sources != SpeakerSampler(voices, 4000, 3, "b").spec(0).sources


@pytest.mark.parametrize("count", [2, 3])
def test_levels_of_whole_sources_lie_around_each_other_as_in_the_lists(voices, count: int) -> None:
    sampler = SpeakerSampler(voices, 10**9, 0, "levels", (count,), spread_db=5.0, whole=True)
    for number in range(10):
        spec = sampler.spec(number)
        levels = [s.gain_db + voices.level_db[s.utt] for s in spec.sources]
        assert sum(levels) / count == pytest.approx(LEVEL_DBFS)
        assert max(levels) - min(levels) <= 5.0
        # What the gain says is what P.56 measures of the whole utterance.
        source = spec.sources[0]
        samples = voices.cache.read(source.utt) * 10 ** (source.gain_db / 20)
        assert active_level(samples, RATE).level_db == pytest.approx(levels[0], abs=1e-3)


def test_no_speaker_is_mixed_with_himself_but_where_asked(voices) -> None:
    who = voices.cache.speaker
    for number in range(40):
        spec = SpeakerSampler(voices, 4000, 0, "w", (2, 3)).spec(number)
        assert len({who[s.utt] for s in spec.sources}) == len(spec.sources)
        same = SpeakerSampler(voices, 4000, 0, "s", pairing="same_speaker").spec(number)
        assert len({who[s.utt] for s in same.sources}) == 1
        assert len({s.utt for s in same.sources}) == 2
        either = SpeakerSampler(voices, 4000, 0, "s", (2, 3), "same_speaker").spec(number)
        assert len({s.utt for s in either.sources}) == len(either.sources)


def test_known_speakers_come_all_and_in_their_order(voices) -> None:
    sampler = SpeakerSampler(voices, 4000, 0, "k", (3,), "known", speakers=["s4", "s0", "s2"])
    for number in range(10):
        assert [voices.cache.speaker[s.utt] for s in sampler.spec(number).sources] == ["s4", "s0", "s2"]


def test_an_epoch_has_a_segment_of_every_fixed_mixture_and_the_next_one_another(voices) -> None:
    whole = SpeakerSampler(voices, 9000, 0, "fixed", whole=True)
    specs = [whole.spec(n) for n in range(7)]
    sampler = FixedSampler(voices, specs, 2000, 3, "train")
    by_utts = {tuple(s.utt for s in spec.sources): spec for spec in specs}
    epochs = [[sampler.spec(7 * epoch + n) for n in range(7)] for epoch in range(3)]
    for epoch in epochs:
        assert {tuple(s.utt for s in spec.sources) for spec in epoch} == by_utts.keys()
        for spec in epoch:
            mixture = by_utts[tuple(s.utt for s in spec.sources)]
            starts = {s.start_samples - m.start_samples for s, m in zip(spec.sources, mixture.sources, strict=True)}
            assert len(starts) == 1 and 0 <= starts.pop() <= mixture.num_samples - 2000
            assert [s.gain_db for s in spec.sources] == [m.gain_db for m in mixture.sources]
    assert epochs[0] != epochs[1]
    again = FixedSampler(voices, specs, 2000, 3, "train")
    assert [again.spec(n) for n in (20, 3, 8)] == [epochs[2][6], epochs[0][3], epochs[1][1]]
    long = FixedSampler(voices, specs, 50_000, 3, "train")
    assert long.spec(0).num_samples <= 9000 and long.render(0).shape == (2, 50_000)


def test_numbers_of_speakers_are_drawn_alike(voices) -> None:
    sampler = SpeakerSampler(voices, 4000, 0, "n", (2, 3))
    sizes = Counter(len(sampler.spec(n).sources) for n in range(200))
    assert sizes.keys() == {2, 3} and min(sizes.values()) > 70


def test_balanced_pairs_are_a_third_each_and_female_ones_are_of_women(voices) -> None:
    sampler = SpeakerSampler(voices, 4000, 0, "b", pairing="balanced")
    found = Counter(voices.sexes(sampler.spec(n)) for n in range(300))
    assert found.keys() == {"FF", "FM", "MM"} and min(found.values()) > 75
    women = SpeakerSampler(voices, 4000, 0, "f", pairing="female")
    assert {voices.sexes(women.spec(n)) for n in range(20)} == {"FF"}


def test_the_louder_speaker_is_first_as_often_as_second(voices) -> None:
    sampler = SpeakerSampler(voices, 4000, 0, "order")
    first = 0
    for number in range(200):
        a, b = (s.gain_db + voices.level_db[s.utt] for s in sampler.spec(number).sources)
        first += a > b
    assert 70 < first < 130


def test_a_scaled_mixture_peaks_at_nine_tenths(voices) -> None:
    spec = peak_scaled(SpeakerSampler(voices, 10**9, 0, "p", whole=True).spec(0), voices.cache)
    sources = render_sources(spec, voices.cache)
    assert max(np.abs(sources).max(), np.abs(sources.sum(0)).max()) == pytest.approx(0.9, abs=1e-5)


def test_a_listed_mixture_is_the_published_builders_within_a_step_of_16_bits(voices) -> None:
    utts, gains = ("s0u0", "s3u1"), (1.2345, -1.2345)
    entry = wsj0_mix.Entry(tuple(f"si_tr_s/xxx/{u}" for u in utts), gains)
    ours = render_sources(listed(entry, voices), voices.cache)
    powers = [10 ** (voices.level_db[u] / 10) for u in utts]
    theirs = wsj0_mix.mix([voices.cache.read(u) for u in utts], gains, powers, from_hz=RATE, to_hz=RATE)
    assert ours.shape == theirs.sources.shape
    assert np.abs(ours * 32768 - theirs.sources).max() <= 0.51
    assert np.abs(ours.sum(0) * 32768 - theirs.mix).max() <= 0.51


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"num_speakers": (3,), "speakers": ["s0", "s1"]}, "needs 3 speakers, and there are 2"),
        ({"pairing": "female", "speakers": ["s0", "s1"]}, "needs 2 speakers of sex F, and there are 1"),
        ({"pairing": "same_speaker", "num_speakers": (4,)}, "with 4 utterances, and there are 0"),
        ({"pairing": "known", "speakers": ["s0", "s1", "s2"]}, "3 known speakers cannot be 2"),
        ({"speakers": ["s0", "s9"]}, "has no speech of 1 of its 2 speakers: s9"),
        ({"pairing": "balanced", "num_speakers": (3,)}, "pairs are balanced, not mixtures of 3"),
    ],
)
def test_too_few_speakers_are_told_before_anything_is_drawn(voices, options, told: str) -> None:
    with pytest.raises(PseError, match=told):
        SpeakerSampler(voices, 4000, 0, "few", **options)


def test_speakers_of_unknown_sex_are_told_with_the_way_to_make_it_known(voices) -> None:
    unknown = replace(voices, sex={"s0": "F"})
    assert unknown.sexes(SpeakerSampler(unknown, 4000, 0, "s").spec(0)) in ("??", "?F")
    with pytest.raises(PseError, match=r"the sex of 5 speakers is unknown; add speech, .* table of speakers"):
        SpeakerSampler(unknown, 4000, 0, "few", pairing="female")
