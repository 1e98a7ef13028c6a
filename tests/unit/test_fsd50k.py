"""FSD50K's reader on trees of the same layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from pse.corpora import fsd50k
from pse.errors import PseError

DEV = [
    ("64760", "Rain,Water,Natural_sounds", "train", 4.0),
    ("9", "Bark,Dog,Animal", "val", 5.0),
    ("10", "Electric_guitar,Guitar,Musical_instrument,Music", "train", 5.0),
    ("11", "Male_speech_and_man_speaking,Speech,Human_voice", "val", 5.0),
    ("12", "Engine,Vehicle", "train", 3.9),
    ("13", "Drum,Musical_instrument", "train", 6.0),
]
EVAL = [("37199", "Wind,Natural_sounds", 4.5), ("175151", "Human_voice,Speech", 4.5)]


def clip(path: Path, seconds: float, rate: int = 44100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, round(rate * seconds)), rate)


def build(root: Path, dev: str, evaluation: str, truth: str, rate: int = 44100) -> Path:
    lines = ["fname,labels,mids,split"] + [f'{n},"{labels}","/m/0",{split}' for n, labels, split, _ in DEV]
    (root / truth).mkdir(parents=True)
    (root / truth / "dev.csv").write_text("\n".join(lines) + "\n")
    lines = ["fname,labels,mids"] + [f'{n},"{labels}","/m/0"' for n, labels, _ in EVAL]
    (root / truth / "eval.csv").write_text("\n".join(lines) + "\n")
    for name, _, _, seconds in DEV:
        clip(root / dev / f"{name}.wav", seconds, rate)
    for name, _, seconds in EVAL:
        clip(root / evaluation / f"{name}.wav", seconds, rate)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return build(tmp_path / "FSD50K", "FSD50K.dev_audio", "FSD50K.eval_audio", "FSD50K.ground_truth")


def test_speech_music_and_short_clips_are_dropped_and_the_own_split_is_kept(tree: Path) -> None:
    found = fsd50k.scan(tree)
    assert [(r.id, r.split, r.category) for r in found] == [
        ("fsd50k-64760", "train", "Rain"), ("fsd50k-9", "valid", "Bark"), ("fsd50k-37199", "eval", "Wind"),
    ]  # fmt: skip
    assert {r.sample_rate for r in found} == {44100}


def test_without_a_label_filter_only_short_clips_are_dropped(tree: Path) -> None:
    found = fsd50k.scan(tree, dropped_labels=())
    assert len(found) == len(DEV) + len(EVAL) - 1
    assert len(fsd50k.scan(tree, min_duration_s=0, dropped_labels=())) == len(DEV) + len(EVAL)


@pytest.mark.parametrize(
    ("dev", "evaluation", "truth"),
    [
        ("dev_audio", "eval_audio", "ground_truth"),
        ("FSD50K.DEV_AUDIO", "fsd50k.eval_audio", "."),
        ("dev", "eval", "labels"),
    ],
)
def test_usual_spellings_of_the_folders_are_the_same(tmp_path: Path, dev: str, evaluation: str, truth: str) -> None:
    build(tmp_path / "x", dev, evaluation, truth, rate=16000)
    assert [r.split for r in fsd50k.scan(tmp_path / "x")] == ["train", "valid", "eval"]


def test_the_directory_above_is_as_good(tree: Path) -> None:
    assert fsd50k.scan(tree.parent) == fsd50k.scan(tree)


def test_only_the_parts_asked_for_must_be_there(tree: Path) -> None:
    for path in sorted((tree / "FSD50K.eval_audio").iterdir()):
        path.unlink()
    (tree / "FSD50K.eval_audio").rmdir()
    (tree / "FSD50K.ground_truth" / "eval.csv").unlink()
    assert len(fsd50k.scan(tree, splits=("train", "valid"))) == 2
    with pytest.raises(PseError, match=r"has no FSD50K.eval_audio and no FSD50K.ground_truth/eval.csv; .*--fsd50k_dir"):
        fsd50k.scan(tree)


def test_listed_clips_that_are_missing_are_counted(tree: Path) -> None:
    (tree / "FSD50K.dev_audio" / "9.wav").unlink()
    with pytest.raises(PseError, match=r"1 of 4 listed clips are missing: FSD50K.dev_audio/9.wav"):
        fsd50k.scan(tree)


def test_corrupt_clips_are_refused_all_at_once(tree: Path) -> None:
    (tree / "FSD50K.dev_audio" / "9.wav").write_bytes(b"")
    (tree / "FSD50K.dev_audio" / "64760.wav").write_bytes(b"RIFF")
    with pytest.raises(PseError, match=r"2 of 4 files cannot be used: .*64760.wav.*9.wav"):
        fsd50k.scan(tree)


@pytest.mark.parametrize(
    "text",
    ["", "fname,labels\n", "fname,labels,mids,split\n../x,Rain,,train\n", "fname,labels,mids,split\n1,Rain,,dev\n"],
)
def test_a_table_that_makes_no_sense_is_refused(tree: Path, text: str) -> None:
    (tree / "FSD50K.ground_truth" / "dev.csv").write_text(text)
    with pytest.raises(PseError, match=r"dev.csv: .*(lists no clip|line 2)"):
        fsd50k.scan(tree)


def test_a_table_in_another_encoding_is_refused(tree: Path) -> None:
    (tree / "FSD50K.ground_truth" / "dev.csv").write_bytes(b"fname,labels,mids,split\n1,\xff\xfe,,train\n")
    with pytest.raises(PseError, match="dev.csv: cannot be read"):
        fsd50k.scan(tree)


def test_any_other_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PseError, match="holds no folder FSD50K.dev_audio"):
        fsd50k.scan(tmp_path)
