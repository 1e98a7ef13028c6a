"""Audio files in and out: mono float32, the rate always beside the samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from pse.errors import PseError
from pse.io.atomic import writing

# A header can claim anything; these caps are checked before a single sample is decoded.
MAX_DURATION_S = 24 * 3600.0
MAX_CHANNELS = 64
MIN_RATE_HZ, MAX_RATE_HZ = 4000, 384000
SILENCE_DBFS = -80.0
# Of all samples, those at the peak beside another one there: 0.0003 and less in 3,429 recordings of speech and noise,
# 0.0013 and more in 42 utterances that were clipped at 9 dB below their peaks.
CLIPPED_SHARE = 0.001
# What a result is written as, by what its recording is of (libsndfile's names); 16 bits for all others.
FINER = {"FLOAT": "FLOAT", "DOUBLE": "FLOAT"} | dict.fromkeys(
    ("PCM_24", "PCM_32", "ALAC_20", "ALAC_24", "ALAC_32", "DWVW_24"), "PCM_24"
)
BITS = {"PCM_16": 16, "PCM_24": 24, "FLOAT": 32}


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says."""

    path: str
    sample_rate: int
    num_samples: int
    num_channels: int
    subtype: str = "PCM_16"

    @property
    def result_subtype(self) -> str:
        """What keeps the resolution of the file in a WAV file."""
        return FINER.get(self.subtype, "PCM_16")

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return self.num_samples / self.sample_rate


def probe(path: str | Path) -> AudioInfo:
    """Read the header of an audio file (any format of libsndfile).

    Raises PseError when the file is missing, empty, no audio, or claims an impossible size.
    """
    path = Path(path)
    if not path.is_file():
        raise PseError("is a directory, a file is needed" if path.is_dir() else "no such file", path)
    if path.stat().st_size == 0:
        raise PseError("the file is empty (0 bytes)", path, "copy or download it again")
    _check_riff(path)
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise PseError(f"cannot be read as audio ({reason_of(error)})", path, "copy or download it again") from error
    if info.frames <= 0:
        raise PseError("holds no samples", path, "copy or download it again")
    if not MIN_RATE_HZ <= info.samplerate <= MAX_RATE_HZ:
        what = f"claims a sample rate of {info.samplerate} Hz, and {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz are read"
        raise PseError(what, path, "convert it (ffmpeg -i x.wav -ar 16000 y.wav)")
    if info.channels > MAX_CHANNELS or info.frames / info.samplerate > MAX_DURATION_S:
        raise PseError(
            f"claims {info.channels} channels and {info.frames / info.samplerate:.0f} s", path, "cut it into parts"
        )
    return AudioInfo(str(path), int(info.samplerate), int(info.frames), int(info.channels), info.subtype)


def _check_riff(path: Path) -> None:
    """Refuse a WAV that is shorter than it says: libsndfile would read what is left without a word."""
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return
        while len(chunk := file.read(8)) == 8:
            size = int.from_bytes(chunk[4:], "little")
            if chunk[:4] != b"data":
                file.seek(size + size % 2, 1)
                continue
            there = path.stat().st_size - file.tell()
            # Programs that write to a pipe leave 0 or the largest number there.
            if there < size < 0xFFFFFF00:
                raise PseError(f"is truncated: {there} of {size} bytes of audio", path, "copy or download it again")
            return


def reason_of(error: Exception) -> str:
    """What libsndfile complains of, without its preamble."""
    return str(error).rstrip(".").split(": ")[-1].strip() or type(error).__name__


def read(
    path: str | Path, sample_rate: int | None = None, start_samples: int = 0, num_samples: int | None = None
) -> tuple[np.ndarray, int]:
    """Read a file, or part of it, as mono float32 (channels are averaged).

    `start_samples` and `num_samples` count at the file's own rate. With `sample_rate` the result
    is resampled to it. Returns (samples [T], rate in Hz). Raises PseError naming the file when it
    is missing, corrupt, shorter than its header says, or holds NaN or infinity.
    """
    channels, rate = read_channels(path, start_samples, num_samples)
    mono = channels[0] if len(channels) == 1 else channels.mean(axis=0)
    if sample_rate is not None and sample_rate != rate:
        mono, rate = resample(mono, rate, sample_rate), sample_rate
    return np.ascontiguousarray(mono), rate


def read_channels(
    path: str | Path, start_samples: int = 0, num_samples: int | None = None
) -> tuple[np.ndarray, int]:
    """Read a file, or part of it, with all its channels: ([C, T] float32, rate in Hz); raises as `read` does."""
    info = probe(path)
    want = info.num_samples - start_samples if num_samples is None else num_samples
    try:
        with soundfile.SoundFile(str(path)) as file:
            file.seek(start_samples)
            samples = file.read(want, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise PseError(f"cannot be decoded ({reason_of(error)})", path, "copy or download it again") from error
    if len(samples) < want:
        raise PseError(f"is truncated: {len(samples)} of {want} samples", path, "copy or download it again")
    bad = int((~np.isfinite(samples)).sum())
    if bad:
        raise PseError(f"holds {bad} samples that are NaN or infinite", path, "export it again")
    return np.ascontiguousarray(samples.T), info.sample_rate


def resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resample [T] to ceil(T * to_hz / from_hz) samples (soxr, very high quality)."""
    if from_hz == to_hz:
        return samples
    want = -(-len(samples) * to_hz // from_hz)
    out = soxr.resample(samples, from_hz, to_hz, quality="VHQ").astype(np.float32, copy=False)
    return np.pad(out, (0, want - len(out))) if len(out) < want else out[:want]


def level_dbfs(samples: np.ndarray) -> float:
    """Root-mean-square level in dB relative to full scale; -200 for digital silence."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return 10.0 * float(np.log10(max(power, 1e-20)))


def faults(samples: np.ndarray) -> list[str]:
    """What is wrong with decoded samples [T], in words; an empty list when nothing is."""
    if len(samples) == 0:
        return ["holds no samples"]
    found = []
    peak = float(np.abs(samples).max())
    if level_dbfs(samples) < SILENCE_DBFS:
        found.append(f"is silent ({level_dbfs(samples):.0f} dBFS)")
    elif peak > 0:
        # A clipped recording sits at its own peak again and again, also where it was turned down afterwards; a sine
        # only touches it. Another sample rate bends the flat tops: ask at the recording's own.
        at_peak = np.abs(samples) >= 0.999 * peak
        runs = float(np.mean(at_peak[1:] & at_peak[:-1]))
        if runs > CLIPPED_SHARE:
            found.append(f"is clipped ({100 * runs:.1f} % of its samples)")
    return found


def unclipped(subtype: str, lowest: float, highest: float) -> str:
    """The subtype, or FLOAT where its bits, which reach from -1 to just below 1, would clip a signal of this range."""
    return "FLOAT" if highest > 1 - 2.0 ** (1 - BITS[subtype]) or lowest < -1.0 else subtype


def write(path: str | Path, samples: np.ndarray, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write samples [T] or [C, T] atomically: WAV or FLAC by the name's ending, of 16 bits or another subtype.

    Samples beyond full scale are never clipped: such a WAV is written as 32-bit float, and such a
    FLAC is refused.
    """
    path = Path(path)
    kind = path.suffix.lower().lstrip(".").upper()
    if kind not in ("WAV", "FLAC"):
        raise PseError(f"cannot write {path.suffix or 'a file without ending'}", path, "use .wav or .flac")
    if samples.size:
        subtype = unclipped(subtype, float(samples.min()), float(samples.max()))
    if subtype == "FLOAT" and kind == "FLAC":
        raise PseError("samples exceed full scale and FLAC would clip them", path, "write .wav")
    with writing(path, "wb") as file:
        soundfile.write(file, samples.T, sample_rate, format=kind, subtype=subtype)
