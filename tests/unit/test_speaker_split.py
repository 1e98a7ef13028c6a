"""Who is heard in training and who is kept for tests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pse.corpora.base import Recording
from pse.corpora.speaker_split import cut, draw_split, read_split
from pse.errors import PseError


def speech(num_speakers: int, num_utts: int = 5) -> list[Recording]:
    return [
        Recording(f"s{s:02d}u{u}", Path("x.wav"), f"s{s:02d}", 5.0, "FM"[s % 2])
        for s in range(num_speakers)
        for u in range(num_utts)
    ]


def test_a_drawn_split_is_whole_repeatable_and_half_of_women() -> None:
    recordings = speech(30)
    split = draw_split(recordings, 6, 8, seed=1)
    assert split == draw_split(recordings[::-1], 6, 8, seed=1) != draw_split(recordings, 6, 8, seed=2)
    assert Counter(split.values()) == {"open": 8, "valid": 6, "train": 16}
    sex = {r.speaker: r.category for r in recordings}
    assert Counter(sex[s] for s, part in split.items() if part == "open") == {"F": 4, "M": 4}


def test_too_few_speakers_are_told() -> None:
    with pytest.raises(PseError, match="9 speakers are too few for 4 of validation, 4 open and two to train on"):
        draw_split(speech(9), 4, 4, 0)


def test_closed_utterances_are_the_training_speakers_and_not_trained_on() -> None:
    split = {"s00": "train", "s01": "train", "s02": "valid", "s03": "open"}
    sets = cut(speech(5), split, closed_share=0.4)
    who = {part: {r.speaker for r in found} for part, found in sets.items()}
    assert who == {"train": {"s00", "s01"}, "closed": {"s00", "s01"}, "valid": {"s02"}, "open": {"s03"}}
    assert not {r.id for r in sets["train"]} & {r.id for r in sets["closed"]}
    assert len(sets["train"]) == 6 and len(sets["closed"]) == 4


def test_a_speaker_with_one_utterance_is_trained_on_and_not_tested() -> None:
    sets = cut(speech(1, 1), {"s00": "train"}, closed_share=0.5)
    assert len(sets["train"]) == 1 and not sets["closed"]


def test_a_split_file_says_who_is_who(tmp_path: Path) -> None:
    path = tmp_path / "split.tsv"
    path.write_text("id\tunit\tsplit\ns1\tspeaker\ttrain\ns2\tspeaker\tdev\ns3\tspeaker\ttest\n")
    assert read_split(path) == {"s1": "train", "s2": "valid", "s3": "open"}


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "has no columns id and split"), ("a\tb\n1\t2\n", "has no columns"), ("id\tsplit\ns1\tx\n", "s1 'x'")],
)
def test_a_split_file_that_says_something_else_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "split.tsv"
    path.write_text(text)
    with pytest.raises(PseError, match=told):
        read_split(path)
