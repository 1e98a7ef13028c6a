"""A causal model between a microphone and headphones, by the package sounddevice."""

from __future__ import annotations

import queue
import threading
import time
from types import TracebackType
from typing import Any

import numpy as np

from pse.errors import EnvironmentFault, PseError
from pse.inference.listening import FixedDelay, Load, sound_stream, timed
from pse.io.blocks import length_of

WITHOUT = "without a sound card: pse listen in.wav -o out.wav"
LIST = "pse listen --list_devices names what is there"
# PortAudio's paInvalidSampleRate.
INVALID_RATE = -9997
# A device that was unplugged may just fall silent, without an error.
GONE_S = 2.0


def sounddevice() -> Any:
    """The package. Raises EnvironmentFault where it, or the library PortAudio, is missing."""
    try:
        import sounddevice as package
    except ImportError as error:
        fix = f"pip install sounddevice; {WITHOUT}"
        raise EnvironmentFault("the package sounddevice is missing", "pse listen", fix) from error
    except OSError as error:
        fix = f"install PortAudio (Debian, Ubuntu: apt install libportaudio2); {WITHOUT}"
        raise EnvironmentFault(f"sounddevice does not start ({error})", "pse listen", fix) from error
    return package


def devices() -> str:
    """A line for each sound device. Raises EnvironmentFault where there is none."""
    found = sounddevice().query_devices()
    if not len(found):
        raise EnvironmentFault("no sound device is found", "pse listen", WITHOUT)
    return str(found)


class Live:
    """A model between two devices, by number or name (None: the system's); sound passes inside a `with` block.

    load: of the blocks so far; num_dropouts: how often the sound card had to leave sound out; block_s, device_s: what
    they add to the model's latency, in seconds. Raises PseError for a model that does not stream, a device that is
    not there, and a rate that it does not have; EnvironmentFault where there is no sound card.
    """

    def __init__(
        self, model: Any, block_ms: float, input_device: int | str | None, output_device: int | str | None
    ) -> None:
        self._package = sounddevice()
        self._delay = FixedDelay(sound_stream(model))
        self.load, self.num_dropouts = Load(), 0
        self._heard: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
        self._error: Exception | None = None
        self._stopped, self._called_at = threading.Event(), 0.0
        found = [self._device(input_device, "input"), self._device(output_device, "output")]
        self.names = [str(device["name"]) for device in found]
        num_samples = length_of(block_ms, model.sample_rate)
        self._stream = self._open(
            device=(found[0]["index"], found[1]["index"]), samplerate=model.sample_rate, blocksize=num_samples,
            # Both ears: a card with two channels may play a single one on the left alone.
            channels=(1, min(2, found[1]["max_output_channels"])), dtype="float32", latency="low",
            callback=self._callback, finished_callback=self._stopped.set,
        )  # fmt: skip
        self.block_s, self.device_s = num_samples / model.sample_rate, float(sum(self._stream.latency))

    def __enter__(self) -> Live:
        self._called_at = time.monotonic()
        self._stream.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        # Stopping would wait for what is not played yet, for ever when the device is gone.
        self._stream.abort()
        self._stream.close()

    def check(self) -> None:
        """Raise EnvironmentFault when the device is gone, and what went wrong in the sound card's thread."""
        if self._error is not None:
            raise self._error
        if self._stopped.is_set() or time.monotonic() - self._called_at > GONE_S:
            names = " or ".join(dict.fromkeys(self.names))
            raise EnvironmentFault("gives or takes no sound any more", names, f"plug it in again; {LIST}")

    def heard(self) -> np.ndarray:
        """The samples [1, T] that were played since the last call."""
        parts = [np.zeros(0, np.float32)]
        while not self._heard.empty():
            parts.append(self._heard.get())
        return np.concatenate(parts)[None]

    def _callback(self, sound: np.ndarray, played: np.ndarray, num_samples: int, when: object, status: object) -> None:
        self._called_at = time.monotonic()
        try:
            # Drivers have been seen to give samples that are no numbers.
            out, spent_s = timed(self._delay, np.nan_to_num(sound[:, 0], posinf=0.0, neginf=0.0))
        except Exception as error:
            self._error = error
            raise self._package.CallbackAbort from error
        played[:] = out[:, None]
        self.num_dropouts += bool(status)
        self.load.add(spent_s, self.block_s)
        self._heard.put(out)

    def _device(self, asked: int | str | None, kind: str) -> Any:
        try:
            return self._package.query_devices(asked, kind)
        except (ValueError, self._package.PortAudioError) as error:
            if asked is None:
                raise EnvironmentFault(f"no {kind} device is found", "pse listen", WITHOUT) from error
            raise PseError(_first_line(error), f"--{kind}_device {asked}", LIST) from error

    def _open(self, **options: Any) -> Any:
        names = " to ".join(dict.fromkeys(self.names))
        try:
            return self._package.Stream(**options)
        except self._package.PortAudioError as error:
            if INVALID_RATE in error.args:
                fix = f"choose one that converts, often called pulse, pipewire or default; {LIST}"
                raise PseError(f"does not run at the model's {options['samplerate']} Hz", names, fix) from error
            raise EnvironmentFault(f"cannot be opened ({_first_line(error)})", names, LIST) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
