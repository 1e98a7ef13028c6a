"""What recordings are worth: how noisy they are, and whose; and that it is said for what reason."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from pse import load_model
from pse.corpora import noises, sentences, voices
from pse.dsp.band import is_narrow
from pse.io import audio
from pse.models.base import Output
from pse.personalize import identity, verdict
from pse.personalize.material import Recordings, read_recordings
from pse.scoring import plots
from tests.personalize_toy import RATE, ByLevel, ByPitch, Predicted, Seldom, tone, voice

SAID = "(several at once pass for one), likeness to the noisy recordings"


@pytest.mark.parametrize(("level_db", "seconds", "refused"), [(10, 30, False), (-10, 30, True), (10, 15, True)])
def test_what_cannot_be_learnt_from_is_refused(level_db: float, seconds: float, refused: bool) -> None:
    found = verdict.judge_recordings(Recordings({"r": voice(seconds)}, RATE), Predicted(level_db))
    assert bool(found.refusal) == refused == ("not usable" in found.text)
    assert found.usable_s == pytest.approx(seconds if level_db > 0 else 0)


def wide(seconds: float) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal(round(seconds * 16000)).astype(np.float32)


def at_16_khz(level_db: float) -> Predicted:
    predictor = Predicted(level_db)
    predictor.sample_rate = 16000
    return predictor


@pytest.mark.parametrize("level_db", [10, -10])
def test_what_came_by_telephone_is_refused_for_that_reason(level_db: float) -> None:
    narrow = audio.resample(audio.resample(wide(30), 16000, 8000), 8000, 16000)
    told = "hardly anything above 4 kHz"
    mostly = Recordings({"a": narrow, "b": wide(25)}, 16000)
    noisy = verdict.judge_recordings(mostly, at_16_khz(level_db))
    assert f"1 of 2 recordings have {told}, as over a telephone, muffled speech, or music: the SNR" in noisy.refusal
    assert "recorded at 16 kHz or more" in verdict.judge_clean(mostly, noisy, at_16_khz(level_db)).refusal
    partly = Recordings({"a": narrow, "b": wide(35)}, 16000)
    found = verdict.judge_recordings(partly, at_16_khz(level_db))
    assert told in found.text and told not in found.refusal
    assert told not in verdict.judge_recordings(Recordings({"b": wide(30)}, 16000), at_16_khz(level_db)).text


def test_a_rumble_is_no_telephone_and_an_hour_fits_into_memory() -> None:
    rumble = 0.9 * np.sin(2 * np.pi * 50 * np.arange(16000 * 60) / 16000).astype(np.float32)
    rumble += 0.01 * wide(60)
    tracemalloc.start()
    assert not is_narrow(rumble, 16000)
    # A second at a time, whatever it lasts.
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


def test_clipping_is_found_at_the_rate_of_the_file(tmp_path: Path) -> None:
    loud = np.clip(8 * audio.resample(wide(6), 16000, 48000), -1, 1)
    audio.write(tmp_path / "a" / "loud.wav", loud, 48000)
    audio.write(tmp_path / "a" / "turned_down.wav", 0.25 * loud, 48000)
    audio.write(tmp_path / "a" / "good.wav", wide(6), 16000)
    found = read_recordings(tmp_path / "a", 16000)
    assert found.clipped == {"loud.wav", "turned_down.wav"} and len(found.samples) == 3
    assert "2 of 3 recordings are clipped" in verdict.judge_recordings(found, at_16_khz(10)).text
    alone = read_recordings(tmp_path / "a" / "loud.wav", 16000)
    assert alone.clipped == {"loud.wav"}
    assert "1 of 1 recordings are clipped" in verdict.judge_recordings(alone, at_16_khz(10)).text
    assert not read_recordings(tmp_path / "a" / "good.wav", 16000).clipped


def test_seconds_that_come_together_in_long_noise_are_no_speech() -> None:
    for seconds in (40, 660):
        found = verdict.judge_recordings(Recordings({"r": tone(seconds, 300)}, RATE), Seldom(-10))
        parts = round(seconds / 20)
        assert f"hardly any speech stands out in {parts} of {parts} parts: music, noise, or a voice" in found.refusal
        assert found.usable_s == 0


def test_speech_in_the_midst_of_noise_counts_and_has_to_be_a_tenth() -> None:
    quiet, loud = 0.01 * tone(96, 300), tone(24, 300)
    given = Recordings({"r": np.concatenate([quiet[: 60 * RATE], loud, quiet[60 * RATE :]])}, RATE)
    found = verdict.judge_recordings(given, ByLevel(20))
    assert not found.refusal and found.usable_s == pytest.approx(24, abs=0.1)
    given = Recordings({"r": np.concatenate([quiet, quiet, quiet, loud])}, RATE)
    found = verdict.judge_recordings(given, ByLevel(20))
    assert "hardly any speech stands out in 14 of 16 parts" in found.refusal and found.usable_s > verdict.LEAST_USABLE_S


def test_long_music_is_refused_and_speech_in_it_is_not() -> None:
    predictor, random = load_model("snr_predictor_small").network, np.random.default_rng(0)
    music = np.concatenate([noises.render("music", random, 10, 16000, voices.chatter) for _ in range(6)])
    found = verdict.judge_recordings(Recordings({"r": music}, 16000), predictor)
    assert "hardly any speech stands out in 3 of 3 parts: music, noise, or a voice too far away" in found.refusal
    said = voices.say(voices.speaker("F", 0, 0), sentences.paragraph(random, 1000), 0, 16000)[: len(music)]
    said = said * np.sqrt(np.mean(music**2) / np.mean(said**2)) * 10 ** (5 / 20)
    both = music + np.resize(said, len(music)).astype(np.float32)
    found = verdict.judge_recordings(Recordings({"r": both}, 16000), predictor)
    assert not found.refusal and found.usable_s > verdict.LEAST_USABLE_S


@pytest.mark.parametrize(("snr_db", "told"), [(30, ""), (13, "some noise: its speech is 18 dB"), (10, "it is noisy")])
def test_how_clean_it_is_is_how_far_speech_is_above_the_noise(snr_db: float, told: str) -> None:
    class Knows(Predicted):
        def __call__(self, mix: torch.Tensor) -> Output:
            spoken = np.tile(np.repeat([20.0, -20.0], [2 * RATE, RATE]), 5)
            return Output(frame_snr_db=torch.from_numpy(spoken[128::256])[None])

    # Two seconds in three somebody speaks; one of the two recordings is quieter, and as noisy.
    speech = np.tile(np.concatenate([np.pad(tone(1.8, 300), RATE // 10), np.zeros(RATE, np.float32)]), 5)
    noise = np.random.default_rng(0).standard_normal(len(speech)) * np.sqrt(np.mean(speech**2) * 10 ** (-snr_db / 10))
    both = (speech + noise).astype(np.float32)
    given = Recordings({"a": both, "b": 0.1 * both}, RATE)
    known = verdict.judge_recordings(Recordings({"r": tone(40, 300)}, RATE), Predicted(10))
    found = verdict.judge_clean(given, known, Knows(0))
    # Of the noise it hears the third in which nobody speaks.
    above_db = 10 * np.log10(3 * 10 ** (snr_db / 10) + 2)
    assert verdict.stands_out_db(given, found.frame_snr_db) == pytest.approx(above_db, abs=0.3)
    odd = " ".join([*found.notes[1:], found.refusal])
    assert bool(odd) == bool(told) and told in odd and bool(found.refusal) == (snr_db == 10)


def test_loud_frames_that_the_predictor_doubts_are_no_noise() -> None:
    class Doubts(Predicted):
        def __call__(self, mix: torch.Tensor) -> Output:
            spoken = np.tile(np.repeat([20.0, -3.0, -20.0], [RATE, RATE, RATE]), 5)
            return Output(frame_snr_db=torch.from_numpy(spoken[128::256])[None])

    speech = np.tile(np.concatenate([tone(1.9, 300), 0.001 * tone(1.1, 300)]), 5)
    known = verdict.judge_recordings(Recordings({"r": tone(40, 300)}, RATE), Predicted(10))
    found = verdict.judge_clean(Recordings({"c": speech}, RATE), known, Doubts(0))
    assert not found.refusal and "some noise" not in found.text


def test_the_noisiest_are_named_and_drawn_with_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # From 10 to 100 % of them is speech; the ninth is clipped, and somebody else ends the tenth.
    given = {f"r{n}": np.concatenate([tone(2 * n, 300), 0.01 * tone(20 - 2 * n, 300)]) for n in range(1, 11)}
    given["r10"][-5 * RATE :] = tone(5, 1500)
    found = verdict.judge_recordings(Recordings(given, RATE, frozenset(["r9"])), ByLevel(20), ByPitch())
    assert "the noisiest: r1 (10 % above 0 dB), r2 (20 % above 0 dB), r3 (30 % above 0 dB)\n" in found.text
    shown = []
    monkeypatch.setattr(plots, "recording_tracks", lambda *given, **rest: shown.append(given))
    verdict.draw(found, tmp_path / "picture.png")
    ((tracks, seconds, marks, marked_as, title),) = shown
    assert list(tracks) == [f"r{n}: {10 * n} % above 0 dB" for n in range(1, 7)] + [
        "r9: 90 % above 0 dB, clipped", "r10: 100 % above 0 dB"
    ]  # fmt: skip
    assert "the worst 8 of 10 recordings" in title and set(seconds.values()) == {20.0} and "somebody else" in marked_as
    ends = [t for span in marks.pop("r10: 100 % above 0 dB") for t in span]
    assert 14 < min(ends) < 17 and 19.5 < max(ends) <= 20 and not any(marks.values())
    monkeypatch.undo()
    verdict.draw(found, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


def whose(found: verdict.Verdict) -> str:
    """The one line that says whose voice it is."""
    words = ("one voice in", "sound like somebody else", "whose voice it is was not looked at")
    (line,) = (line for line in found.text.splitlines() if any(w in line for w in words))
    return line


def test_another_voice_is_told_and_a_crowd_is_refused() -> None:
    mine = {f"r{n}": tone(22, 300 + n) for n in range(9)}
    cases = ((0, "one voice in 99 parts", False), (1, "11 of 110 parts", False), (9, "99 of 198 parts", True))
    for strange, told, refused in cases:
        given = mine | {f"x{n}": tone(22, 1500) for n in range(strange)}
        found = verdict.judge_recordings(Recordings(given, RATE), Predicted(10), ByPitch())
        assert whose(found).startswith(told) and (not strange or "sound like somebody else: " in whose(found))
        assert ("several people speak" in found.refusal) == refused
        assert strange != 1 or "somebody else: x0 at 0:00, x0 at 0:02, x0 at 0:04 and 8 more" in found.text


def test_a_conversation_in_turns_is_not_one_person() -> None:
    turns = np.concatenate([tone(5, 300), tone(5, 1500)] * 6)
    found = verdict.judge_recordings(Recordings({"call": turns}, RATE), Predicted(10), ByPitch())
    assert "several people speak" in found.refusal and "sound like somebody else: call at 0:" in whose(found)
    # One question of somebody else's is told, and no more.
    asked = np.concatenate([tone(30, 300), tone(4, 1500), tone(26, 300)])
    found = verdict.judge_recordings(Recordings({"call": asked}, RATE), Predicted(10), ByPitch())
    assert not found.refusal and "parts sound like somebody else: call at 0:3" in whose(found)


def test_short_messages_are_looked_at() -> None:
    given = {f"m{n:02d}": tone(2.9, 1500 if n in (3, 7) else 300) for n in range(12)}
    found = verdict.judge_recordings(Recordings(given, RATE), Predicted(10), ByPitch())
    assert whose(found) == "2 of 12 parts sound like somebody else: m03 at 0:00, m07 at 0:00"


def test_why_nobody_was_looked_at_is_told() -> None:
    given = Recordings({"r": tone(40, 300)}, RATE)
    assert "no encoder of voices" in whose(verdict.judge_recordings(given, Predicted(10)))
    assert "clear enough" in whose(verdict.judge_recordings(given, Predicted(2), ByPitch()))


def test_only_clear_frames_tell_a_voice() -> None:
    given = Recordings({"r": np.concatenate([tone(10, 300), tone(15, 1500)])}, RATE)
    track = np.repeat([20.0, -20.0], [400, 600])
    found = identity.voices(ByPitch(), given, {"r": track})
    assert len(found) == 5 and all(heard.vector @ [1, 0] > 0.99 for heard in found)
    assert found[0].start_s == 0 and found[-1].end_s == pytest.approx(10, abs=0.1)
    assert not identity.voices(ByPitch(), given, {"r": np.full(1000, -20.0)})
    assert not identity.voices(ByPitch(), Recordings({"r": tone(2, 300)}, RATE), {"r": np.repeat([20.0, -20], 40)[5:]})


def test_a_clean_set_with_a_file_of_somebody_else_is_refused() -> None:
    noisy = verdict.judge_recordings(Recordings({"r": tone(40, 300)}, RATE), Predicted(10), ByPitch())
    given = {f"c{n}": tone(8, 1500 if n == 1 else 300) for n in range(3)}
    found = verdict.judge_clean(Recordings(given, RATE), noisy, Predicted(10), ByPitch())
    assert "several people speak" in found.refusal and "4 of 12 parts sound like somebody else: c1" in whose(found)
    found = verdict.judge_clean(Recordings({"c0": given["c0"]}, RATE), noisy, Predicted(10), ByPitch())
    assert not found.refusal and whose(found) == f"one voice in 4 parts {SAID} 1.00"
    found = verdict.judge_clean(Recordings({"c0": tone(2.5, 300)}, RATE), noisy, Predicted(10), ByPitch())
    assert not found.refusal and whose(found) == f"one voice in 1 part {SAID} 1.00"


def test_a_likeness_below_the_limit_is_not_told_as_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = verdict.judge_recordings(Recordings({"r": tone(40, 300)}, RATE), Predicted(10), ByPitch())
    for likeness, refused, told in ((0.7999, True, "(likeness 0.79, 0.8 is needed)"), (0.8, False, "one in eight")):
        monkeypatch.setattr(verdict, "alike", lambda *given, likeness=likeness: likeness)
        found = verdict.judge_clean(Recordings({"c": tone(8, 300)}, RATE), noisy, Predicted(10), ByPitch())
        assert bool(found.refusal) == refused and told in found.text and ("one in eight" in found.text) != refused


def test_noises_may_be_music_and_other_people_and_not_the_voice_itself() -> None:
    noisy = verdict.judge_recordings(Recordings({"r": tone(40, 300)}, RATE), Predicted(10), ByPitch())
    quiet, mine, other = 0.01 * tone(40, 300), tone(20, 300), tone(20, 1500)
    given = Recordings({"hum": quiet, "radio": other, "street": np.concatenate([quiet, 0.2 * other])}, RATE)
    told, refusal = verdict.judge_noises(given, noisy, ByLevel(20), ByPitch())
    assert told == "3 recordings, 2.0 min; 2 of them hold speech or what sounds like it" and not refusal
    given = Recordings({"hum": quiet, "me": mine}, RATE)
    told, refusal = verdict.judge_noises(given, noisy, ByLevel(20), ByPitch())
    assert told.endswith("; 1 of them hold speech or what sounds like it") and "33 % of it sound like" in refusal
    # Without an encoder nobody knows whose it is.
    assert verdict.judge_noises(given, noisy, ByLevel(20)) == (told, "")


@pytest.mark.parametrize(
    ("level_db", "pitch_hz", "told"), [(10, 300, ""), (-10, 300, "it is noisy"), (10, 1500, "another person")]
)
def test_clean_speech_is_clean_and_of_the_same_person(level_db: float, pitch_hz: float, told: str) -> None:
    noisy = verdict.judge_recordings(Recordings({"r": tone(40, 300)}, RATE), Predicted(10), ByPitch())
    found = verdict.judge_clean(Recordings({"c": tone(8, pitch_hz)}, RATE), noisy, Predicted(level_db), ByPitch())
    assert told in found.refusal and bool(found.refusal) == bool(told)
