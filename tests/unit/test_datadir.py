"""Laws of pse.io.datadir: what is written is read, every fault is found at once, a repair is shown first."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pse.errors import PseError
from pse.io import datadir

RATE_HZ = 16000
IDS = ("s1-a", "s1-b", "s2-a", "s2-b", "s2-c")


@pytest.fixture
def tables(tmp_path) -> dict[str, dict[str, str]]:
    """Tables of a sound directory; the audio lies below a path with blanks, quotes and a dollar."""
    audio = tmp_path / "a b'c$d;e"
    audio.mkdir()
    wav, durations, lengths = {}, {}, {}
    for number, key in enumerate(IDS):
        length = 1600 * (number + 1)
        wav[key] = str(audio / f"{key}.wav")
        soundfile.write(wav[key], 0.1 * np.ones(length, dtype=np.float32), RATE_HZ)
        durations[key], lengths[key] = f"{length / RATE_HZ:.3f}", str(length)
    return {
        "wav.scp": wav,
        "utt2spk": {key: key.split("-")[0] for key in IDS},
        "utt2dur": durations,
        "utt2num_samples": lengths,
        "text": {key: "EINS ZWEI" for key in IDS},
    }


@pytest.fixture
def sound(tmp_path, tables) -> Path:
    directory = tmp_path / "data"
    datadir.write(directory, tables)
    return directory


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode())


def contents(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.is_file()}


def test_what_is_written_is_read_and_valid(sound, tables):
    assert datadir.read(sound) == tables
    assert datadir.validate(sound, sample_rate=RATE_HZ) == []
    assert (sound / "spk2utt").read_text() == "s1 s1-a s1-b\ns2 s2-a s2-b s2-c\n"


def test_lines_are_in_code_point_order_whatever_the_locale(tmp_path):
    keys = ["b", "A", "a", "B", "a-1", "a_1", "a.1", "a1"]
    datadir.write(tmp_path / "d", {"wav.scp": {k: "/x" for k in keys}, "utt2spk": {k: k for k in keys}})
    environ = {**os.environ, "LC_ALL": "C"}
    ours = (tmp_path / "d" / "wav.scp").read_bytes()
    assert subprocess.run(["sort"], input=ours, stdout=subprocess.PIPE, env=environ, check=True).stdout == ours


def test_any_order_and_tabs_are_read(sound, tables):
    lines = (sound / "wav.scp").read_text().splitlines()
    (sound / "wav.scp").write_text("\n".join(line.replace(" ", "\t", 1) for line in reversed(lines)))
    assert datadir.read(sound)["wav.scp"] == tables["wav.scp"]


def _pipe(d: Path) -> None:
    (d / "wav.scp").write_text(f"s1-a touch {d}/PWNED |\n" + (d / "wav.scp").read_text().split("\n", 1)[1])


# name: (how the directory is spoilt, words of the fault that must be reported)
FAULTS = {
    "crlf": (lambda d: edit(d / "utt2spk", "s1\n", "s1\r\n"), "utt2spk: 1 lines end in CR LF: line 1"),
    "bom": (lambda d: edit(d / "text", "s1-a", "\ufeffs1-a"), "text: starts with a byte order mark"),
    "latin-1": (lambda d: (d / "text").write_bytes(b"s1-a \xe4\n"), "text: is not UTF-8 (byte 5)"),
    "twice": (lambda d: edit(d / "utt2spk", "s1-b s1", "s1-a s1"), "utt2spk: 1 ids stand twice: s1-a"),
    "malformed": (lambda d: edit(d / "utt2spk", "s1-b s1", "s1-b"), "utt2spk: 1 malformed lines"),
    "two speakers": (lambda d: edit(d / "utt2spk", "s1-b s1", "s1-b s1 s2"), "do not name one speaker: s1-b"),
    "empty": (lambda d: (d / "utt2dur").write_text(""), "utt2dur: is empty"),
    "no newline": (lambda d: edit(d / "utt2dur", "0.500\n", "0.500"), "utt2dur: the last line has no newline"),
    "order": (lambda d: edit(d / "text", "s2-c", "s0-c"), "text: 1 ids are not in C order: s0-c"),
    "bad id": (lambda d: edit(d / "text", "s1-a", "-rf"), "text: 1 ids do not match"),
    "dot id": (lambda d: edit(d / "text", "s1-a", "../x"), "text: 1 ids do not match"),
    "missing key": (lambda d: edit(d / "text", "s1-a EINS ZWEI\n", ""), "text: 1 ids of wav.scp are missing: s1-a"),
    "foreign key": (lambda d: edit(d / "text", "s2-c", "s3-c"), "text: 1 ids are not in wav.scp: s3-c"),
    "no utt2spk": (lambda d: (d / "utt2spk").unlink(), "utt2spk: there is no such file"),
    "inverse": (lambda d: edit(d / "spk2utt", "s1-a s1-b", "s1-a"), "it is not the inverse of utt2spk: s1"),
    "pipe": (_pipe, "wav.scp: 1 entries are commands, which are not run: s1-a"),
    "gone": (lambda d: edit(d / "wav.scp", "s1-a.wav", "gone.wav"), "wav.scp: 1 audio files: no such file: s1-a"),
    "duration": (lambda d: edit(d / "utt2dur", "0.200", "0.230"), "utt2dur: 1 values differ from the audio: s1-b"),
    "not a duration": (lambda d: edit(d / "utt2dur", "0.200", "long"), "utt2dur: 1 values differ from the audio"),
    "samples": (lambda d: edit(d / "utt2num_samples", "3200", "3201"), "utt2num_samples: 1 values differ"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_named(sound, name):
    spoil, words = FAULTS[name]
    spoil(sound)
    assert [f for f in datadir.validate(sound) if words in f], datadir.validate(sound)
    assert not (sound / "PWNED").exists()


def test_all_faults_are_found_in_one_pass(sound):
    chosen = ("crlf", "bom", "malformed", "gone", "duration", "samples")
    for name in chosen:
        FAULTS[name][0](sound)
    found = "\n".join(datadir.validate(sound))
    assert [name for name in chosen if FAULTS[name][1] not in found] == []


def test_audio_faults_are_named(sound, tables):
    wav = tables["wav.scp"]
    soundfile.write(wav["s1-a"], np.ones(1600), 8000)
    soundfile.write(wav["s1-b"], np.zeros(0), RATE_HZ)
    Path(wav["s2-a"]).write_bytes(b"no audio at all")
    found = "\n".join(datadir.validate(sound))
    assert "not at 16000 Hz" in "\n".join(datadir.validate(sound, sample_rate=16000))
    assert "(8000 Hz)" in found
    assert "holds no samples: s1-b" in found
    assert "cannot be read as audio" in found and "s2-a" in found
    assert datadir.validate(sound, check_audio=False) == []


def test_a_reference_of_another_length_is_a_fault(sound, tables):
    (sound / "spk1.scp").write_text("".join(f"{k} {tables['wav.scp'][IDS[0]]}\n" for k in IDS))
    assert "spk1.scp: 4 files are not as long as those of wav.scp: s1-b, s2-a, s2-b and 1 more" in datadir.validate(
        sound
    )


def test_segments_are_checked_against_their_recordings(tmp_path, tables):
    directory = tmp_path / "seg"
    segments = {"s1-a-0": "s1-a 0 0.05", "s1-a-1": "s1-a 0.05 0.1", "s2-b-0": "s2-b 0.1 0.3"}
    datadir.write(
        directory,
        {
            "wav.scp": tables["wav.scp"],
            "segments": segments,
            "utt2spk": {k: k[:2] for k in segments},
            "utt2dur": {"s1-a-0": "0.050", "s1-a-1": "0.050", "s2-b-0": "0.200"},
        },
    )
    assert datadir.validate(directory) == []
    edit(directory / "segments", "s1-a 0.05 0.1", "s1-a 0.05 0.9")
    edit(directory / "segments", "s2-b 0.1 0.3", "s9 0.3 0.1")
    found = "\n".join(datadir.validate(directory))
    assert "segments: 1 segments end after their recording: s1-a-1" in found
    assert "start < end: s2-b-0" in found
    datadir.fix(directory, apply=True)
    assert datadir.validate(directory) == []
    assert list(datadir.read(directory)["segments"]) == ["s1-a-0"]


def test_a_speaker_that_is_no_prefix_is_a_warning_only(sound, capsys):
    edit(sound / "spk2utt", "s1 s1-a", "r1 s1-a")
    for key in ("s1-a", "s1-b"):
        edit(sound / "utt2spk", f"{key} s1", f"{key} r1")
    assert datadir.main(["validate", str(sound)]) == 0
    assert "warning: utt2spk: 2 utterance ids do not begin with" in capsys.readouterr().out


def test_reading_refuses_what_would_lose_data(sound):
    for name in ("twice", "malformed", "crlf", "pipe"):
        before = contents(sound)
        FAULTS[name][0](sound)
        with pytest.raises(PseError, match="fix_data_dir.sh"):
            datadir.read(sound)
        for file, content in before.items():
            (sound / file).write_bytes(content)


@pytest.mark.parametrize("name", [n for n in FAULTS if n != "latin-1"])
def test_a_repaired_directory_is_valid_and_stays_as_it_is(sound, name):
    FAULTS[name][0](sound)
    before = contents(sound)
    proposed = datadir.fix(sound)
    assert proposed and contents(sound) == before
    assert datadir.fix(sound, apply=True) == proposed
    assert datadir.validate(sound) == []
    assert datadir.fix(sound, apply=True) == ""
    backup = contents(sound / ".backup" / "1")
    after = contents(sound)
    assert backup == {n: c for n, c in before.items() if after[n] != c}


def test_each_repair_has_its_own_backup(sound):
    for number in (1, 2):
        edit(sound / "utt2dur", "0.400", "0.900")
        datadir.fix(sound, apply=True)
        assert b"0.900" in (sound / ".backup" / str(number) / "utt2dur").read_bytes()


def test_a_repair_that_would_leave_nothing_is_refused(sound):
    (sound / "text").write_text("other EINS\n")
    before = contents(sound)
    with pytest.raises(PseError, match="no id is in all"):
        datadir.fix(sound, apply=True)
    assert contents(sound) == before


@pytest.mark.parametrize(
    "tables",
    [
        {"wav.scp": {"a b": "/x"}},
        {"wav.scp": {"-a": "/x"}},
        {"wav.scp": {"a": "/x\ny"}},
        {"wav.scp": {"a": ""}},
        {"wav.scp": {"a": "/x "}},
        {"wav.scp": {"a": "/x"}, "utt2spk": {"b": "b"}},
        {"wav.scp": {"a": "/x"}, "utt2spk": {"a": "s"}, "spk2utt": {"s": "b"}},
        {"wav.scp": {"a": "/x"}, "spk2utt": {"s": "a"}},
        {"wav.scp": {"a": "/x"}, "../utt2spk": {"a": "a"}},
    ],
)
def test_what_would_not_be_valid_is_not_written(tmp_path, tables):
    with pytest.raises(PseError):
        datadir.write(tmp_path / "d", tables)
    assert list(tmp_path.iterdir()) == []


def test_writing_again_replaces_the_whole_directory_and_keeps_backups(sound, tables):
    edit(sound / "utt2dur", "0.400", "0.900")
    datadir.fix(sound, apply=True)
    datadir.write(sound, {name: tables[name] for name in ("wav.scp", "utt2spk")})
    assert sorted(p.name for p in sound.iterdir()) == [".backup", "spk2utt", "utt2spk", "wav.scp"]
