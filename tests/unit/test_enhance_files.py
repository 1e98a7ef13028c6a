"""`pse enhance` on files: block by block what the whole array gives, and nothing replaced that was not meant to be."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from pse import cli
from pse.commands import blockwise, status
from pse.commands.enhance import enhance_file
from pse.commands.files import jobs_of
from pse.commands.matching import match
from pse.commands.separate import separate_file
from pse.errors import PseError
from pse.inference import engine
from pse.inference.package import save_package
from pse.io import audio, blocks
from pse.models.base import build
from tests.unit.test_engine import Identity

GRU = {"name": "gru_mask", "hidden_size": 4}
DC = {"name": "blstm_embedding", "hidden_size": 8, "num_layers": 1, "embedding_size": 4}


def noise(*shape: int, peak: float = 0.5) -> np.ndarray:
    return np.random.default_rng(0).uniform(-peak, peak, shape).astype(np.float32)


@pytest.fixture()
def package(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_package(tmp_path / "model", build(GRU, "x"), GRU, "# a card\n")
    return tmp_path / "model"


@pytest.mark.parametrize(("before", "after"), [(48000, 16000), (16000, 44100), (11025, 8000), (8000, 8000)])
@pytest.mark.parametrize("num_samples", [0, 1, 7, 3001])
@pytest.mark.parametrize("size", [1, 160, 4000])
def test_resampling_in_blocks_is_resampling(before: int, after: int, num_samples: int, size: int) -> None:
    samples, resampler = noise(2, num_samples), blocks.Resampler(before, after, 2)
    parts = [resampler.push(samples[:, start : start + size]) for start in range(0, num_samples, size)]
    got = np.concatenate([*parts, resampler.flush()], 1)
    expected = np.stack([audio.resample(channel, before, after) for channel in samples]) if num_samples else got[:, :0]
    assert got.shape == expected.shape and np.allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("num_seconds", [0.1, 1.0, 3.0, 3.5, 4.0, 7.3])
@pytest.mark.parametrize("size", [1000, 16000, 50001])
def test_blocks_of_any_size_are_the_chunks_of_the_whole(
    num_seconds: float, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CHUNK_S", 2.0)
    torch.manual_seed(0)
    model, samples = build(GRU, "x").eval(), noise(2, round(num_seconds * 16000))
    worker = engine.in_blocks(model, 16000, 2)
    parts = [worker.push(samples[:, start : start + size]) for start in range(0, samples.shape[1], size)]
    got = np.concatenate([*parts, worker.flush()], 1)
    for channel, out in zip(samples, got, strict=True):
        assert np.allclose(out, stitched(model, channel, 32000, 16000), atol=1e-6)


def stitched(model: torch.nn.Module, samples: np.ndarray, size: int, overlap: int) -> np.ndarray:
    """Chunks of the whole signal, added up under ramps."""
    out, fade = np.zeros(len(samples)), np.linspace(0.0, 1.0, overlap)
    starts = range(0, max(1, len(samples) - overlap), size)
    for start in starts:
        with torch.inference_mode():
            part = model(torch.from_numpy(samples[start : start + size + overlap])[None]).wavs[0, 0].numpy()
        ramp = np.ones(len(part))
        if start:
            ramp[:overlap] *= fade
        if start != starts[-1]:
            ramp[size:] *= 1.0 - fade
        out[start : start + len(part)] += ramp * part
    return out


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2), (8000, 3)])
def test_a_file_is_enhanced_as_its_array_and_keeps_rate_length_and_channels(
    rate: int, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 5000)
    torch.manual_seed(0)
    # Beyond full scale, so that no rounding to 16 bits hides anything.
    model, samples = build(GRU, "x").eval(), noise(channels, 3 * rate + 1, peak=2.5)
    soundfile.write(tmp_path / "in.wav", samples.T, rate, "FLOAT")
    assert enhance_file(model, tmp_path / "in.wav", tmp_path / "new" / "out.wav") == pytest.approx(3, abs=1e-3)
    got, got_rate = soundfile.read(tmp_path / "new" / "out.wav", dtype="float32", always_2d=True)
    assert got_rate == rate and np.abs(got).max() > 1.0
    assert np.allclose(got.T, engine.enhance(model, samples, rate), atol=1e-5)


def test_a_directory_has_files_of_every_format_and_no_results_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "in"
    place.mkdir()
    for name, kind in (("a.wav", "WAV"), ("b.w64", "W64"), ("c.caf", "CAF"), ("d.flac", "FLAC")):
        soundfile.write(place / name, noise(1, 100).T, 16000, format=kind)
    (place / "e.m4a").write_bytes(b"x")
    soundfile.write(place / "f.wav", noise(1, 100).T, 16000)
    out = place / "cleaned"
    out.mkdir()
    shutil.copy(place / "a.wav", out / "a.wav")
    found = jobs_of([place], out, overwrite=True)
    assert [job.target.relative_to(out).name for job in found] == ["a.wav", "b.wav", "c.wav", "d.wav", "f.wav"]
    (line,) = capsys.readouterr().err.splitlines()
    assert "1 files are of formats that are not read here: e.m4a" in line and "ffmpeg" in line


def test_files_of_a_directory_that_would_be_called_alike_keep_their_endings(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, out = tmp_path / "in", tmp_path / "out"
    for name in ("talk.wav", "talk.flac", "day 1/talk.wav", "solo.flac", "solo.flac.wav", "twice.wav", "twice.flac",
                 "twice.flac.wav"):  # fmt: skip
        audio.write(place / name, noise(3000), 16000)
    named = {str(job.source.relative_to(place)): str(job.target.relative_to(out))
             for job in jobs_of([place], out, overwrite=False)}  # fmt: skip
    assert named == {
        "talk.wav": "talk.wav.wav", "talk.flac": "talk.flac.wav", "day 1/talk.wav": "day 1/talk.wav",
        "solo.flac": "solo.wav", "solo.flac.wav": "solo.flac.wav",
        # The longer name of one is the shorter one of another.
        "twice.wav": "twice.wav.wav", "twice.flac": "twice.flac.wav", "twice.flac.wav": "twice.flac.wav.wav",
    }  # fmt: skip
    assert cli.main(["enhance", str(place), "-o", str(out), "--model", str(package)]) == 0
    assert {str(p.relative_to(out)) for p in out.rglob("*.wav")} == set(named.values())
    # `pse report` finds the pairs.
    found = match([place, out])
    assert not found.notes and len(found.recordings) == 8
    pairs = [{c: str(found.files[c][n][0].relative_to(tmp_path / c)) for c in ("in", "out")} for n in found.recordings]
    assert {pair["in"]: pair["out"] for pair in pairs} == named


def test_recordings_of_one_name_are_both_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = [str(tmp_path / "a" / "talk.wav"), str(tmp_path / "b" / "talk.mp3")]
    for verb in ("enhance", "separate"):
        assert cli.main([verb, *pair, "-o", str(tmp_path / "out")]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"out/talk.wav: would be the result of {pair[0]}, {pair[1]}; give them in calls of their own" in line


def test_no_result_takes_the_place_of_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    separator = tmp_path / "separator"
    torch.manual_seed(0)
    save_package(separator, build(DC, "x"), DC, "# a card\n")
    place = tmp_path / "here"
    for name in ("talk", "talk_3", "talk_residual"):
        audio.write(place / f"{name}.wav", noise(8000), 8000)
    kept = {path: path.read_bytes() for path in place.iterdir()}
    command = ["separate", "--overwrite", "--model", str(separator), "--num_speakers", "2", "-o", str(place)]
    for other in ("talk_3", "talk_residual"):
        assert cli.main([*command, str(place / "talk.wav"), str(place / f"{other}.wav")]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{other}.wav: would be overwritten by the result of {place}/talk.wav" in line
    # The id of one is the name of the other.
    (tmp_path / "wav.scp").write_text(f"talk {place}/talk_3.wav\nu2 {place}/talk.wav\n")
    assert cli.main(["enhance", "--overwrite", str(tmp_path / "wav.scp"), "-o", str(place)]) == 1
    assert f"talk.wav: would be overwritten by the result of {place}/talk_3.wav" in capsys.readouterr().err
    assert cli.main(["enhance", "--overwrite", str(place / "talk.wav"), "-o", str(place)]) == 1
    assert "talk.wav: would be overwritten by its own result" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in place.iterdir()} == kept
    # None of the names that are written is that of the recording.
    (place / "talk_residual.wav").unlink()
    assert cli.main([*command, str(place / "talk.wav")]) == 0
    assert {p.name for p in place.iterdir()} == {"talk.wav", *(f"talk_{n}.wav" for n in (1, 2, "residual"))}
    assert (place / "talk.wav").read_bytes() == kept[place / "talk.wav"]


@pytest.mark.parametrize(
    ("ending", "subtype", "written"),
    [
        ("wav", "PCM_U8", "PCM_16"), ("wav", "PCM_16", "PCM_16"), ("flac", "PCM_24", "PCM_24"),
        ("wav", "PCM_32", "PCM_24"), ("caf", "ALAC_24", "PCM_24"), ("wav", "FLOAT", "FLOAT"),
        ("caf", "DOUBLE", "FLOAT"), ("mp3", "MPEG_LAYER_III", "PCM_16"), ("ogg", "VORBIS", "PCM_16"),
        ("ogg", "OPUS", "PCM_16"),
    ],
)  # fmt: skip
def test_a_result_is_as_fine_as_its_recording(ending: str, subtype: str, written: str, tmp_path: Path) -> None:
    place = tmp_path / f"in.{ending}"
    # Below half a step of 16 bits.
    soundfile.write(place, noise(16000, peak=1e-5 if written != "PCM_16" else 0.5), 16000, subtype)
    enhance_file(Identity(), place, tmp_path / "whole.wav")
    torch.manual_seed(0)
    separate_file(build(DC, "x").eval(), place, tmp_path / "part.wav", 2)
    results = [tmp_path / f"{name}.wav" for name in ("whole", "part_1", "part_2", "part_residual")]
    assert [soundfile.info(path).subtype for path in results] == [written] * 4
    given, whole, *parts = (audio.read(path)[0] for path in (place, *results))
    step = {"PCM_16": 2.0**-15, "PCM_24": 2.0**-23, "FLOAT": 1e-9}[written]
    assert np.abs(whole - given).max() <= 2 * step and np.abs(sum(parts) - given).max() <= 5 * step


def test_what_24_bits_would_clip_is_written_as_float(tmp_path: Path) -> None:
    top = float(np.nextafter(np.float32(1), np.float32(0)))
    for peak, subtype in ((1 - 2**-20, "PCM_24"), (-1.0, "PCM_24"), (top, "FLOAT"), (-1.01, "FLOAT")):
        samples = np.array([0.5, peak], np.float32)
        audio.write(tmp_path / "a.wav", samples, 8000, "PCM_24")
        with blocks.writing_wav(tmp_path / "b.wav", 8000, 1, "PCM_24") as write:
            write(samples[None])
        for name in ("a.wav", "b.wav"):
            assert soundfile.info(tmp_path / name).subtype == subtype
            assert np.abs(audio.read(tmp_path / name)[0] - samples).max() <= 2 * 2.0**-23


@pytest.mark.parametrize(("peak", "subtype"), [(0.9, "PCM_16"), (1.5, "FLOAT")])
def test_what_16_bits_would_clip_is_written_as_float(peak: float, subtype: str, tmp_path: Path) -> None:
    samples = noise(2, 9000)
    samples[1, 8000] = -peak
    with blocks.writing_wav(tmp_path / "a.wav", 8000, 2) as write:
        for start in range(0, 9000, 999):
            write(samples[:, start : start + 999])
        assert not (tmp_path / "a.wav").exists()
    audio.write(tmp_path / "whole.wav", samples, 8000)
    assert soundfile.info(tmp_path / "a.wav").subtype == subtype
    pair = [soundfile.read(tmp_path / name)[0] for name in ("a.wav", "whole.wav")]
    assert np.array_equal(*pair) and sorted(p.name for p in tmp_path.iterdir()) == ["a.wav", "whole.wav"]


def test_a_wav_file_too_large_for_its_header_is_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MAX_WAV_BYTES", 1000)
    with blocks.writing_wav(tmp_path / "a.wav", 8000, 1) as write:
        write(noise(1, 501))
    assert soundfile.info(tmp_path / "a.wav").format == "RF64"
    with blocks.reading(tmp_path / "a.wav") as (info, parts):
        got = np.concatenate(list(parts(100)), 1)
    assert info.num_samples == 501 and np.allclose(got, noise(1, 501), atol=1e-4)


def test_a_fault_in_the_middle_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 1000)
    bad = noise(5000)
    bad[4321] = np.nan
    soundfile.write(tmp_path / "in.wav", bad, 16000, "FLOAT")
    (tmp_path / "out.wav").write_bytes(b"old")
    with pytest.raises(PseError, match=r"1 samples that are NaN or infinite from second 0\.2 on"):
        enhance_file(Identity(), tmp_path / "in.wav", tmp_path / "out.wav")
    soundfile.write(tmp_path / "in.wav", noise(5000), 16000)

    class Broken(Identity):
        def forward(self, mix: torch.Tensor) -> None:
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        enhance_file(Broken(), tmp_path / "in.wav", tmp_path / "out.wav")
    assert (tmp_path / "out.wav").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.wav", "out.wav"]


def test_a_result_that_is_there_stays_unless_it_may_be_replaced(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        audio.write(tmp_path / "in" / f"{name}.wav", noise(3000), 16000)
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.wav").write_bytes(b"old")
    command = ["enhance", str(tmp_path / "in"), "-o", str(out), "--model", str(package)]
    assert cli.main(command) == 0
    told = capsys.readouterr()
    assert "1 of 2 results are there already and are left as they are; --overwrite" in told.err and "b.wav" in told.out
    assert (out / "a.wav").read_bytes() == b"old" and audio.probe(out / "b.wav").num_samples == 3000
    # Who names one recording wants that one.
    one = ["enhance", str(tmp_path / "in" / "a.wav"), *command[2:]]
    assert cli.main(one) == 1 and "a.wav: is there already; add --overwrite" in capsys.readouterr().err
    assert cli.main([*command, "--overwrite"]) == 0
    assert audio.probe(out / "a.wav").num_samples == 3000


@pytest.mark.parametrize("there", [1, 3])
def test_speakers_that_are_there_stay_unless_they_may_be_replaced(there: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build(DC, "x").eval()
    audio.write(tmp_path / "in.wav", noise(8000), 8000)
    (tmp_path / f"x_{there}.wav").write_bytes(b"old")
    with pytest.raises(PseError, match=f"x_{there}.wav: is there already"):
        separate_file(model, tmp_path / "in.wav", tmp_path / "x.wav", 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.wav", f"x_{there}.wav"]
    done = separate_file(model, tmp_path / "in.wav", tmp_path / "x.wav", 3, overwrite=True)
    speakers = {f"spk{n}.scp": tmp_path / f"x_{n}.wav" for n in (1, 2, 3)}
    assert done.written == speakers | {"residual.scp": tmp_path / "x_residual.wav"}
    assert audio.probe(tmp_path / f"x_{there}.wav").num_samples == 8000


def test_speakers_that_are_all_there_are_left_and_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save_package(tmp_path / "model", build(DC, "x").eval(), DC, "A model.\n")
    for name in ("a", "b"):
        audio.write(tmp_path / f"{name}.wav", noise(8000), 8000)
    Path("wav.scp").write_text("a a.wav\nb b.wav\n")
    command = ["separate", "wav.scp", "-o", "out", "--model", "model", "--num_speakers", "2"]
    assert cli.main(command) == 0
    lists = {p.name: p.read_text() for p in Path("out").glob("*.scp")}
    assert sorted(lists) == ["residual.scp", "spk1.scp", "spk2.scp"]
    for path in [*Path("out").glob("*.scp"), *Path("out").glob("b_*.wav")]:
        path.unlink()
    capsys.readouterr()
    assert cli.main(command) == 0 and "1 of 2 results are there already" in capsys.readouterr().err
    assert {p.name: p.read_text() for p in Path("out").glob("*.scp")} == lists
    # Some of the files alone are somebody's, and no result.
    for gone in ("a_1.wav", "b_residual.wav"):
        (Path("out") / gone).unlink()
    assert cli.main(command) == 1
    told = capsys.readouterr().err
    assert "a_residual.wav: is there already" in told and "b_1.wav: is there already" in told


def test_a_list_of_recordings_becomes_a_list_of_results(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two words"):
        audio.write(tmp_path / f"{name}.wav", noise(3000), 16000)
    Path("wav.scp").write_text("u2 two words.wav\nu1 one.wav\nu3 nowhere.wav\n")
    command = ["enhance", "wav.scp", "-o", "out", "--model", str(package)]
    assert cli.main(command) == 1
    assert "nowhere.wav: no such file" in capsys.readouterr().err
    listed = f"u1 {tmp_path}/out/u1.wav\nu2 {tmp_path}/out/u2.wav\n"
    assert Path("out/wav.scp").read_text() == listed
    # Another time, what is missing is added.
    audio.write(tmp_path / "nowhere.wav", noise(3000), 16000)
    assert cli.main(command) == 0 and "2 of 3" in capsys.readouterr().err
    whole = f"{listed}u3 {tmp_path}/out/u3.wav\n"
    assert Path("out/wav.scp").read_text() == whole
    # A call that was killed has listed nothing.
    Path("out/wav.scp").unlink()
    assert cli.main(command) == 0 and Path("out/wav.scp").read_text() == whole
    assert {audio.probe(p).num_samples for p in Path("out").glob("*.wav")} == {3000}


def test_a_band_that_the_model_does_not_have_is_told_once(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, rate in enumerate((16000, 44100, 48000)):
        audio.write(tmp_path / "in" / f"{number}.wav", noise(3000), rate)
    # Droppings of other systems are no recordings.
    (tmp_path / "in" / "._1.wav").write_bytes(b"Mac")
    assert cli.main(["enhance", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(package)]) == 0
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("note: ")]
    assert line.endswith("1.wav has 44,100 Hz, the model works at 16,000 Hz: what is above 8 kHz is not in the results")


@pytest.mark.parametrize(
    ("content", "told"),
    [("a sox x.wav |\n", "commands"), ("a\n", "malformed"), ("../a x.wav\n", "do not match"), ("", "empty")],
)
def test_a_list_that_cannot_be_trusted_is_one_line(
    content: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wav.scp").write_text(content)
    assert cli.main(["enhance", str(tmp_path / "wav.scp"), "-o", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert told in said and len(said.splitlines()) == 1


def test_a_list_of_other_recordings_is_not_changed(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio.write(tmp_path / "x.wav", noise(3000), 16000)
    for name in ("data", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "wav.scp").write_text(f"a {tmp_path}/x.wav\n")
    command = ["enhance", "--model", str(package), str(tmp_path / "data" / "wav.scp"), "-o"]
    for place, told in (("data", "by the list of results"), ("other", "other recordings of 1 ids: a")):
        assert cli.main([*command, str(tmp_path / place)]) == 1
        assert told in capsys.readouterr().err
        assert [p.name for p in (tmp_path / place).iterdir()] == ["wav.scp"]
    assert cli.main([*command, str(tmp_path / "data"), "--overwrite"]) == 1
    assert cli.main([*command, str(tmp_path / "other"), "--overwrite"]) == 0
    assert (tmp_path / "other" / "wav.scp").read_text() == f"a {tmp_path}/other/a.wav\n"


def test_progress_tells_the_part_the_speed_and_the_rest() -> None:
    assert status.told("talk.wav", 0.25, 3600.0, 22.5) == "talk.wav: 25 %, 40 times real time, 1:08 left"
    assert [status.clock(s) for s in (0.2, 59.6, 3600, 45296)] == ["0:00", "1:00", "1:00:00", "12:34:56"]


@pytest.mark.parametrize(("terminal", "times"), [(True, 9), (False, 4)])
def test_a_line_is_renewed_on_a_terminal_and_repeated_elsewhere(
    terminal: bool, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, now = io.StringIO(), [0.0]
    monkeypatch.setattr(shown, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(status.time, "monotonic", lambda: now.__setitem__(0, now[0] + 2.5) or now[0])
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 1000)
    soundfile.write(tmp_path / "in.wav", noise(10000), 16000)
    blockwise.convert(tmp_path / "in.wav", tmp_path / "out.wav", lambda rate, n: engine.in_blocks(Identity(), rate, n))
    told = shown.getvalue()
    assert told.count("in.wav: ") == times and "in.wav: 80 %" in told
    assert told.count("\n") == (0 if terminal else times) and told.endswith("\r\x1b[K") == terminal


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    program = (
        "import resource, sys, torch\nfrom pathlib import Path\n"
        "from pse.commands.enhance import enhance_file\nfrom tests.unit.test_engine import Identity\n"
        "enhance_file(Identity(), Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for minutes in (2, 32):
        with soundfile.SoundFile(tmp_path / "in.wav", "w", 16000, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(noise(960000))
        command = [sys.executable, "-c", program, str(tmp_path / "in.wav"), str(tmp_path / "out.wav")]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
        peaks.append(int(done.stdout) / 1024)
    # The whole of it would be 123 MB, and several copies.
    assert peaks[1] < peaks[0] + 60
