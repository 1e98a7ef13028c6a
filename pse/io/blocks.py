"""Audio that is longer than memory: files and sample rates, block by block."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import soundfile
import soxr

from pse.errors import PseError, from_os_error
from pse.io import audio
from pse.io.atomic import writing

# Of all channels together: 4 MB.
BLOCK_VALUES = 1 << 20
# A WAV file counts its bytes with 32 bits; RF64 is the same file with 64.
MAX_WAV_BYTES = 0xFFFF0000


class Worker(Protocol):
    """What makes a signal out of one that comes in blocks; both are [C, T] of one rate."""

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The next samples of the result, as many as are ready."""

    def flush(self) -> np.ndarray:
        """The rest: the signal has ended."""


class Resampler:
    """`audio.resample` of a signal [C, T] that comes in blocks, sample for sample the same."""

    def __init__(self, from_hz: int, to_hz: int, num_channels: int) -> None:
        self.from_hz, self.to_hz, self.num_channels = from_hz, to_hz, num_channels
        self._num_in = self._num_out = 0
        self._stream = None
        if from_hz != to_hz:
            self._stream = soxr.ResampleStream(from_hz, to_hz, num_channels, "float32", "VHQ")

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The next samples [C, T'] after samples: [C, T] float32; T and T' may be 0."""
        return samples if self._stream is None else self._next(samples, last=False)

    def flush(self) -> np.ndarray:
        """The rest: ceil(T * to_hz / from_hz) samples of T have come then."""
        rest = np.zeros((self.num_channels, 0), np.float32)
        if self._stream is None:
            return rest
        missing = -(-self._num_in * self.to_hz // self.from_hz) - self._num_out
        return fitted(self._next(rest, last=True), missing)

    def _next(self, samples: np.ndarray, last: bool) -> np.ndarray:
        self._num_in += samples.shape[1]
        out = self._stream.resample_chunk(np.ascontiguousarray(samples.T), last=last).T
        self._num_out += out.shape[1]
        return out


class AtRate:
    """A worker at one rate for a signal at another, whose length it keeps."""

    def __init__(self, worker: Worker, worker_hz: int, sample_rate: int, num_channels: int) -> None:
        self._worker, self._missing = worker, 0
        self._before = Resampler(sample_rate, worker_hz, num_channels)
        self._after = Resampler(worker_hz, sample_rate, num_channels)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The next samples [C, T'] after samples: [C, T] float32, in line with what was pushed."""
        out = self._after.push(self._worker.push(self._before.push(samples)))
        self._missing += samples.shape[1] - out.shape[1]
        return out

    def flush(self) -> np.ndarray:
        """The rest: as many samples have come then as were pushed."""
        parts = [self._worker.push(self._before.flush()), self._worker.flush()]
        parts = [*(self._after.push(part) for part in parts), self._after.flush()]
        return fitted(np.concatenate(parts, 1), self._missing)


def fitted(samples: np.ndarray, num_samples: int) -> np.ndarray:
    """The samples [C, T] cut, or continued with zeros, to [C, num_samples]."""
    return np.pad(samples, ((0, 0), (0, max(0, num_samples - samples.shape[1]))))[:, :num_samples]


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[tuple[audio.AudioInfo, Callable[[int], Iterator[np.ndarray]]]]:
    """What the header says, and a function that reads the file in blocks [C, T] float32 of so many samples.

    Raises PseError as `audio.read` does; what is wrong with the samples is found when they are read.
    """
    info = audio.probe(path)
    with contextlib.ExitStack() as stack:
        with _decoding(info):
            file = stack.enter_context(soundfile.SoundFile(str(path)))
        yield info, lambda num_samples: _blocks(file, info, num_samples)


@contextlib.contextmanager
def _decoding(info: audio.AudioInfo) -> Iterator[None]:
    try:
        yield
    except (soundfile.LibsndfileError, RuntimeError) as error:
        what = f"cannot be decoded ({audio.reason_of(error)})"
        raise PseError(what, info.path, "copy or download it again") from error


def block_length(num_channels: int) -> int:
    """Samples of a block that is large and still takes little memory."""
    return max(1, BLOCK_VALUES // num_channels)


def length_of(block_ms: float, sample_rate: int) -> int:
    """Samples of a block of some milliseconds, one at least."""
    return max(1, round(block_ms * sample_rate / 1000))


def _blocks(file: soundfile.SoundFile, info: audio.AudioInfo, num_samples: int) -> Iterator[np.ndarray]:
    done = 0
    while done < info.num_samples:
        with _decoding(info):
            block = file.read(min(num_samples, info.num_samples - done), dtype="float32", always_2d=True)
        if not len(block):
            what = f"is truncated: {done} of {info.num_samples} samples"
            raise PseError(what, info.path, "copy or download it again")
        bad = int((~np.isfinite(block)).sum())
        if bad:
            what = f"holds {bad} samples that are NaN or infinite from second {done / info.sample_rate:.1f} on"
            raise PseError(what, info.path, "export it again")
        done += len(block)
        yield block.T


@contextlib.contextmanager
def writing_wav(
    path: str | Path, sample_rate: int, num_channels: int, subtype: str = "PCM_16"
) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that takes blocks [C, T] float32; when the block of code ends well, they are a WAV file at `path`.

    Whether the bits of `subtype` would clip is known at the end only, as in `audio.write`: until then the samples
    stand in a file without a name beside `path`, which goes with the process. Raises PseError when the disk is full or
    the place is not writable; what stood at `path` before is then still there.
    """
    path = Path(path)
    lowest = highest = 0.0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent) as raw:

            def write(samples: np.ndarray) -> None:
                nonlocal lowest, highest
                if samples.size:
                    lowest, highest = min(lowest, float(samples.min())), max(highest, float(samples.max()))
                    raw.write(np.ascontiguousarray(samples.T, np.float32).data)

            yield write
            subtype = audio.unclipped(subtype, lowest, highest)
            num_bytes = raw.tell() * audio.BITS[subtype] // 32
            kind = "RF64" if num_bytes > MAX_WAV_BYTES else "WAV"
            raw.seek(0)
            with writing(path, "wb") as file, soundfile.SoundFile(
                file, "w", sample_rate, num_channels, subtype, format=kind
            ) as wav:  # fmt: skip
                _copy(raw, wav)
    except OSError as error:
        raise from_os_error(error, path) from error


def _copy(raw: IO[Any], wav: soundfile.SoundFile) -> None:
    while content := raw.read(4 * wav.channels * block_length(wav.channels)):
        wav.write(np.frombuffer(content, np.float32).reshape(-1, wav.channels))
