"""The audio cache holds what the files hold, at one rate; what cannot be used is named all at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from pse.data.cache import AudioCache, MemoryCache, first_seconds, select
from pse.data.cache_build import build
from pse.errors import PseError, StageMissingError
from pse.io import audio, datadir

RATE = 16000


def signal(seed: int, rate: int = RATE, seconds: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(round(rate * seconds)) / rate
    return sum(0.1 * np.sin(2 * np.pi * f * time) for f in rng.uniform(100, 3000, 4))


def make(tmp_path: Path, files: dict[str, tuple[np.ndarray, int]], **options: str) -> Path:
    audio = tmp_path / "it's audio"
    audio.mkdir(exist_ok=True)
    scp, seconds = {}, {}
    for utt, (samples, rate) in files.items():
        soundfile.write(audio / f"{utt}.wav", samples, rate, **options)
        seconds[utt] = f"{len(samples) / rate:.6f}"
        scp[utt] = str(audio / f"{utt}.wav")
    tables = {"wav.scp": scp, "utt2spk": {u: u.split("-")[0] for u in scp}, "utt2dur": seconds}
    datadir.write(tmp_path / "data", tables)
    return tmp_path / "data"


def test_any_crop_is_what_the_file_holds(tmp_path: Path) -> None:
    files = {f"s{i % 2}-{i}": (signal(i, seconds=0.5 + 0.1 * i), RATE) for i in range(5)}
    build(make(tmp_path, files), tmp_path / "dump", RATE, 2, lambda line: None)
    cache = AudioCache(tmp_path / "dump")
    for utt, (samples, _) in files.items():
        np.testing.assert_allclose(cache.read(utt), samples, atol=1e-4)
        np.testing.assert_allclose(cache.read(utt, 1000, 2000), samples[1000:3000], atol=1e-4)
        assert len(cache.read(utt, len(samples) - 10, 500)) == 10
    assert cache.of_speaker("s0") == ["s0-0", "s0-2", "s0-4"] == select(cache, ["s0"])
    assert datadir.validate(tmp_path / "dump") == []
    with pytest.raises(PseError, match="no utterance of speaker x"):
        select(cache, ["x"])


def test_other_rates_and_channels_are_converted_and_told(tmp_path: Path) -> None:
    both = np.stack([signal(1), -signal(1) / 2], axis=1)
    files = {"a-1": (both, RATE), "a-4": (signal(4), RATE)}
    files |= {"a-2": (signal(2, 44100), 44100), "a-3": (signal(3, 8000), 8000)}
    told: list[str] = []
    build(make(tmp_path, files), tmp_path / "dump", RATE, 1, told.append)
    cache = AudioCache(tmp_path / "dump")
    np.testing.assert_allclose(cache.read("a-1"), signal(1) / 4, atol=1e-4)
    np.testing.assert_allclose(cache.read("a-2")[300:-300], signal(2)[300:-300], atol=3e-3)
    assert all(cache.num_samples[u] == RATE for u in files)
    assert "data: 1 of 4 recordings resampled from 44100 to 16000 Hz" in told
    assert "data: 1 of 4 recordings averaged over 2 channels" in told
    scp = datadir.read(tmp_path / "dump")["wav.scp"]
    assert [Path(scp[u]).suffix for u in sorted(scp)] == [".flac", ".flac", ".flac", ".wav"]
    assert all(soundfile.info(p).samplerate == RATE and soundfile.info(p).channels == 1 for p in scp.values())


def test_clipped_audio_is_told_and_loud_audio_is_turned_down(tmp_path: Path) -> None:
    # Another rate bends the flat tops of what is clipped.
    wide = np.clip(8 * audio.resample(np.random.default_rng(0).standard_normal(2 * RATE) / 8, RATE, 3 * RATE), -1, 1)
    files = {"a-1": (np.clip(10 * signal(1), -1, 1), RATE), "a-2": (9 * signal(2), RATE), "a-3": (wide, 3 * RATE)}
    told: list[str] = []
    build(make(tmp_path, files, subtype="FLOAT"), tmp_path / "dump", RATE, 1, told.append)
    assert "data: 2 of 3 recordings clipped when recorded" in told
    assert "turned down to full scale" in " ".join(told)
    loud = AudioCache(tmp_path / "dump").read("a-2")
    np.testing.assert_allclose(loud, signal(2) / np.abs(signal(2)).max(), atol=1e-3)


def test_everything_unusable_is_named_in_one_line_and_nothing_is_left(tmp_path: Path) -> None:
    bad = signal(2).copy()
    bad[3] = np.inf
    files = {"a-1": (signal(1), RATE), "a-2": (bad, RATE), "a-3": (np.zeros(RATE), RATE)}
    source = make(tmp_path, files, subtype="FLOAT")
    with pytest.raises(PseError, match=r"2 of 3 recordings cannot be used: .*NaN or infinite.*silent") as caught:
        build(source, tmp_path / "dump", RATE, 1, lambda line: None)
    assert "\n" not in str(caught.value) and not (tmp_path / "dump").exists()


def test_a_cache_that_does_not_fit_its_lists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageMissingError, match="--stage features"):
        AudioCache(tmp_path / "dump")
    build(make(tmp_path, {"a-1": (signal(1), RATE)}), tmp_path / "dump", RATE, 1, lambda line: None)
    table = tmp_path / "dump" / "utt2num_samples"
    table.write_text("a-1 15999\n")
    with pytest.raises(PseError, match="its list says 15999"):
        AudioCache(tmp_path / "dump")


def test_the_first_seconds_are_cut_across_recordings_and_never_more_than_there_is() -> None:
    cache = MemoryCache({"a": np.ones(RATE), "b": np.full(RATE, 2.0)}, "s", RATE)
    clip = first_seconds(cache, "s", 1.5)
    assert clip.num_samples == {"s-first": 24000}
    np.testing.assert_array_equal(clip.read("s-first", RATE), np.full(8000, 2.0))
    assert first_seconds(cache, "s", 60).num_samples == {"s-first": 2 * RATE}
