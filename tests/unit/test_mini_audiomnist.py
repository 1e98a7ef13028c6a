"""The embedded corpus as an AudioMNIST tree: digits that the reader of the real one reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pse.corpora import audiomnist, mini_audiomnist, mini_parts, voices
from pse.errors import PseError
from pse.io import audio
from pse.io.jsonl import read_json, write_json


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mini_audiomnist.make(tmp_path_factory.mktemp("mini") / "AudioMNIST", num_speakers=3, num_repetitions=1)


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_tree_is_read_as_audiomnist_with_sexes_and_ages(tree: Path) -> None:
    found = audiomnist.scan(tree)
    assert [(r.speaker, r.category) for r in found[::10]] == [
        ("audiomnist-01", "F"), ("audiomnist-02", "M"), ("audiomnist-03", "M")
    ]  # fmt: skip
    assert len(found) == 30 and {r.sample_rate for r in found} == {48000}
    assert all(0.3 < r.duration_s < 2 for r in found)
    people = audiomnist.read_people(tree / "data" / audiomnist.TABLE)
    assert [p.age for p in people.values()] == [20, 23, 26]


def test_digits_differ_and_are_no_silence(tree: Path) -> None:
    spoken = [audio.read(r.path)[0] for r in audiomnist.scan(tree)]
    assert len({x.tobytes() for x in spoken}) == 30
    assert all(np.abs(x).max() > 0.05 and not audio.faults(x) for x in spoken)


def test_equal_parameters_give_equal_bytes_and_a_tree_that_is_there_is_left_alone(tree: Path, tmp_path: Path) -> None:
    other = mini_audiomnist.make(tmp_path / "a place's name", num_speakers=3, num_repetitions=1)
    assert contents(other) == contents(tree)
    before = (other / "data").stat().st_mtime_ns
    mini_audiomnist.make(other, num_speakers=3, num_repetitions=1)
    assert (other / "data").stat().st_mtime_ns == before
    assert len(audiomnist.scan(mini_audiomnist.make(other, num_speakers=1, num_repetitions=1))) == 10


def test_its_voices_are_nobodys_of_the_embedded_librispeech() -> None:
    plan = mini_parts.Plan(0, len(mini_parts.TRAIN_IDS), 60.0, 60.0, 1.0)
    assert max(s.number for s in mini_parts.speakers(plan)) < mini_audiomnist.FIRST_VOICE
    readers = {voices.speaker(s.sex, s.number, 0) for s in mini_parts.speakers(plan)}
    first = mini_audiomnist.FIRST_VOICE
    speakers = {voices.speaker(sex, first + n, 0) for n in range(8) for sex in "FM"}
    assert len(speakers) == 16 and not speakers & readers


def test_foreign_directories_and_impossible_numbers_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "mine.json", 1)
    with pytest.raises(PseError, match="holds something that is not of mini"):
        mini_audiomnist.make(tmp_path, num_speakers=1)
    assert read_json(tmp_path / "mine.json") == 1
    for options in ({"num_speakers": 0}, {"num_speakers": 61}, {"num_repetitions": 0}, {"seed": -1}):
        with pytest.raises(PseError, match="cannot be; take 1 to 60 speakers"):
            mini_audiomnist.make(tmp_path / "new", **options)
