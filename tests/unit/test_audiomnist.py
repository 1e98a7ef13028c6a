"""AudioMNIST's reader on trees of the same layout, and its silence and speakers kept apart."""

from __future__ import annotations

import functools
import io
import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pse.corpora import audiomnist
from pse.corpora.audiomnist import Person, read_people
from pse.corpora.base import Recording, write_data_dir
from pse.corpora.speaker_split import check_disjoint
from pse.data.cache import AudioCache
from pse.data.cache_build import build as build_cache
from pse.dsp.trim import sound_extent
from pse.errors import PseError
from pse.io import datadir

RATE = 48000


@functools.cache
def digit(kind: str = "wav", seed: int = 0) -> bytes:
    """0.2 s of noise between 0.3 s and 0.5 s of near silence."""
    rng = np.random.default_rng(seed)
    samples = 1e-4 * rng.standard_normal(RATE)
    samples[round(0.3 * RATE) : round(0.5 * RATE)] += 0.2 * rng.standard_normal(round(0.2 * RATE))
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format=kind.upper())
    return buffer.getvalue()


def build(root: Path, speakers: list[str], digits: int = 2, kind: str = "wav", table: object = None) -> Path:
    for speaker in speakers:
        folder = root / "data" / speaker
        folder.mkdir(parents=True)
        for d in range(digits):
            (folder / f"{d}_{speaker}_{7 * d}.{kind}").write_bytes(digit(kind))
    if table is not None:
        (root / "data" / audiomnist.TABLE).write_text(table if isinstance(table, str) else json.dumps(table))
    return root


def test_recordings_have_the_ids_speakers_and_sexes_of_the_tree(tmp_path: Path) -> None:
    table = {"01": {"gender": "male", "age": 30}, "02": {"gender": "Female ", "age": "1234"}, "10": {"gender": "F"}}
    build(tmp_path, ["01", "02", "10"], table=table)
    found = audiomnist.scan(tmp_path)
    assert [(r.id, r.speaker, r.category) for r in found] == [
        ("audiomnist-01-0_01_0", "audiomnist-01", "M"), ("audiomnist-01-1_01_7", "audiomnist-01", "M"),
        ("audiomnist-02-0_02_0", "audiomnist-02", "F"), ("audiomnist-02-1_02_7", "audiomnist-02", "F"),
        ("audiomnist-10-0_10_0", "audiomnist-10", "F"), ("audiomnist-10-1_10_7", "audiomnist-10", "F"),
    ]  # fmt: skip
    assert {(r.sample_rate, r.duration_s) for r in found} == {(RATE, 1.0)}
    assert audiomnist.scan(tmp_path / "data") == found
    write_data_dir(tmp_path / "out", found)
    assert datadir.validate(tmp_path / "out") == []


def test_the_repository_is_found_below_the_directory_given(tmp_path: Path) -> None:
    build(tmp_path / "AudioMNIST", ["01"])
    assert len(audiomnist.scan(tmp_path)) == 2


def test_a_stand_in_with_names_flac_and_no_table_is_read_and_told(tmp_path: Path, caplog) -> None:
    build(tmp_path, ["george", "théo"], kind="flac")
    with caplog.at_level(logging.WARNING):
        found = audiomnist.scan(tmp_path, prefix="fsdd")
    assert "no audioMNIST_meta.txt: the sex of 2 speakers is unknown" in caplog.text
    assert {r.category for r in found} == {""} and found[0].id == "fsdd-george-0_george_0"
    assert len({r.speaker for r in found}) == 2 and all(r.id.startswith(r.speaker) for r in found)


def test_speakers_without_an_entry_are_read_and_told(tmp_path: Path, caplog) -> None:
    build(tmp_path, ["16", "17", "22", "34"], table={"16": {"gender": "male"}, "22": {"gender": "?"}})
    with caplog.at_level(logging.WARNING):
        found = audiomnist.scan(tmp_path)
    assert "the sex of 3 of 4 speakers is unknown: 17, 22, 34" in caplog.text
    assert Counter(r.category for r in found) == {"M": 2, "": 6}


def test_ages_are_numbers_or_text_and_impossible_ones_unknown(tmp_path: Path) -> None:
    ages = {"01": 30, "02": "25", "03": " 61 ", "04": "1234", "05": "", "06": None, "07": 25.5, "08": -3, "09": "old"}
    path = tmp_path / "table.txt"
    path.write_text(json.dumps({k: {"age": v, "gender": "MALE"} for k, v in ages.items()} | {"10": {}}))
    people = read_people(path)
    assert [p.age for p in people.values()] == [30, 25, 61, None, None, None, None, None, None, None]
    assert people["01"] == Person("M", 30) and people["10"] == Person()


@pytest.mark.parametrize("table", ["{", "[]", '{"01": "male"}'])
def test_a_damaged_table_is_refused_by_its_name(tmp_path: Path, table: str) -> None:
    build(tmp_path, ["01"], table=table)
    with pytest.raises(PseError, match="audioMNIST_meta.txt"):
        audiomnist.scan(tmp_path)


def test_files_outside_the_scheme_and_corrupt_ones_are_refused_all_at_once(tmp_path: Path) -> None:
    build(tmp_path, ["01", "02"])
    for name in ("01/0_02_3.wav", "01/12_01_0.wav", "02/take one.wav"):
        (tmp_path / "data" / name).write_bytes(digit())
    with pytest.raises(PseError, match="3 of 7 files cannot be used: 01/0_02_3.wav: the name is not"):
        audiomnist.scan(tmp_path)
    build(tmp_path / "b", ["01"])
    (tmp_path / "b" / "data" / "01" / "0_01_0.wav").write_bytes(b"RIFF")
    with pytest.raises(PseError, match="1 of 2 files cannot be used"):
        audiomnist.scan(tmp_path / "b")


def test_a_flac_beside_its_wav_is_one_recording(tmp_path: Path) -> None:
    build(tmp_path, ["01"])
    (tmp_path / "data" / "01" / "0_01_0.flac").write_bytes(digit("flac"))
    assert [r.path.suffix for r in audiomnist.scan(tmp_path)] == [".flac", ".wav"]


def test_no_corpus_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(PseError, match="holds no spoken digits; give the directory that holds data/"):
        audiomnist.scan(tmp_path)
    with pytest.raises(PseError, match="no such directory"):
        audiomnist.scan(tmp_path / "nowhere")


# Silence at the ends


def test_the_cache_cuts_silent_ends_and_says_so(tmp_path: Path) -> None:
    build(tmp_path, ["01"])
    write_data_dir(tmp_path / "set", audiomnist.scan(tmp_path))
    told: list[str] = []
    build_cache(tmp_path / "set", tmp_path / "dump", 8000, 1, told.append, trim_db=audiomnist.TRIM_DB)
    cache = AudioCache(tmp_path / "dump")
    # 0.2 s of sound, 30 ms on each side, a frame more or less.
    assert all(n / 8000 == pytest.approx(0.26, abs=0.021) for n in cache.num_samples.values())
    assert any(line.endswith("2 of 2 recordings cut at the ends") for line in told)
    assert datadir.validate(tmp_path / "dump") == []
    build_cache(tmp_path / "set", tmp_path / "whole", 8000, 1, told.append)
    assert set(AudioCache(tmp_path / "whole").num_samples.values()) == {8000}
    # The sound itself is as it was.
    whole, kept = (AudioCache(tmp_path / d).read(cache.ids[0]) for d in ("whole", "dump"))
    there = sound_extent(whole, 8000)
    np.testing.assert_array_equal(whole[there], kept)


@pytest.mark.parametrize("rate", [8000, 44100])
def test_the_extent_of_a_sound_is_its_own_whatever_its_level(rate: int) -> None:
    rng = np.random.default_rng(0)
    sound = np.zeros(rate)
    sound[rate // 4 : rate // 2] = rng.standard_normal(rate // 4)
    for gain in (1.0, 1e-3):
        there = sound_extent(gain * sound, rate)
        assert 0 <= rate // 4 - there.start <= 0.041 * rate and 0 <= there.stop - rate // 2 <= 0.041 * rate
    assert sound_extent(np.zeros(100), rate) == slice(0, 100) and sound_extent(np.zeros(0), rate) == slice(0, 0)
    assert sound_extent(np.ones(777), rate) == slice(0, 777)


# Splits


def speakers(women: int, men: int) -> list[Recording]:
    sexes = "F" * women + "M" * men
    return [Recording(f"s{i:02d}-{u}", Path("x"), f"s{i:02d}", 1.0, sex) for i, sex in enumerate(sexes) for u in "ab"]


def test_speakers_in_two_sets_are_named_with_their_sets() -> None:
    everyone = speakers(2, 3)
    check_disjoint({"train": everyone[:4], "open": everyone[4:]})
    with pytest.raises(PseError) as told:
        check_disjoint({"train": everyone[:4], "valid": everyone[3:9], "open": everyone[9:]}, "data/mini")
    what = "2 of 5 speakers are in more than one set: s01 (train and valid), s04 (valid and open)"
    assert str(told.value) == f"data/mini: {what}; leave them out of all sets but one"
