"""WSJ0's reader on trees laid out as LDC's discs are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pse.corpora import wsj0
from pse.errors import PseError
from tests.sphere_files import sphere

# As on the discs: the same eight letters, whichever the layout and the case.
TRAIN, DEV, TEST = ("01ta010b", "01tc0201", "209o030y"), ("22gc0105", "050a0501"), ("440c0201",)


def put(path: Path, seconds: float = 0.05, rate: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pcm = np.random.default_rng(len(path.name)).integers(-3000, 3000, int(rate * seconds)).astype(np.int16)
    if path.suffix.lower() in (".wv1", ".wv2"):
        path.write_bytes(sphere(pcm, rate))
    else:
        soundfile.write(path, pcm, rate)
    return path


def fill(place: dict[str, Path], ending: str = ".wv1", upper: bool = False) -> None:
    """Put all utterances under the directory of their set, by speaker."""
    for name, utts in (("si_tr_s", TRAIN), ("si_dt_05", DEV), ("si_et_05", TEST)):
        for utt in utts:
            relative = f"wsj0/{name}/{utt[:3]}/{utt}{ending}"
            put(place[name] / (relative.upper() if upper else relative))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "csr 1"
    fill({"si_tr_s": root / "11-1.1", "si_dt_05": root / "11-6.1", "si_et_05": root / "11-14.1"})
    doc = root / "11-13.1" / "wsj0" / "doc"
    (doc / "indices" / "train").mkdir(parents=True)
    (doc / "spkrinfo.txt").write_text("; ID SEX\n 01T  F  San Francisco\n209 M\n--- -- --\n440 M\n")
    rows = ["11_1_1:wsj0/si_tr_s/01t/01ta010b.wv1", "11_2_1: wsj0/si_tr_s/209/209o030x.wv1", "no index line"]
    (doc / "indices" / "train" / "tr_s_wv1.ndx").write_text(";; File\n" + "\n".join(rows) + "\n")
    return root


def test_id_speaker_sex_set_and_duration_follow_the_file(tree: Path) -> None:
    found = wsj0.scan(tree)
    assert [r.id for r in found] == sorted(TRAIN + DEV + TEST)
    by_id = {r.id: r for r in found}
    assert [(by_id[u].speaker, by_id[u].category, by_id[u].split) for u in (*TRAIN, *DEV, *TEST)] == [
        ("01t", "F", "si_tr_s"), ("01t", "F", "si_tr_s"), ("209", "M", "si_tr_s"),
        ("22g", "M", "si_dt_05"), ("050", "F", "si_dt_05"), ("440", "M", "si_et_05"),
    ]  # fmt: skip
    assert {(r.duration_s, r.sample_rate) for r in found} == {(0.05, 16000)}


@pytest.mark.parametrize("layout", ["one", "upper", "root", "flat"])
def test_any_layout_and_case_gives_the_same_utterances(tmp_path: Path, layout: str) -> None:
    base = tmp_path / "x"
    if layout == "flat":
        for name, utts in (("si_tr_s", TRAIN), ("si_dt_05", DEV), ("si_et_05", TEST)):
            for utt in utts:
                put(base / name / f"{utt}.wv1")
    else:
        fill(dict.fromkeys(wsj0.SETS, base), upper=layout == "upper")
    root = base / "wsj0" if layout == "root" else base
    assert [(r.id, r.split) for r in wsj0.scan(root)] == [
        ("01ta010b", "si_tr_s"), ("01tc0201", "si_tr_s"), ("050a0501", "si_dt_05"),
        ("209o030y", "si_tr_s"), ("22gc0105", "si_dt_05"), ("440c0201", "si_et_05"),
    ]  # fmt: skip


def test_one_set_is_found_when_its_own_directory_is_given(tree: Path) -> None:
    found = wsj0.scan(tree / "11-1.1" / "wsj0" / "si_tr_s", ("si_tr_s",))
    assert [r.id for r in found] == sorted(TRAIN)


def test_the_second_microphone_is_never_taken(tree: Path) -> None:
    before = wsj0.scan(tree)
    for path in [r.path for r in before]:
        put(path.with_suffix(".wv2"))
        put(path.with_suffix(".WV2.wav"))
    assert wsj0.scan(tree) == before
    only_second = before[0]
    only_second.path.unlink()
    assert only_second.id not in {r.id for r in wsj0.scan(tree)}


def test_a_tree_of_the_second_microphone_only_is_refused_with_the_remedy(tmp_path: Path) -> None:
    fill(dict.fromkeys(wsj0.SETS, tmp_path), ".wv2")
    with pytest.raises(PseError, match=r"si_tr_s, si_dt_05, si_et_05 hold .wv2 files only .*; copy the .wv1 files"):
        wsj0.scan(tmp_path)


def test_conversions_to_wav_are_taken_and_sphere_files_before_them(tmp_path: Path) -> None:
    fill(dict.fromkeys(wsj0.SETS, tmp_path), ".wav")
    assert {r.path.suffix for r in wsj0.scan(tmp_path)} == {".wav"}
    fill(dict.fromkeys(wsj0.SETS, tmp_path), ".wv1")
    assert {r.path.suffix for r in wsj0.scan(tmp_path)} == {".wv1"}


def test_a_conversion_that_kept_its_first_ending_has_the_same_id(tmp_path: Path) -> None:
    fill(dict.fromkeys(wsj0.SETS, tmp_path), ".wv1.wav")
    assert [r.id for r in wsj0.scan(tmp_path)] == sorted(TRAIN + DEV + TEST)


def test_wsj1_has_directories_of_the_same_names_and_is_left_out(tree: Path) -> None:
    before = wsj0.scan(tree)
    put(tree / "13-1.1" / "wsj1" / "si_tr_s" / "4a0" / "4a0c0201.wv1")
    assert wsj0.scan(tree) == before


def test_speech_is_read_from_sphere_and_from_wav(tree: Path) -> None:
    found = wsj0.scan(tree)[0]
    samples, rate = wsj0.read(found)
    wav = put(tree / "si_tr_s" / "01t" / "01ta010z.wav")
    assert rate == 16000 and samples.dtype == np.float32 and len(samples) == 800
    assert len(wsj0.read(next(r for r in wsj0.scan(tree) if r.path == wav))[0]) == 800


def test_missing_sets_and_directories_are_told_with_the_remedy(tree: Path, tmp_path: Path) -> None:
    os.rename(tree / "11-14.1", tmp_path / "elsewhere")
    with pytest.raises(PseError, match="has no si_et_05; give the directory that holds the WSJ0 discs"):
        wsj0.scan(tree)
    with pytest.raises(PseError, match="no such directory"):
        wsj0.scan(tmp_path / "none")


def test_bad_files_are_counted_and_the_first_three_named(tree: Path) -> None:
    put(tree / "si_tr_s" / "01t" / "01ta010c.wv1", rate=8000)
    put(tree / "si_tr_s" / "01t" / "01ta010d.wv1").write_bytes(b"NIST_1A\n   1024\n")
    put(tree / "si_tr_s" / "01t" / "01ta010e.wav").write_bytes(b"")
    with pytest.raises(PseError, match="3 of 9 files cannot be used") as caught:
        wsj0.scan(tree)
    for words in ("is at 8000 Hz, WSJ0 is at 16000", "its header does not end", "empty (0 bytes)"):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_that_are_no_utterance_and_copies_of_one_are_refused(tree: Path) -> None:
    extra = put(tree / "si_tr_s" / "01t" / "song.wav")
    with pytest.raises(PseError, match=r"song\.wav: the name is not eight letters and digits"):
        wsj0.scan(tree)
    extra.unlink()
    put(tree / "copy" / "SI_TR_S" / "01T" / "01TA010B.WV1")
    with pytest.raises(PseError, match="01ta010b occurs 2 times"):
        wsj0.scan(tree)


def test_speakers_of_unknown_sex_are_told_and_not_an_error(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    wsj0.scan(tree)
    assert not caplog.text
    (tree / "11-13.1" / "wsj0" / "doc" / "spkrinfo.txt").unlink()
    found = {r.speaker: r.category for r in wsj0.scan(tree)}
    assert found == {"01t": "", "209": "", "050": "F", "22g": "M", "440": "M"}
    assert "sex of 2 speakers is unknown (01t, 209); put wsj0-train-spkrinfo.txt" in caplog.text


def test_the_published_test_speakers_are_seven_women_and_eleven_men() -> None:
    assert {sex: len(set(ids)) for sex, ids in wsj0.TEST_SPEAKERS.items()} == {"F": 7, "M": 11}
    assert not set(wsj0.TEST_SPEAKERS["F"]) & set(wsj0.TEST_SPEAKERS["M"])


def test_all_utterances_that_the_lists_need_come_back_by_id(tree: Path) -> None:
    wanted = ["si_tr_s/01t/01ta010b", "si_et_05/440/440c0201", "si_tr_s/01t/01ta010b"]
    got = wsj0.require(wsj0.scan(tree), wanted, tree)
    assert set(got) == {"01ta010b", "440c0201"} and got["440c0201"].split == "si_et_05"


def test_missing_utterances_are_counted_by_disc_and_directory(tree: Path) -> None:
    wanted = ["si_tr_s/01t/01ta010b", *(f"si_tr_s/209/209o030{c}" for c in "xyz"), "si_dt_05/051/051a0501"]
    wanted += [f"si_et_05/440/440c020{n}" for n in range(2, 7)]
    with pytest.raises(PseError) as caught:
        wsj0.require(wsj0.scan(tree), wanted, tree)
    message = str(caught.value)
    assert "8 of the 10 utterances that the lists need are not there" in message
    assert "11-2.1 si_tr_s: 1 of 4 (209o030x)" in message and "; si_tr_s: 1 of 4 (209o030z)" in message
    assert "si_dt_05: 1 of 1 (051a0501)" in message
    assert "si_et_05: 5 of 5 (440c0202, 440c0203, 440c0204 and 2 more)" in message
    assert "copy the .wv1 files" in message and "\n" not in message
