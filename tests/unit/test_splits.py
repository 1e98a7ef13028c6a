"""The per-speaker split, and seeded splits by recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pse.corpora.base import Recording
from pse.corpora.grouping import halves, split_by_recording
from pse.corpora.splits import PARTS, split_speaker, split_speakers
from pse.errors import PseError

# Durations in seconds of the shortest utterances of LibriSpeech readers 19 and 26, up to where the
# last cut falls; the others of these readers are all longer.
READER_19 = [1.965, 2.86, 4.24, 8.42, 8.485, 10.795, 10.85, 11.09, 11.18, 11.21, 11.23, 11.405, 11.535, 11.615]
READER_26 = [
    2.065, 2.19, 2.39, 3.39, 3.49, 3.955, 4.105, 4.2, 4.475, 4.49, 5.355, 5.49, 5.505, 7.21, 7.82, 8.57, 9.04,
    9.56, 9.68, 10.08, 10.64, 10.7, 10.73, 10.82,
]  # fmt: skip


def speech(durations_s: list[float], speaker: str = "19") -> list[Recording]:
    return [Recording(f"{speaker}-{n:04d}", Path(f"{n}.flac"), speaker, d) for n, d in enumerate(durations_s)]


def counts(durations_s: list[float]) -> list[int]:
    split = split_speaker(speech(durations_s))
    return [len(split.parts[p]) for p in PARTS]


def test_reader_19_is_cut_as_published() -> None:
    assert counts(READER_19 + [14.0] * 97) == [3, 3, 5, 2, 96]


def test_reader_26_is_cut_as_published() -> None:
    assert counts(READER_26 + [14.4] * 94)[:3] == [5, 4, 6]


def test_a_cut_falls_before_the_utterance_whose_sum_is_nearest() -> None:
    # Sums 10, 20, 30, ...: the nearest to 30 is the third utterance, which opens the next part.
    assert counts([10.0] * 60) == [2, 3, 6, 3, 46]


def test_parts_hold_every_long_utterance_once_from_short_to_long() -> None:
    rng = np.random.default_rng(3)
    durations = rng.uniform(1, 17, 120).tolist()
    split = split_speaker(speech(durations))
    kept = [r for p in PARTS for r in split.parts[p]]
    assert [r.duration_s for r in kept] == sorted(d for d in durations if d >= 4)
    assert len({r.id for r in kept}) == len(kept)
    assert all(r.split == p for p in PARTS for r in split.parts[p])
    assert split.scale == 1


def test_ties_are_ordered_by_id_whatever_the_input_order() -> None:
    recordings = speech([10.0] * 60)
    assert split_speaker(recordings).parts == split_speaker(recordings[::-1]).parts


def test_seconds_are_parameters() -> None:
    seconds = {"test": 60.0, "val": 30.0, "train": 30.0, "preval": 30.0}
    split = split_speaker(speech([10.0] * 60), seconds)
    assert [len(split.parts[p]) for p in PARTS] == [5, 3, 3, 3, 46]


@pytest.mark.parametrize("seconds", [{"test": 30.0}, {"test": 30.0, "val": 0.0, "train": 1.0, "preval": 1.0}])
def test_incomplete_seconds_are_refused(seconds: dict[str, float]) -> None:
    with pytest.raises(PseError, match="positive seconds of test, val, train, preval"):
        split_speaker(speech([10.0] * 60), seconds)


def test_little_speech_scales_all_cuts_and_says_so() -> None:
    split = split_speaker(speech([5.0] * 24))
    assert split.scale == pytest.approx(0.4)
    assert [len(split.parts[p]) for p in PARTS] == [1, 3, 5, 2, 13]
    assert "cuts scaled by 0.40" in split.describe()


@pytest.mark.parametrize("durations", [[4.0, 5.0, 6.0, 7.0, 80.0], [100.0] * 5, [4.0] * 6, [200.0, 4.0, 4.0, 4.0, 4.0]])
def test_no_part_is_ever_empty(durations: list[float]) -> None:
    split = split_speaker(speech(durations))
    assert all(split.parts[p] for p in PARTS)
    assert sum(split.duration_s(p) for p in PARTS) == pytest.approx(sum(durations))


def test_fewer_than_five_utterances_are_refused_with_the_count() -> None:
    with pytest.raises(PseError, match="speaker 19: has 4 utterances of 4 s or more, the split needs 5"):
        split_speaker(speech([9.0] * 4 + [1.0] * 9))


def test_poor_speakers_are_refused_together_or_left_out(caplog: pytest.LogCaptureFixture) -> None:
    recordings = [*speech([9.0] * 60), *speech([9.0], "40"), *speech([9.0], "83"), *speech([9.0] * 50, "26")]
    with pytest.raises(PseError, match="speaker 40: .* 1 more speakers"):
        split_speakers(recordings)
    assert [s.speaker for s in split_speakers(recordings, skip_poor=True)] == ["19", "26"]
    assert "2 speakers have too little speech and are left out: speaker 40, speaker 83" in caplog.text
    with pytest.raises(PseError):
        split_speakers(speech([9.0]), skip_poor=True)


def noises(seed: int = 0, num: int = 60, kinds: int = 4) -> list[Recording]:
    rng = np.random.default_rng(seed)
    return [
        Recording(f"n{g}-{c}", Path(str(c)), "n", rng.uniform(2, 12), f"kind{g % kinds}", "train", 16000, f"n{g}")
        for g in range(num)
        for c in range(int(rng.integers(1, 6)))
    ]


@pytest.mark.parametrize("seed", range(5))
def test_clips_of_one_recording_are_never_torn_apart(seed: int) -> None:
    found = split_by_recording(noises(seed), seed=seed)
    groups = {s: {r.group for r in found if r.split == s} for s in ("train", "valid", "test")}
    assert not groups["train"] & groups["valid"] and not (groups["train"] | groups["valid"]) & groups["test"]
    assert [r.id for r in found] == [r.id for r in noises(seed)]


@pytest.mark.parametrize("seed", range(5))
def test_shares_of_the_seconds_are_met_and_every_category_is_everywhere(seed: int) -> None:
    found = split_by_recording(noises(seed), seed=seed)
    total = sum(r.duration_s for r in found)
    for split, share in (("train", 0.7), ("valid", 0.15), ("test", 0.15)):
        own = [r for r in found if r.split == split]
        assert sum(r.duration_s for r in own) / total == pytest.approx(share, abs=0.06)
        assert {r.category for r in own} == {f"kind{k}" for k in range(4)}


def test_a_split_depends_on_the_seed_and_not_on_the_order() -> None:
    material = noises()
    first = {r.id: r.split for r in split_by_recording(material, seed=1)}
    assert first == {r.id: r.split for r in split_by_recording(material[::-1], seed=1)}
    assert first != {r.id: r.split for r in split_by_recording(material, seed=2)}


def test_three_recordings_fill_three_parts_and_two_are_refused() -> None:
    assert {r.split for r in split_by_recording(speech([5.0, 5.0, 100.0]))} == {"train", "valid", "test"}
    with pytest.raises(PseError, match="2 recordings cannot fill 3 parts"):
        split_by_recording(speech([5.0, 5.0]))


@pytest.mark.parametrize("parts", [2, 3])
def test_halves_are_disjoint_by_recording_and_balanced_by_category(parts: int) -> None:
    material = split_by_recording(noises(num=200))
    lists = halves(material, parts, seed=4)
    assert sorted(r.id for part in lists for r in part) == sorted(r.id for r in material)
    assert len({r.group for part in lists for r in part}) == sum(len({r.group for r in part}) for part in lists)
    seconds = [sum(r.duration_s for r in part) for part in lists]
    assert max(seconds) < 1.25 * min(seconds)
    for split in ("train", "valid", "test"):
        for part in lists:
            assert {r.category for r in part if r.split == split} == {f"kind{k}" for k in range(4)}


def test_halves_of_a_split_with_one_recording_are_refused_by_name() -> None:
    with pytest.raises(PseError, match="split 'train': 1 recordings cannot fill 2 parts"):
        halves(noises(num=1), 2)
