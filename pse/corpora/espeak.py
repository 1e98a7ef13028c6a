"""Speech from text: the espeak-ng library that the `espeakng-loader` wheel carries, through ctypes.

The library keeps state in its data segment (phases, noise generators, the voice) that its own
initialisation does not reset, and seeds itself from the clock. So every utterance is rendered by a
freshly loaded copy with given seeds (0.3 ms): the same call gives the same samples in any order
and any process. Not for use from several threads, nor beside other users of C's `rand`: render in
worker processes.
"""

from __future__ import annotations

import _ctypes
import contextlib
import ctypes
from collections.abc import Iterator

import numpy as np

from pse.errors import EnvironmentFault, PseError

SAMPLE_RATE = 22050
SYNCHRONOUS, NO_EXIT, UTF8 = 2, 0x8000, 1
RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4
BUFFER_MS = 500
# Half of full scale: several voice variants overdrive the 16-bit output at the default of 100.
QUIET_VOLUME = 45
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def locate() -> tuple[str, str]:
    """Paths of the library and of its data. Raises EnvironmentFault when the wheel is not installed."""
    try:
        import espeakng_loader

        return str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())
    except (ImportError, RuntimeError) as error:
        raise EnvironmentFault(
            f"the speech synthesiser is missing ({error})",
            fix="install it: python -m pip install espeakng-loader",
        ) from error


@contextlib.contextmanager
def _loaded() -> Iterator[ctypes.CDLL]:
    """A copy of the library whose static data are as the linker left them."""
    path, data = locate()
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise EnvironmentFault(
            f"the speech synthesiser cannot be loaded ({error})",
            path,
            "reinstall it: python -m pip install --force-reinstall espeakng-loader",
        ) from error
    try:
        rate = library.espeak_Initialize(SYNCHRONOUS, BUFFER_MS, data.encode(), NO_EXIT)
        if rate != SAMPLE_RATE:
            raise EnvironmentFault(
                f"the speech synthesiser did not start (answer {rate})",
                data,
                "reinstall it: python -m pip install --force-reinstall espeakng-loader",
            )
        yield library
        library.espeak_Terminate()
    finally:
        _ctypes.dlclose(library._handle)


def version() -> str:
    """Version of the espeak-ng library, such as `1.52.0`."""
    with _loaded() as library:
        library.espeak_Info.restype = ctypes.c_char_p
        return library.espeak_Info(None).decode().split()[0]


def render(
    text: str, voice: str, rate_wpm: int = 170, pitch: int = 50, pitch_range: int = 50, seed: int = 1
) -> np.ndarray:
    """Speak `text` with a voice such as `en-us+f2` (language + variant): [T] float32 at 22,050 Hz.

    `pitch` and `pitch_range` run from 0 to 99. Equal arguments give equal samples. Raises PseError
    for a voice that espeak-ng does not have, EnvironmentFault when the library is missing.
    """
    parts: list[bytes] = []

    def collect(samples: int | None, num_samples: int, _events: int | None) -> int:
        if samples and num_samples > 0:
            parts.append(ctypes.string_at(samples, 2 * num_samples))
        return 0

    callback = _CALLBACK(collect)
    with _loaded() as library:
        library.espeak_SetSynthCallback(callback)
        library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        library.espeak_ng_SetRandSeed(seed)
        # The formant synthesisers inside draw their breath noise from C's generator.
        ctypes.CDLL(None).srand(ctypes.c_uint(seed))
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise PseError(f"espeak-ng has no voice {voice!r}")
        settings = {RATE: rate_wpm, VOLUME: QUIET_VOLUME, PITCH: pitch, RANGE: pitch_range}
        for parameter, value in settings.items():
            library.espeak_SetParameter(parameter, int(value), 0)
        content = text.encode()
        status = library.espeak_Synth(content, ctypes.c_size_t(len(content) + 1), 0, 0, 0, UTF8, None, None)
        library.espeak_Synchronize()
    samples = np.frombuffer(b"".join(parts), np.int16)
    if status != 0 or len(samples) == 0:
        raise PseError(f"espeak-ng could not speak {text!r} (status {status})")
    return samples.astype(np.float32) / 32768
