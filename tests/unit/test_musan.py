"""MUSAN's reader on trees of the same layout."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pse.corpora import musan
from pse.errors import PseError


@functools.cache
def noise(seconds: float) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(0).normal(0, 0.1, int(4000 * seconds)), 4000, format="WAV")
    return buffer.getvalue()


def build(root: Path, free: list[float], bible: list[float]) -> Path:
    for source, lengths in (("free-sound", free), ("sound-bible", bible)):
        folder = root / "noise" / source
        folder.mkdir(parents=True)
        for n, seconds in enumerate(lengths):
            (folder / f"noise-{source}-{n:04d}.wav").write_bytes(noise(seconds))
        (folder / "LICENSE").write_text("text")
    (root / "music" / "rfm").mkdir(parents=True)
    (root / "music" / "rfm" / "music-rfm-0000.wav").write_bytes(b"not looked at")
    return root


def test_the_last_usable_free_sounds_validate_and_sound_bible_tests(tmp_path: Path) -> None:
    build(tmp_path / "musan", [4, 5, 3.9, 6, 7, 1], [4, 2, 8])
    found = musan.scan(tmp_path / "musan", num_valid=2)
    assert [(r.id[6:], r.split) for r in found] == [
        ("free-sound-0000", "train"), ("free-sound-0001", "train"), ("free-sound-0003", "valid"),
        ("free-sound-0004", "valid"), ("sound-bible-0000", "test"), ("sound-bible-0002", "test"),
    ]  # fmt: skip
    assert {r.category for r in found} == {"free-sound", "sound-bible"}
    assert musan.scan(tmp_path, num_valid=2) == found


def test_the_published_counts_give_616_60_and_61(tmp_path: Path) -> None:
    build(tmp_path, [4.0] * 676, [4.0] * 61)
    splits = [r.split for r in musan.scan(tmp_path)]
    assert [splits.count(s) for s in ("train", "valid", "test")] == [616, 60, 61]


@pytest.mark.parametrize("num_valid", [0, 3, 60])
def test_a_part_that_would_be_empty_is_refused(tmp_path: Path, num_valid: int) -> None:
    build(tmp_path, [4, 4, 4], [4])
    with pytest.raises(PseError, match="3 free-sound and 1 sound-bible .* a part would be empty; set num_valid_noises"):
        musan.scan(tmp_path, num_valid=num_valid)


def test_no_test_noise_is_refused(tmp_path: Path) -> None:
    build(tmp_path, [4, 4, 4], [3])
    with pytest.raises(PseError, match="0 sound-bible"):
        musan.scan(tmp_path, num_valid=1)


def test_missing_parts_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(PseError, match=r"holds no noise/free-sound; .*--musan_dir"):
        musan.scan(tmp_path)
    (tmp_path / "noise" / "free-sound").mkdir(parents=True)
    with pytest.raises(PseError, match="has no noise/sound-bible"):
        musan.scan(tmp_path)


def test_corrupt_noises_are_refused_all_at_once(tmp_path: Path) -> None:
    build(tmp_path, [4, 4, 4], [4])
    for n in (0, 2):
        (tmp_path / "noise" / "free-sound" / f"noise-free-sound-{n:04d}.wav").write_bytes(b"RIFF")
    with pytest.raises(PseError, match="2 of 4 files cannot be used"):
        musan.scan(tmp_path, num_valid=1)
