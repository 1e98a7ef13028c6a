"""NIST SPHERE, the audio files of LDC corpora: PCM as it is, or packed by shorten."""

from __future__ import annotations

import importlib.util
import io
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from pse.errors import EnvironmentFault, PseError
from pse.io.audio import MAX_CHANNELS, MAX_DURATION_S, MAX_RATE_HZ, MIN_RATE_HZ, AudioInfo

MAGIC = b"NIST_1A\n"
MAX_HEADER = 1 << 20
SHORTEN = "embedded-shorten"
PROGRAM = "sph2pipe"
TIMEOUT_S = 600.0
AGAIN = "copy it again from the disc"
_DTYPE = {"01": "<i2", "10": ">i2"}
_KIND = {"i": int, "r": float}


@dataclass(frozen=True)
class Header:
    """What a SPHERE header says; `fields` has all of it, as int, float or str."""

    info: AudioInfo
    num_bytes: int
    coding: str
    dtype: str
    checksum: int | None
    fields: dict[str, int | float | str] = field(repr=False)

    @property
    def compressed(self) -> bool:
        """Whether the samples are packed by shorten."""
        return SHORTEN in self.coding


def is_sphere(path: str | Path) -> bool:
    """Whether a file starts as SPHERE does, whatever its name: many LDC files are called .wav."""
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def probe(path: str | Path) -> AudioInfo:
    """Rate, samples and channels as the header of a SPHERE file says. Raises as `read_header` does."""
    return read_header(path).info


def read_header(path: str | Path) -> Header:
    """Read the header: `NIST_1A`, its own size, `name -type value` lines and `end_head` (NIST SPHERE 2.6).

    Raises PseError when the file is missing, no SPHERE file, truncated, or holds anything but 16-bit PCM.
    """
    path = Path(path)
    if not path.is_file():
        raise PseError("no such file", path)
    with open(path, "rb") as file:
        start = file.read(16)
        size = start[8:].strip()
        if not start.startswith(MAGIC) or not size.isdigit() or not 16 < int(size) <= MAX_HEADER:
            raise PseError("is not a NIST SPHERE file", path, AGAIN)
        text = file.read(int(size) - 16).decode("latin-1")
    lines = text.split("\n")
    if "end_head" not in lines:
        raise PseError("is truncated: its header does not end", path, AGAIN)
    fields = _fields(lines[: lines.index("end_head")], path)
    return _checked(path, int(size), fields)


def _fields(lines: list[str], path: Path) -> dict[str, int | float | str]:
    fields: dict[str, int | float | str] = {}
    for line in lines:
        if not line.strip() or line.startswith(";"):
            continue
        try:
            name, kind, value = line.split(None, 2)
            fields[name] = _KIND.get(kind[1:], str)(value.strip())
        except ValueError:
            raise PseError(f"has a header line that is not `name -type value`: {line[:60]!r}", path, AGAIN) from None
    return fields


def _checked(path: Path, num_bytes: int, fields: dict[str, int | float | str]) -> Header:
    """The header as typed values; PseError for what is missing, impossible, or not ours to read."""
    channels = fields.get("channel_count", 1)
    rate, samples = fields.get("sample_rate"), fields.get("sample_count")
    if not all(isinstance(n, int) and n > 0 for n in (channels, rate, samples)):
        raise PseError(f"states {rate} Hz, {channels} channels and {samples} samples", path, AGAIN)
    if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ or channels > MAX_CHANNELS or samples / rate > MAX_DURATION_S:
        raise PseError(f"claims {rate} Hz, {channels} channels and {samples / rate:.0f} s", path, "cut it into parts")
    coding, order = str(fields.get("sample_coding", "pcm")), str(fields.get("sample_byte_format", ""))
    base, _, packing = coding.partition(",")
    if base != "pcm" or packing and not packing.startswith(SHORTEN):
        raise PseError(f"holds {coding!r} samples, and only 16-bit PCM is read here", path, "convert it to WAV")
    if fields.get("sample_n_bytes", 2) != 2 or order not in _DTYPE:
        what = f"holds samples of {fields.get('sample_n_bytes', 2)} bytes in order {order!r}"
        raise PseError(f"{what}, and only 16-bit PCM is read here", path, "convert it to WAV")
    checksum = fields.get("sample_checksum")
    if not packing and path.stat().st_size < num_bytes + 2 * channels * samples:
        there = path.stat().st_size - num_bytes
        raise PseError(f"is truncated: {there} of {2 * channels * samples} bytes of audio", path, AGAIN)
    info = AudioInfo(str(path), rate, samples, channels)
    return Header(info, num_bytes, coding, _DTYPE[order], checksum if isinstance(checksum, int) else None, fields)


def read(path: str | Path) -> tuple[np.ndarray, int]:
    """Read a file as mono (channels are averaged): ([T] float32 in [-1, 1), rate in Hz); raises as `read_pcm`."""
    pcm, rate = read_pcm(path)
    return pcm.mean(axis=0, dtype=np.float32) / np.float32(32768), rate


def read_pcm(path: str | Path) -> tuple[np.ndarray, int]:
    """Read a file as stored: ([C, T] int16, rate in Hz).

    Packed samples are decoded by FFmpeg's libraries (the package `av`) or by LDC's program
    `sph2pipe`, whichever is there; the number of samples and the header's checksum, a sum of all
    samples modulo 2^16, are verified whoever decoded.
    Raises PseError when the file is truncated or damaged, EnvironmentFault when nothing can decode it.
    """
    header = read_header(path)
    info = header.info
    if header.compressed:
        flat = _unpack(Path(path), info)
    else:
        flat = np.fromfile(path, header.dtype, info.num_samples * info.num_channels, offset=header.num_bytes)
    if len(flat) != info.num_samples * info.num_channels:
        there = len(flat) // info.num_channels
        raise PseError(f"is truncated or damaged: {there} of {info.num_samples} samples", path, AGAIN)
    total = int(flat.sum(dtype=np.int64)) % 65536
    if header.checksum is not None and total != header.checksum % 65536:
        raise PseError(f"is damaged: its samples sum to {total}, its header says {header.checksum}", path, AGAIN)
    return np.ascontiguousarray(flat.reshape(-1, info.num_channels).T.astype(np.int16)), info.sample_rate


def decoder() -> str | None:
    """What decodes shorten here: `av`, `sph2pipe`, or None."""
    if importlib.util.find_spec("av") is not None:
        return "av"
    return PROGRAM if shutil.which(PROGRAM) else None


def need_decoder(where: str | Path | None = None) -> str:
    """The decoder's name, or EnvironmentFault with the two ways to get one."""
    name = decoder()
    if name is None:
        raise EnvironmentFault(
            "nothing here decodes SPHERE files packed by shorten", where, f"pip install av, or put {PROGRAM} on PATH"
        )
    return name


def _unpack(path: Path, info: AudioInfo) -> np.ndarray:
    """All samples of a packed file, its channels interleaved."""
    return _by_av(path, info) if need_decoder(path) == "av" else _by_program(path)


def _by_av(path: Path, info: AudioInfo) -> np.ndarray:
    import av

    data = io.BytesIO(path.read_bytes())
    blocks = [np.zeros((info.num_channels, 0), np.int16)]
    try:
        with av.open(data, format="nistsphere") as container:
            for frame in container.decode(audio=0):
                blocks.append(frame.to_ndarray())
        return np.concatenate(blocks, axis=1).T.reshape(-1)
    except (av.FFmpegError, ValueError) as error:
        raise PseError(f"cannot be decoded ({type(error).__name__})", path, AGAIN) from error


def _by_program(path: Path) -> np.ndarray:
    # An absolute path cannot be taken for an option.
    command = [PROGRAM, "-p", "-f", "wav", str(path.resolve())]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFault(f"{PROGRAM} does not run ({error})", path, "pip install av") from error
    said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    try:
        if done.returncode == 0:
            return soundfile.read(io.BytesIO(done.stdout), dtype="int16", always_2d=True)[0].reshape(-1)
    except soundfile.LibsndfileError:
        said = ["what it wrote is no WAV"]
    raise PseError(f"cannot be decoded ({PROGRAM}: {said[0]})", path, AGAIN)
