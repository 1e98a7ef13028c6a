"""Whether recordings are of one person, by an encoder of voices: means of its embeddings over clear frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pse.errors import first_three
from pse.io import audio
from pse.models.base import device_of
from pse.personalize.material import Recordings

# Frames above it count. So much of them is one window (with its pauses about three seconds of speech: a conversation
# takes turns of some seconds, and a longer window would hold both voices), and from less nobody is told.
CLEAR_DB, WINDOW_S, LEAST_CLEAR_S = 5.0, 2.0, 1.0
# Two voices less alike than this are two persons. Of windows of 28 readers that the built-in encoder had not heard, in
# noise at 0 to 15 dB, none was less like the middle of its reader (n = 61), and 12.5 % were more like another's
# (n = 7,650).
ALIKE = 0.8
# Where more of the windows than this are of others, the recordings are not of one person.
MANY_STRANGERS = 0.25


@dataclass(frozen=True)
class Heard:
    """A window of clear speech, of a recording from start_s to end_s, and the unit vector [D] of its voice."""

    recording: str
    start_s: float
    end_s: float
    vector: np.ndarray

    def __str__(self) -> str:
        return f"{self.recording} at {int(self.start_s) // 60}:{int(self.start_s) % 60:02d}"


def voices(encoder: Any, recordings: Recordings, frame_snr_db: Mapping[str, np.ndarray]) -> list[Heard]:
    """Everybody who is heard clearly, window by window; the clear frames of a short recording are one."""
    found = []
    for name, start_s, part, track in recordings.in_parts(frame_snr_db):
        part_s = len(part) / recordings.sample_rate
        if (track > CLEAR_DB).mean() * part_s < LEAST_CLEAR_S:
            continue
        embeddings = _embeddings(encoder, part, recordings.sample_rate)
        at = np.linspace(0, len(track) - 1, len(embeddings)).round().astype(int)
        clear, frame_s = np.flatnonzero(track[at] > CLEAR_DB), part_s / len(embeddings)
        for frames in np.array_split(clear, max(1, round(len(clear) * frame_s / WINDOW_S))):
            if not len(frames):
                continue
            vector = functional.normalize(embeddings[torch.from_numpy(frames)].mean(0), dim=0).numpy()
            ends = start_s + frames[0] * frame_s, start_s + (frames[-1] + 1) * frame_s
            found.append(Heard(name, *ends, vector))
    return found


@torch.inference_mode()
def _embeddings(encoder: Any, samples: np.ndarray, sample_rate: int) -> torch.Tensor:
    inside = torch.from_numpy(audio.resample(samples, sample_rate, encoder.sample_rate)).to(device_of(encoder))
    return encoder(inside[None]).embeddings[0, 0].float().cpu()


def middle(found: Sequence[Heard]) -> np.ndarray:
    """The vector [D] of the window that is most like its likest quarter: that of somebody who speaks a lot.

    Not the one most like all: of two who speak by turns that is a window in which both do.
    """
    every = np.stack([heard.vector for heard in found])
    likeness = np.sort(every @ every.T, axis=1)
    return every[likeness[:, -max(2, round(MANY_STRANGERS * len(every))) :].mean(1).argmax()]


def strangers(found: Sequence[Heard]) -> list[Heard]:
    """The windows whose voice is not that of whoever speaks a lot."""
    if len(found) < 2:
        return []
    known = middle(found)
    return [heard for heard in found if heard.vector @ known < ALIKE]


def alike(one: Sequence[Heard], other: Sequence[Heard]) -> float | None:
    """How alike those are who speak most in two sets of windows, from -1 to 1; None where one is empty."""
    return float(middle(one) @ middle(other)) if one and other else None


def in_words(encoder: Any, found: Sequence[Heard], others: Sequence[Heard], likeness: float | None = None) -> str:
    """In one line what was found of whose voice it is; likeness: to the recordings that it was compared with."""
    if encoder is None:
        return "whose voice it is was not looked at: there is no encoder of voices"
    if len(found) < 2 and likeness is None:
        return "whose voice it is was not looked at: not even two parts of it are clear enough"
    told = f"one voice in {len(found)} part{'s' if len(found) > 1 else ''} (several at once pass for one)"
    if others:
        told = f"{len(others)} of {len(found)} parts sound like somebody else: {first_three(others)}"
    return told if likeness is None else f"{told}, likeness to the noisy recordings {two_digits(likeness)}"


def two_digits(likeness: float) -> str:
    """A likeness, rounded down: what is below a limit must not be told as what the limit is."""
    return f"{math.floor(100 * likeness) / 100:.2f}"
