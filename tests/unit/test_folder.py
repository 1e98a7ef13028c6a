"""Anyone's own directory: layouts, manifests, ids, and bad files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pse.corpora import folder
from pse.corpora.base import write_data_dir
from pse.corpora.naming import safe, unique_ids
from pse.errors import PseError
from pse.io import datadir

RATE = 8000


def sound(path: Path, seconds: float = 1.5, gain: float = 0.1, rate: int = RATE, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = gain * np.random.default_rng(len(path.name)).normal(size=(round(seconds * rate), channels))
    soundfile.write(path, samples, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


def by_name(root: Path, **options: object) -> dict[str, str]:
    return {r.path.name: r.split for r in folder.scan(root, **options)}  # type: ignore[arg-type]


def test_the_first_folder_is_speaker_and_category_and_leads_the_id(tmp_path: Path) -> None:
    for name in ("ann/monday/a.wav", "ann/b.flac", "bob/c.ogg", "bob/d.aiff", "bob/e.wav"):
        sound(tmp_path / name)
    found = folder.scan(tmp_path)
    assert [(r.id, r.speaker, r.category) for r in found] == [
        ("ann-b", "ann", "ann"), ("ann-monday-a", "ann", "ann"), ("bob-c", "bob", "bob"),
        ("bob-d", "bob", "bob"), ("bob-e", "bob", "bob"),
    ]  # fmt: skip
    assert {r.split for r in found} == {"train", "valid", "test"}


def test_files_without_a_folder_belong_to_one_speaker(tmp_path: Path) -> None:
    for n in range(4):
        sound(tmp_path / "my voice" / f"{n}.wav")
    assert len({r.speaker for r in folder.scan(tmp_path / "my voice")}) == 1


def test_rate_channels_and_duration_are_those_of_the_file(tmp_path: Path) -> None:
    for n in range(3):
        sound(tmp_path / f"{n}.wav", 1.25, rate=44100, channels=2)
    assert {(r.sample_rate, r.duration_s) for r in folder.scan(tmp_path)} == {(44100, 1.25)}


def test_folders_train_valid_test_are_the_split(tmp_path: Path) -> None:
    for name in ("train/ann/a.wav", "train/b.wav", "dev/c.wav", "eval/ann/d.wav"):
        sound(tmp_path / name)
    assert by_name(tmp_path) == {"a.wav": "train", "b.wav": "train", "c.wav": "valid", "d.wav": "test"}
    assert {r.path.name: r.speaker for r in folder.scan(tmp_path)}["d.wav"] == "ann"


def test_a_file_outside_the_split_folders_is_refused(tmp_path: Path) -> None:
    for name in ("train/a.wav", "test/b.wav", "c.wav"):
        sound(tmp_path / name)
    with pytest.raises(PseError, match="1 of 3 files cannot be used: c.wav: lies outside"):
        folder.scan(tmp_path)


def test_a_plain_folder_has_no_splits_speakers_and_lists(tmp_path: Path) -> None:
    for name in ("train/ann/a.wav", "b.wav", "calls/c.flac"):
        sound(tmp_path / name)
    (tmp_path / "MANIFEST.tsv").write_text("path\ngone.wav\n")
    found = folder.scan_plain(tmp_path)
    assert sorted(r.path.name for r in found) == ["a.wav", "b.wav", "c.flac"] and not any(r.split for r in found)
    (tmp_path / "calls" / "d.m4a").write_bytes(b"ftyp")
    assert len(folder.scan_plain(tmp_path, skip_bad=True)) == 3
    with pytest.raises(PseError, match=r"1 of 4 files cannot be used: calls/d\.m4a: \.m4a is not read here"):
        folder.scan_plain(tmp_path)


def test_ids_from_difficult_names_are_safe_unique_and_stable(tmp_path: Path) -> None:
    names = ["my dog's bark", 'a "quoted" one', "F\u00fc\u00dfe", "\u65e5\u672c", "x", "X", "-rf", "$(id);"]
    names = [f"{n}.wav" for n in names] + ["x.flac"]
    for name in names:
        sound(tmp_path / "root dir" / name)
    found = folder.scan(tmp_path / "root dir")
    ids = [r.id for r in found]
    assert len({i.casefold() for i in ids}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}", i) for i in ids)
    assert ids == [r.id for r in folder.scan(tmp_path / "root dir")]
    write_data_dir(tmp_path / "data", found)
    assert datadir.validate(tmp_path / "data") == []
    assert set(datadir.read(tmp_path / "data")["wav.scp"].values()) == {str(r.path) for r in found}


def test_composed_and_decomposed_letters_give_the_same_id() -> None:
    assert safe("\u00fc") == safe("u\u0308") != safe("u")


def test_plain_names_are_left_as_they_are() -> None:
    assert safe("a_B-1.c") == "a_B-1.c"
    assert unique_ids([Path("s/a.wav"), Path("s/b/a.wav")], ["s", "s"]) == ["s-a", "s-b-a"]


def test_very_long_names_stay_within_200_letters_and_apart() -> None:
    ids = unique_ids([Path("d" * 200, "a" * 240 + f"{n}.wav") for n in range(3)], ["s" * 100] * 3)
    assert len(set(ids)) == 3 and max(map(len, ids)) <= 200


def test_all_bad_files_are_named_at_once(tmp_path: Path) -> None:
    for n in range(3):
        sound(tmp_path / f"good{n}.wav")
    (tmp_path / "corrupt.wav").write_bytes(b"RIFF????WAVE")
    (tmp_path / "empty.flac").write_bytes(b"")
    sound(tmp_path / "short.wav", 0.2)
    sound(tmp_path / "silent.wav", gain=0.0)
    samples = np.zeros(2 * RATE, np.float32)
    samples[RATE] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, RATE, subtype="FLOAT")
    (tmp_path / "phone.m4a").write_bytes(b"ftyp")
    with pytest.raises(PseError, match="6 of 9 files .*: phone.m4a: .*ffmpeg.* and 3 more; .*skip_bad") as error:
        folder.scan(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("a.wav", lambda p: p.write_bytes(b""), "empty"),
        ("b.wav", lambda p: p.write_bytes(b"RIFFxxxxWAVEjunk"), "cannot be read as audio"),
        ("c.wav", lambda p: sound(p, gain=0.0), "is silent"),
        ("d.wav", lambda p: sound(p, 0.5), "lasts 0.50 s, 1 s are needed"),
        ("e.wav", lambda p: soundfile.write(p, np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT"), "NaN"),
        ("f.flac", lambda p: (sound(p), p.write_bytes(p.read_bytes()[:4000])), "truncated|decoded|cannot be read"),
        ("g\n.wav", sound, "control characters"),
        ("h.wma", lambda p: p.write_bytes(b"x"), "convert it"),
    ],
)
def test_each_kind_of_bad_file_is_left_out_and_told(
    tmp_path: Path, name: str, make: object, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(3):
        sound(tmp_path / f"good{n}.wav")
    make(tmp_path / name)  # type: ignore[operator]
    assert len(folder.scan(tmp_path, skip_bad=True)) == 3
    assert re.search(f"1 of 4 files are left out: .*({reason})", caplog.text, re.S)


def test_clipped_recordings_are_used_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for n in range(3):
        sound(tmp_path / f"good{n}.wav")
    soundfile.write(tmp_path / "loud.wav", np.clip(np.random.default_rng(0).normal(0, 5, 2 * RATE), -1, 1), RATE)
    assert len(folder.scan(tmp_path)) == 4
    assert "1 recordings are used although distorted: loud.wav is clipped" in caplog.text


def test_silence_in_one_block_does_not_make_a_recording_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "BLOCK_S", 1)
    for n in range(3):
        noise = np.random.default_rng(n).normal(0, 0.1, RATE)
        soundfile.write(tmp_path / f"{n}.wav", np.concatenate([np.zeros(2 * RATE), noise]), RATE)
    assert len(folder.scan(tmp_path)) == 3


def test_a_directory_without_sound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(PseError, match="holds no audio file"):
        folder.scan(tmp_path)
    sound(tmp_path / "a.wav", gain=0.0)
    with pytest.raises(PseError, match="1 of 1 files cannot be used: a.wav: is silent"):
        folder.scan(tmp_path, skip_bad=True)


def manifest(root: Path, text: str) -> Path:
    (root / "list.tsv").write_text(text, encoding="utf-8")
    return root / "list.tsv"


def test_a_manifest_rules_over_the_layout(tmp_path: Path) -> None:
    for name in ("noise/x/a_0.wav", "noise/x/a_1.wav", "noise/b.wav", "noise/unlisted.wav", "other/c.wav"):
        sound(tmp_path / name)
    table = manifest(
        tmp_path,
        "path\tspeaker\trecording\tcategory\tsplit\tduration_s\n"
        "noise/x/a_0.wav\t-\train 1\twater\tdev\t1.5\n"
        "noise/x/a_1.wav\t-\train 1\twater\tdev\t1.5000\n"
        "noise/b.wav\tann\t-\t-\ttest\t\n"
        "other/c.wav\t-\t-\t-\ttrain\t-\n",
    )
    found = {r.path.name: r for r in folder.scan(tmp_path / "noise", table)}
    assert {n: (r.split, r.category, r.speaker) for n, r in found.items()} == {
        "a_0.wav": ("valid", "water", "x"), "a_1.wav": ("valid", "water", "x"), "b.wav": ("test", "", "ann"),
    }  # fmt: skip
    assert found["a_0.wav"].group == found["a_1.wav"].group != found["b.wav"].group


def test_a_manifest_inside_the_directory_is_found(tmp_path: Path) -> None:
    for n in range(4):
        sound(tmp_path / f"{n}.wav")
    (tmp_path / "MANIFEST.tsv").write_text("path\trecording\n0.wav\tr\n1.wav\tr\n2.wav\ts\n3.wav\tt\n")
    splits = by_name(tmp_path)
    assert splits["0.wav"] == splits["1.wav"] and len(set(splits.values())) == 3


def test_quotes_blanks_and_links_in_a_manifest_are_taken_as_they_are(tmp_path: Path) -> None:
    sound(tmp_path / "data" / 'say "hi" 1.wav')
    (tmp_path / "link").symlink_to(tmp_path / "data")
    table = manifest(tmp_path, 'path\tsplit\ndata/say "hi" 1.wav\ttrain\n')
    assert [r.path for r in folder.scan(tmp_path / "link", table)] == [tmp_path / "link" / 'say "hi" 1.wav']


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.wav\tholdout\t", "line 5 of the manifest has the split 'holdout'"),
        ("a.wav\ttrain\tlong", "has the duration 'long'"),
        ("a.wav\ttrain\t2.0", "lasts 1.50 s, the manifest says 2.00 s"),
        ("gone.wav\ttrain\t", "gone.wav: no such file"),
        ("0.wav\ttrain\t", "0.wav: the manifest names it more than once"),
    ],
)
def test_bad_rows_are_refused_by_line_or_left_out(tmp_path: Path, row: str, reason: str) -> None:
    for name in ("0", "1", "2", "a"):
        sound(tmp_path / f"{name}.wav")
    good = "".join(f"{n}.wav\ttrain\t\n" for n in range(3))
    table = manifest(tmp_path, f"path\tsplit\tduration_s\n{good}{row}\n")
    with pytest.raises(PseError, match=re.escape(reason)):
        folder.scan(tmp_path, table)
    assert len(folder.scan(tmp_path, table, skip_bad=True)) in (2, 3)


def test_rows_outside_the_directory_do_not_count(tmp_path: Path) -> None:
    sound(tmp_path / "in" / "a.wav")
    sound(tmp_path / "out.wav")
    table = manifest(tmp_path, "path\tsplit\nin/a.wav\ttrain\nin/../out.wav\ttrain\n/etc/passwd\ttrain\n")
    assert by_name(tmp_path / "in", manifest=table) == {"a.wav": "train"}
    with pytest.raises(PseError, match="names no file below"):
        folder.scan(tmp_path / "in", manifest(tmp_path, "path\nout.wav\n"))


@pytest.mark.parametrize("content", [b"file\tx\na.wav\t1\n", b"", b"path\n\xff\xfe.wav\n"])
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    sound(tmp_path / "a.wav")
    (tmp_path / "list.tsv").write_bytes(content)
    with pytest.raises(PseError, match="list.tsv: (has no column|cannot be read)"):
        folder.scan(tmp_path, tmp_path / "list.tsv")


def test_a_split_for_some_rows_only_is_refused(tmp_path: Path) -> None:
    for n in range(3):
        sound(tmp_path / f"{n}.wav")
    with pytest.raises(PseError, match="2 of 3 recordings have no split: 1.wav, 2.wav"):
        folder.scan(tmp_path, manifest(tmp_path, "path\tsplit\n0.wav\ttrain\n1.wav\t\n2.wav\t-\n"))


def test_too_few_recordings_for_a_split_are_refused_with_the_directory(tmp_path: Path) -> None:
    sound(tmp_path / "only.wav")
    with pytest.raises(PseError, match="2 recordings|1 recordings cannot fill 3 parts; add recordings"):
        folder.scan(tmp_path)
