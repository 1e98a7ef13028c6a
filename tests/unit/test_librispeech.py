"""LibriSpeech's reader on trees of the same layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from pse.corpora import librispeech
from pse.corpora.base import write_data_dir
from pse.errors import PseError
from pse.io import datadir

SPEAKERS = """;ID | SEX | SUBSET | MINUTES | NAME
19 | F | train-clean-100 | 25 | A
32   | F | x | 1 | B | C
26|M|y|1|D
"""


def utterance(root: Path, name: str, subset: str = "train-clean-100", seconds: float = 0.05) -> Path:
    speaker, chapter, _ = Path(name).stem.split("-")
    path = root / subset / speaker / chapter / name
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(len(name)).normal(0, 0.1, int(16000 * seconds))
    soundfile.write(path, samples, 16000)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "LibriSpeech"
    for name in ("26-495-0001.flac", "19-198-0000.flac", "19-198-0001.flac", "32-21631-0000.flac", "298-1-0000.flac"):
        utterance(root, name)
    (root / "SPEAKERS.TXT").write_text(SPEAKERS)
    (root / "train-clean-100" / "19" / "198" / "19-198.trans.txt").write_text("19-198-0000 WORDS\n")
    return root


def test_published_speakers_are_two_disjoint_sets_of_ten_women_and_ten_men() -> None:
    for table in (librispeech.TEST_SPEAKERS, librispeech.VALID_SPEAKERS):
        assert {sex: len(set(ids)) for sex, ids in table.items()} == {"F": 10, "M": 10}
    assert len(librispeech.ROLES) == 40


def test_role_sex_and_order_follow_the_reader(tree: Path) -> None:
    found = librispeech.scan(tree)
    assert [r.id for r in found] == ["19-198-0000", "19-198-0001", "26-495-0001", "32-21631-0000", "298-1-0000"]
    assert [r.split for r in found] == ["test", "test", "test", "train", "valid"]
    assert [r.category for r in found] == ["F", "F", "M", "F", "F"]
    assert {(r.sample_rate, r.duration_s) for r in found} == {(16000, 0.05)}


def test_the_directory_above_is_as_good_as_the_directory_itself(tree: Path) -> None:
    assert librispeech.scan(tree.parent) == librispeech.scan(tree)


def test_missing_published_speakers_are_told_and_not_an_error(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    librispeech.scan(tree)
    assert "18 of the 20 target speakers are missing: 39, 40, 83 and 15 more" in caplog.text
    assert "19 of the 20 validation speakers are missing" in caplog.text


def test_a_tree_without_any_target_speaker_is_refused(tmp_path: Path) -> None:
    utterance(tmp_path, "32-21631-0000.flac")
    with pytest.raises(PseError, match="none of the 20 target speakers"):
        librispeech.scan(tmp_path)


def test_other_subsets_need_no_target_speaker(tmp_path: Path) -> None:
    utterance(tmp_path, "367-130732-0000.flac", "test-other")
    assert [r.split for r in librispeech.scan(tmp_path, ("test-other",))] == ["train"]


def test_a_missing_subset_is_named_with_the_remedy(tree: Path) -> None:
    with pytest.raises(PseError, match=r"has no train-clean-360; .*--librispeech_dir"):
        librispeech.scan(tree, ("train-clean-100", "train-clean-360"))
    with pytest.raises(PseError, match="holds no LibriSpeech subset"):
        librispeech.scan(tree / "train-clean-100")
    with pytest.raises(PseError, match="no such directory"):
        librispeech.scan(tree / "nowhere")


def test_every_foreign_id_is_refused_in_one_line(tree: Path) -> None:
    folder = tree / "train-clean-100" / "19" / "198"
    for name in ("26-198-0005.flac", "19-199-0000.flac", "song.flac"):
        (folder / name).write_bytes((folder / "19-198-0000.flac").read_bytes())
    with pytest.raises(PseError, match="3 of 8 files cannot be used: .*19-199-0000.*26-198-0005.*song"):
        librispeech.scan(tree)


def test_an_id_in_two_subsets_is_refused(tree: Path) -> None:
    utterance(tree, "19-198-0000.flac", "dev-clean")
    with pytest.raises(PseError, match="19-198-0000 occurs 2 times"):
        librispeech.scan(tree, ("train-clean-100", "dev-clean"))


def test_a_conversion_to_wav_beside_the_flac_is_passed_over(tree: Path) -> None:
    before = librispeech.scan(tree)
    utterance(tree, "19-198-0000.wav", seconds=0.2)
    utterance(tree, "19-198-0002.wav", seconds=0.2)
    after = librispeech.scan(tree)
    assert [r for r in after if r.id != "19-198-0002"] == before
    assert len(after) == len(before) + 1


def test_unreadable_files_are_refused_all_at_once(tree: Path) -> None:
    (tree / "train-clean-100/19/198/19-198-0000.flac").write_bytes(b"")
    (tree / "train-clean-100/19/198/19-198-0001.flac").write_bytes(b"no audio")
    with pytest.raises(PseError, match="2 of 5 files cannot be used: train-clean-100/19/198/19-198-0000.*empty.*0001"):
        librispeech.scan(tree)


def test_a_loop_of_links_and_hidden_files_change_nothing(tree: Path) -> None:
    before = librispeech.scan(tree)
    (tree / "train-clean-100" / "19" / "again").symlink_to(tree / "train-clean-100")
    (tree / "train-clean-100" / "19" / "198" / "._19-198-0000.flac").write_bytes(b"x")
    assert librispeech.scan(tree) == before


def test_without_speakers_txt_the_published_readers_keep_their_sex(tree: Path) -> None:
    (tree / "SPEAKERS.TXT").unlink()
    assert {r.speaker: r.category for r in librispeech.scan(tree)} == {"19": "F", "26": "M", "32": "", "298": "F"}


def test_a_broken_speakers_txt_is_refused(tree: Path) -> None:
    (tree / "SPEAKERS.TXT").write_text("19 | F | x\n20 | W | x\n")
    with pytest.raises(PseError, match=r"1 lines are not .*20 \| W \| x"):
        librispeech.scan(tree)


def test_data_directory_reads_back_and_is_valid(tree: Path, tmp_path: Path) -> None:
    found = librispeech.scan(tree)
    write_data_dir(tmp_path / "data", found)
    tables = datadir.read(tmp_path / "data")
    assert tables["utt2spk"] == {r.id: r.speaker for r in found}
    assert tables["utt2category"]["26-495-0001"] == "M"
    assert {u: float(d) for u, d in tables["utt2dur"].items()} == {r.id: r.duration_s for r in found}
    assert datadir.validate(tmp_path / "data") == []


def test_an_empty_list_makes_no_data_directory(tmp_path: Path) -> None:
    with pytest.raises(PseError, match="no recording to list"):
        write_data_dir(tmp_path / "data", [])
    assert not (tmp_path / "data").exists()
