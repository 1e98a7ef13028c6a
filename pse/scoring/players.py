"""Players with spectrograms on one time axis and one range of colours, and the buttons that switch between them."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping

import numpy as np

from pse.scoring.markup import data_uri, text
from pse.scoring.spectrogram import MOST_FRAMES, image, level_db, shared_range

HOP_S = 0.016
# What lies beyond the end of a signal, or above half its rate.
NOTHING_DB = -200.0
Signals = Mapping[str, np.ndarray | None]


def wav_bytes(samples: np.ndarray, sample_rate: int) -> bytes:
    """Samples [T] in [-1, 1] as a 16-bit mono WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def switch(signals: Signals) -> str:
    """A button for each signal, with the key that does the same; nothing where there is only one."""
    if len(signals) < 2:
        return ""
    buttons = "".join(_button(number, name, signals[name] is None) for number, name in enumerate(signals, 1))
    return f'<div class="switch" role="group" aria-label="Play, or switch at the same place">{buttons}</div>'


def _button(number: int, name: str, missing: bool) -> str:
    key = f"<kbd>{number}</kbd> " if number < 10 else ""
    state = "disabled" if missing else 'aria-pressed="false"'
    return f'<button type="button" {state} aria-label="{text(f"Play {name}")}">{key}{text(name)}</button>'


def panels(signals: Signals, rates: Mapping[str, int], gain: float) -> str:
    """A panel for each of signals {name: [T], or None where it is missing}; the sound is multiplied by gain."""
    levels, seconds, top_hz = shared_levels(signals, rates)
    low, high = shared_range(list(levels.values()))
    found = []
    for name, samples in signals.items():
        if samples is None:
            found.append(f'<div class="signal missing"><h4>{text(name)}</h4><p class="soft">- (no such file)</p></div>')
            continue
        png = image(levels[name], low, high)
        sound = data_uri("audio/wav", wav_bytes(gain * samples, rates[name]))
        found.append(_panel(name, sound, png, len(samples) / rates[name], seconds, top_hz / 1000))
    return "".join(found)


def shared_levels(signals: Signals, rates: Mapping[str, int]) -> tuple[dict[str, np.ndarray], float, float]:
    """Levels [K, F] in dB of signals, all of one K and F, the seconds of F frames, and the frequency of bin K in Hz.

    Where a signal has ended, and above half its rate, there is nothing.
    """
    there = {name: s for name, s in signals.items() if s is not None}
    seconds = max(len(s) / rates[name] for name, s in there.items())
    # Frames of 32 ms at any rate: bins are as far apart in all of them.
    hop_s = max(HOP_S, seconds / MOST_FRAMES)
    levels = {name: level_db(s, rates[name], hop_s) for name, s in there.items()}
    bins, frames = (max(level.shape[axis] for level in levels.values()) for axis in (0, 1))
    for name, level in levels.items():
        empty = ((0, bins - level.shape[0]), (0, frames - level.shape[1]))
        levels[name] = np.pad(level, empty, constant_values=NOTHING_DB)
    return levels, seconds, max(rates[name] for name in there) / 2


def axes(picture: str, left: list[str], seconds: float) -> str:
    """A picture that shows `seconds`, with marks at its left from top to bottom and the time below it.

    The marks are text, so that they follow the reader's size and colours.
    """
    marks = "".join(f"<span>{text(mark)}</span>" for mark in left)
    time = "".join(f"<span>{t}</span>" for t in ("0", f"{seconds / 2:.1f}", f"{seconds:.1f} s"))
    return (
        f'<div class="axes"><div class="marks" aria-hidden="true">{marks}</div>'
        f'<div class="picture" data-seconds="{seconds:.4f}">{picture}<div class="head"></div></div>'
        f'<div class="time" aria-hidden="true">{time}</div></div>'
    )


def _panel(name: str, sound: str, png: bytes, length_s: float, seconds: float, top_khz: float) -> str:
    alt = f"Spectrogram of {name}: 0 to {top_khz:g} kHz, {length_s:.1f} s"
    picture = f'<img src="{data_uri("image/png", png)}" alt="{text(alt)}">'
    return (
        f'<div class="signal"><h4>{text(name)}</h4>'
        + axes(picture, [f"{top_khz:g} kHz", f"{top_khz / 2:g}", "0"], seconds)
        + f'<audio controls preload="metadata" aria-label="{text(name)}" src="{sound}"></audio></div>'
    )
