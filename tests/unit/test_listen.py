"""`pse listen`: in a file what the model makes of the whole, live what was said a moment ago; faults in one line.

There is no sound card here. A stand-in for the package sounddevice calls back as PortAudio does: from a thread of its
own, with one buffer for all blocks, with flags for what was lost, until the device is gone.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from pse import cli
from pse.commands import listen
from pse.errors import EnvironmentFault, PseError
from pse.inference import live
from pse.inference.listening import Listened, Load, sound_stream
from pse.inference.package import save_package
from pse.io import audio
from pse.models.base import build
from tests.packages import EMBEDDING, VOICE

RATE = 16000
GRU = {"name": "gru_mask", "hidden_size": 8, "n_fft": 64, "hop": 16, "normalize": "running"}
TWO = {
    "name": "conv_tasnet", "bottleneck_channels": 4, "hidden_channels": 6, "num_filters": 20, "skip_channels": 5,
    "num_blocks": 3, "num_repeats": 1, "causal": True, "normalize": "none", "num_sources": 2,
}  # fmt: skip
SNR = {"name": "snr_predictor", "hidden_size": 8, "n_fft": 64, "hop": 16, "normalize": "none"}


def made(mapping: dict[str, Any]) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(mapping, "test").eval()


def noise(*shape: int, peak: float = 0.5) -> np.ndarray:
    return np.random.default_rng(0).uniform(-peak, peak, shape).astype(np.float32)


def whole(model: torch.nn.Module, samples: np.ndarray) -> np.ndarray:
    """The first source that the model makes of [C, T] at once."""
    with torch.no_grad():
        return model(torch.from_numpy(samples)).wavs[:, 0].numpy()


@pytest.fixture()
def package(tmp_path: Path) -> Path:
    save_package(tmp_path / "model", made(GRU), GRU, "# a card\n")
    return tmp_path / "model"


@pytest.mark.parametrize("mapping", [GRU, TWO], ids=["gru", "two sources"])
@pytest.mark.parametrize(("num_samples", "size"), [(1, 160), (159, 160), (9000, 160), (9000, 7), (40000, 16000)])
def test_what_is_heard_of_a_signal_is_the_output_of_the_whole(
    mapping: dict[str, Any], num_samples: int, size: int
) -> None:
    model, samples, load = made(mapping), noise(2, num_samples), Load()
    listened = Listened(sound_stream(model), RATE, 2, load)
    parts = [listened.push(samples[:, start : start + size]) for start in range(0, num_samples, size)]
    got = np.concatenate([*parts, listened.flush()], 1)
    assert got.shape == samples.shape and np.abs(got - whole(model, samples)).max() <= 1e-5
    assert load.num_blocks == len(parts) and load.lasted_s == pytest.approx(num_samples / RATE)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_at_another_rate_it_is_resampled_and_stays_in_line(rate: int) -> None:
    model, samples = made(GRU), noise(1, rate + 1)
    listened = Listened(sound_stream(model), rate, 1, Load())
    parts = [listened.push(samples[:, start : start + 441]) for start in range(0, rate + 1, 441)]
    got = np.concatenate([*parts, listened.flush()], 1)
    inside = audio.resample(samples[0], rate, RATE)
    expected = audio.resample(whole(model, inside[None])[0], RATE, rate)[: rate + 1]
    assert got.shape == samples.shape and np.allclose(got[0], expected, atol=1e-5)


@pytest.mark.parametrize("block_ms", ["1", "10", "33.3"])
def test_a_file_is_heard_as_it_is_enhanced(
    package: Path, block_ms: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Below a step of 16 bits in part, which would be seen: results are as fine as the recording.
    soundfile.write(tmp_path / "in.wav", noise(2, 20001, peak=1e-3).T, RATE, "FLOAT")
    command = ["--model", str(package), str(tmp_path / "in.wav"), "-o"]
    assert cli.main(["listen", *command, str(tmp_path / "heard.wav"), "--block_ms", block_ms]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("latency ") and "model 4 ms, block " in first
    assert "load " in last and "blocks too late" in last and "times real time" in last
    assert cli.main(["enhance", *command, str(tmp_path / "enhanced")]) == 0
    heard, enhanced = (soundfile.read(tmp_path / n, dtype="float32")[0] for n in ("heard.wav", "enhanced/in.wav"))
    assert heard.shape == (20001, 2) and np.abs(heard - enhanced).max() <= 1e-5 * np.abs(enhanced).max()


def test_load_is_the_share_of_the_time() -> None:
    load = Load()
    assert load.mean == 0.0
    for spent_s in (0.001, 0.002, 0.010, 0.015):
        load.add(spent_s, 0.010)
    assert load.mean == pytest.approx(0.7)
    assert str(load) == "load 70 % on average, 150 % at worst, 1 of 4 blocks too late"


class PortAudioError(Exception):
    pass


class CallbackAbort(Exception):
    pass


class Card:
    """A stand-in for sounddevice with a microphone that hears `sound`, and then ends as `at_end` does."""

    def __init__(self, sound: np.ndarray, at_end: Callable[[Card], None], out_channels: int = 2) -> None:
        self.sound, self.at_end, self.out_channels = sound, at_end, out_channels
        self.played: list[np.ndarray] = []
        self.lost: set[int] = set()
        self.options: dict[str, Any] = {}
        self.refused: Exception | None = None
        self.closed = False
        self.latency = (0.004, 0.008)
        self.finish: Callable[[], None] = lambda: None

    def module(self) -> ModuleType:
        module = ModuleType("sounddevice")
        module.PortAudioError, module.CallbackAbort = PortAudioError, CallbackAbort
        module.query_devices, module.Stream = self.query, self.open
        return module

    def query(self, device: int | str | None = None, kind: str | None = None) -> Any:
        names = {"input": "a microphone", "output": "headphones"}
        if kind is None:
            return [f"{number} {name}" for number, name in enumerate(names.values())]
        if device not in (None, 0, 1, *names.values()):
            raise ValueError(f"No {kind} device matching {device!r}")
        channels = {"max_input_channels": 1, "max_output_channels": self.out_channels}
        return {"name": names[kind], "index": list(names).index(kind)} | channels

    def open(self, **options: Any) -> Card:
        if self.refused is not None:
            raise self.refused
        self.options, self.finish = options, options["finished_callback"]
        self.thread = threading.Thread(target=self.run)
        return self

    def start(self) -> None:
        self.thread.start()

    def abort(self) -> None:
        self.thread.join()

    def close(self) -> None:
        self.closed = True

    def run(self) -> None:
        size = self.options["blocksize"]
        heard = np.empty((size, self.options["channels"][0]), np.float32)
        played = np.empty((size, self.options["channels"][1]), np.float32)
        try:
            for number, start in enumerate(range(0, len(self.sound) - size + 1, size)):
                heard[:, 0] = self.sound[start : start + size]
                played[:] = np.nan
                self.options["callback"](heard, played, size, object(), int(number in self.lost))
                self.played.append(played.copy())
        except CallbackAbort:
            self.finish()
        else:
            self.at_end(self)


def ctrl_c(card: Card) -> None:
    signal.raise_signal(signal.SIGINT)


def unplugged(card: Card) -> None:
    """The device is gone, and PortAudio says so."""
    card.finish()


def silent(card: Card) -> None:
    """The device is gone, and nobody says so."""


@pytest.fixture()
def plugged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Card]]:
    # A shell starts its background jobs with Ctrl-C ignored, and a test run may be one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def plug(*arguments: Any) -> Card:
        card = Card(*arguments)
        monkeypatch.setitem(sys.modules, "sounddevice", card.module())
        return card

    yield plug
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("out_channels", [1, 2, 8])
def test_what_is_played_is_what_was_said_a_latency_ago(
    package: Path, plugged: Callable[..., Card], out_channels: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = noise(160 * 40)
    card = plugged(sound, ctrl_c, out_channels)
    card.lost = {3, 4}
    saved = tmp_path / "heard.wav"
    assert cli.main(["listen", "--model", str(package), "--save", str(saved), "--input_device", "0"]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first == "a microphone -> headphones, 16000 Hz; Ctrl-C ends"
    assert second == "latency 26 ms: model 4 ms, block 10 ms, device 12 ms"
    assert "of 40 blocks too late, 2 dropouts, 0:00" in last and str(saved) in last
    late = np.concatenate([np.zeros(63, np.float32), whole(made(GRU), sound[None])[0]])[: len(sound)]
    played = np.concatenate(card.played)
    assert played.shape[1] == min(2, out_channels) and np.abs(played - late[:, None]).max() <= 1e-5
    assert np.abs(soundfile.read(saved)[0] - late).max() <= 1.1 / 32768
    assert card.closed and card.options["samplerate"] == RATE and card.options["blocksize"] == 160


@pytest.mark.parametrize("gone", [unplugged, silent])
def test_a_device_that_goes_away_is_told_and_what_was_heard_is_kept(
    package: Path, plugged: Callable[..., Card], gone: Callable[[Card], None], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(live, "GONE_S", 0.5)
    card = plugged(noise(1600), gone)
    assert cli.main(["listen", "--model", str(package), "--save", str(tmp_path / "heard.wav")]) == 3
    told = capsys.readouterr()
    assert "a microphone or headphones: gives or takes no sound any more" in told.err
    assert "of 10 blocks too late" in told.out and card.closed
    assert audio.probe(tmp_path / "heard.wav").num_samples == 1600


def test_no_number_of_a_driver_is_silence(package: Path, plugged: Callable[..., Card]) -> None:
    sound = noise(1600)
    card = plugged(np.where(np.arange(1600) % 100 == 7, np.nan, sound), ctrl_c)
    sound[7::100] = 0
    assert cli.main(["listen", "--model", str(package)]) == 0
    late = np.concatenate([np.zeros(63, np.float32), whole(made(GRU), sound[None])[0]])[:1600]
    assert np.allclose(np.concatenate(card.played)[:, 0], late, atol=1e-5)


def test_a_fault_in_the_thread_of_the_sound_card_is_not_lost(
    plugged: Callable[..., Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = plugged(noise(1600), silent)

    def broken(self: object, block: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("in the model")

    monkeypatch.setattr(live.FixedDelay, "__call__", broken)
    with pytest.raises(ZeroDivisionError, match="in the model"):
        listen.listen_live(made(GRU), 10.0, None, None, None)
    assert card.closed and card.played == []


def test_what_was_played_is_handed_over_once(plugged: Callable[..., Card]) -> None:
    card = plugged(noise(1600), silent)
    with live.Live(made(TWO), 10.0, "a microphone", "headphones") as sound:
        card.thread.join()
        first, second = sound.heard(), sound.heard()
    assert first.shape == (1, 1600) and second.shape == (1, 0)
    assert np.array_equal(first[0], np.concatenate(card.played)[:, 0])


@pytest.mark.parametrize(
    ("refused", "fault", "told"),
    [
        (PortAudioError("Invalid sample rate", -9997), PseError, "does not run at the model's 16000 Hz; choose one"),
        (PortAudioError("Device unavailable\nmore", -9985), EnvironmentFault, "cannot be opened"),
    ],
)
def test_a_card_that_cannot_do_it_is_named_with_the_remedy(
    refused: Exception, fault: type[PseError], told: str, plugged: Callable[..., Card]
) -> None:
    plugged(noise(160), silent).refused = refused
    with pytest.raises(fault, match=f"a microphone to headphones: {told}") as caught:
        live.Live(made(GRU), 10.0, None, None)
    assert type(caught.value) is fault and "--list_devices" in str(caught.value) and "\n" not in str(caught.value)


def test_without_a_sound_card_the_way_by_files_is_named(
    package: Path, plugged: Callable[..., Card], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(device: object = None, kind: str | None = None) -> list[str]:
        if kind is None:
            return []
        raise PortAudioError("Error querying device -1")

    def told(*words: str) -> str:
        assert cli.main(["listen", *words]) == 3
        (line,) = capsys.readouterr().err.splitlines()
        assert "pse listen in.wav -o out.wav" in line
        return line

    card = plugged(noise(160), silent)
    monkeypatch.setattr(sys.modules["sounddevice"], "query_devices", none)
    assert "no input device is found" in told("--model", str(package))
    assert "no sound device is found" in told("--list_devices")
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert "pip install sounddevice" in told("--model", str(package))
    assert card.options == {}


def test_devices_are_listed_and_asked_for_by_name(
    package: Path, plugged: Callable[..., Card], capsys: pytest.CaptureFixture[str]
) -> None:
    plugged(noise(160), silent)
    assert cli.main(["listen", "--list_devices"]) == 0
    assert "1 headphones" in capsys.readouterr().out
    assert cli.main(["listen", "--model", str(package), "--output_device", "a gramophone"]) == 1
    assert "--output_device a gramophone: No output device matching" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["in.wav"], "add -o out.wav"), (["-o", "out.wav"], "use --save"),
        (["in.wav", "-o", "out.flac"], "use .wav"), (["in.wav", "-o", "old.wav"], "add --overwrite"),
        (["--save", "old.wav"], "add --overwrite"), (["in.wav", "-o", "out.wav", "--save", "x.wav"], "microphone"),
        (["in.wav", "-o", "in.wav", "--overwrite"], "its own result"), (["--block_ms", "0"], "give 1 to 1000"),
        (["--block_ms", "nan"], "give 1 to 1000"), (["nowhere.wav", "-o", "out.wav"], "no such file"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_and_nothing_is_written(
    words: list[str], told: str, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name in ("in.wav", "old.wav"):
        audio.write(name, noise(160), RATE)
    assert cli.main(["listen", "--model", str(package), *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line and sorted(p.name for p in tmp_path.glob("*.*")) == ["in.wav", "old.wav"]


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        (SNR, "model: tells frame SNRs; take one that enhances, e.g. gru_256_causal (pse models)"),
        (SNR | {"normalize": "rms"}, "model: tells frame SNRs; take one"), (VOICE, "model: tells voices; take one"),
        (EMBEDDING, "model: separates speakers; take one"), (EMBEDDING | {"num_masks": 2}, "model: separates speakers"),
        (GRU | {"normalize": "rms"}, "whole signal"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_heard_is_refused(
    mapping: dict[str, Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_package(tmp_path / "model", made(mapping), mapping, "# a card\n")
    audio.write(tmp_path / "in.wav", noise(160), RATE)
    command = ["listen", "--model", str(tmp_path / "model"), str(tmp_path / "in.wav"), "-o", str(tmp_path / "out.wav")]
    assert cli.main(command) == 1
    said = capsys.readouterr()
    assert told in said.err and said.out == "" and not (tmp_path / "out.wav").exists()


def test_of_a_causal_model_of_two_sources_the_first_one_is_heard(tmp_path: Path) -> None:
    save_package(tmp_path / "model", made(TWO), TWO, "# a card\n")
    soundfile.write(tmp_path / "in.wav", noise(4000), RATE, "FLOAT")
    listen.listen(tmp_path / "in.wav", tmp_path / "out.wav", model=tmp_path / "model")
    got = soundfile.read(tmp_path / "out.wav", dtype="float32")[0]
    assert np.abs(got - whole(made(TWO), noise(1, 4000))[0]).max() <= 1e-5
