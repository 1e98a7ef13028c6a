"""Audio in and out: every kind of bad file has its line, and good ones keep their level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from pse.errors import PseError
from pse.io import audio

RATE = 16000


def tone(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_what_is_written_is_read_again(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a b'c$d.{ending}"
    audio.write(path, tone(), RATE)
    samples, rate = audio.read(path)
    assert rate == RATE and samples.dtype == np.float32
    np.testing.assert_allclose(samples, tone(), atol=2 / 32768)


def test_loud_samples_are_never_clipped(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", 5 * tone(), RATE)
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav")[0], 5 * tone(), rtol=1e-6)
    with pytest.raises(PseError, match="clip"):
        audio.write(tmp_path / "a.flac", 5 * tone(), RATE)


def test_the_lowest_16_bit_value_is_no_overload(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.flac", np.array([-1.0, 0.5], np.float32), RATE)
    assert audio.read(tmp_path / "a.flac")[0].tolist() == [-1.0, 0.5]


def test_channels_are_averaged_and_kept_apart_on_request(tmp_path: Path) -> None:
    both = np.stack([tone(), -0.5 * tone()])
    audio.write(tmp_path / "a.wav", both, RATE)
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav")[0], 0.25 * tone(), atol=1e-4)
    np.testing.assert_allclose(audio.read_channels(tmp_path / "a.wav")[0], both, atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_resampling_keeps_a_tone(tmp_path: Path, rate: int) -> None:
    audio.write(tmp_path / "a.wav", tone(rate=rate), rate)
    samples, got = audio.read(tmp_path / "a.wav", RATE)
    assert got == RATE and len(samples) == RATE
    inner = slice(500, -500)
    np.testing.assert_allclose(samples[inner], tone()[inner], atol=2e-3)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "DOUBLE", "ULAW"])
def test_every_usual_encoding_is_read(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE, subtype=subtype)
    assert np.corrcoef(audio.read(tmp_path / "a.wav")[0], tone())[0, 1] > 0.999


def corrupt(path: Path, kind: str) -> None:
    audio.write(path, tone(), RATE)
    whole = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "header only":
        soundfile.write(path, np.zeros(0), RATE)
    elif kind == "random":
        path.write_bytes(bytes(range(256)) * 8)
    elif kind == "cut":
        audio.write(path.with_suffix(".flac"), np.random.default_rng(0).uniform(-0.5, 0.5, RATE), RATE)
        path.write_bytes(path.with_suffix(".flac").read_bytes()[:9000])
    elif kind == "short wav":
        path.write_bytes(whole[:300])
    elif kind == "nan":
        broken = tone()
        broken[7] = np.nan
        soundfile.write(path, broken, RATE, subtype="FLOAT")
    elif kind == "1 Hz":
        path.write_bytes(whole[:24] + (1).to_bytes(4, "little") + whole[28:])
    else:
        raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("missing", "no such file"),
        ("empty", "0 bytes"),
        ("header only", "no samples"),
        ("random", "cannot be read"),
        ("cut", "cannot be decoded|truncated"),
        ("short wav", "truncated: 256 of 32000 bytes"),
        ("nan", "1 samples that are NaN"),
        ("1 Hz", "sample rate of 1 Hz, and 4000 to 384000 Hz are read; convert it"),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path: Path, kind: str, told: str) -> None:
    path = tmp_path / "it's bad.wav"
    corrupt(path, kind)
    with pytest.raises(PseError, match=told) as caught:
        audio.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_faults_of_decoded_audio_are_found() -> None:
    assert audio.faults(tone()) == []
    assert "silent" in audio.faults(np.zeros(100, np.float32))[0]
    assert "clipped" in audio.faults(np.clip(20 * tone(), -1, 1))[0]
    assert "no samples" in audio.faults(np.zeros(0, np.float32))[0]
    speechlike = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    assert audio.faults(speechlike / np.abs(speechlike).max()) == []
    # Turned down after it was clipped, in 16 bits; and clipped a little, as a loud voice is.
    for gain, level in ((20, 0.3), (1.5, 1.0)):
        turned_down = np.round(level * np.clip(gain * speechlike, -1, 1) * 32768) / 32768
        assert "clipped" in audio.faults(turned_down)[0]
    assert audio.faults(np.round(0.01 * speechlike * 32768) / 32768) == []


def test_a_part_of_a_file_is_that_part(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", tone(), RATE)
    whole, _ = audio.read(tmp_path / "a.wav")
    part, _ = audio.read(tmp_path / "a.wav", None, 1000, 500)
    np.testing.assert_array_equal(part, whole[1000:1500])
    with pytest.raises(PseError, match="truncated"):
        audio.read(tmp_path / "a.wav", None, 15900, 500)
