"""What recordings are worth, before anything is trained on them: how much speech, how noisy, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pse.errors import first_three
from pse.inference.frame_snr import frame_snr_db
from pse.io import audio
from pse.personalize.identity import ALIKE, alike, strangers, voices
from pse.personalize.material import Recordings

# Of frames above 0 dB: less is too little to learn a voice from, or to see whether it was learnt.
LEAST_USABLE_S, LITTLE_USABLE_S = 20.0, 60.0
# So much of clean speech is above 0 dB: of recordings at 25 dB 0.77 to 0.98 were (n = 24), of those at 10 dB 0.51 to
# 0.85, without noise 0.92 and more.
CLEAN_SHARE, NOISY_SHARE = 0.85, 0.6
# Where more of the parts than this are of others, the recordings are not of one person.
MANY_STRANGERS = 0.25
# The highest octave of a recording that is as wide as its rate says is not this far below all of it.
NARROW_DB, NARROW_HZ = -50.0, 4000.0


@dataclass(frozen=True)
class Verdict:
    """What was found.

    frame_snr_db: by recording [F], as predicted; notes: what to know; refusal: why nothing can be trained on it, or
    nothing; voices: a vector [D] for each part that is clear enough.
    """

    frame_snr_db: Mapping[str, np.ndarray]
    total_s: float
    usable_s: float
    notes: list[str] = field(default_factory=list)
    refusal: str = ""
    voices: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The verdict in words, line by line."""
        every = np.concatenate(list(self.frame_snr_db.values()))
        low, middle, high = np.quantile(every, (0.25, 0.5, 0.75))
        lines = [
            f"{len(self.frame_snr_db)} recordings, {_minutes(self.total_s)}",
            f"speech that stands out of the noise (frame SNR above 0 dB): {_minutes(self.usable_s)}, "
            f"{100 * self.usable_s / max(self.total_s, 1e-9):.0f} %",
            f"frame SNR: median {middle:.0f} dB, half of it between {low:.0f} and {high:.0f} dB",
            *self.notes,
        ]
        return "\n".join([*lines, *([f"not usable: {self.refusal}"] if self.refusal else [])])


def judge_recordings(recordings: Recordings, predictor: Any, encoder: Any = None) -> Verdict:
    """The verdict on recordings, by a model of frame SNR, and by one of voices where there is one."""
    tracks = {name: frame_snr_db(predictor, x) for name, x in recordings.samples.items()}
    usable_s = _usable_s(recordings, tracks)
    notes, refusal = _notes(recordings), ""
    found = voices(encoder, recordings, tracks) if encoder is not None else {}
    others = strangers(found)
    if others:
        told = f"{len(others)} of {len(found)} parts sound like somebody else: {first_three(others)}"
        notes.append(told)
    if len(others) > MANY_STRANGERS * len(found):
        refusal = "several people speak: keep the recordings of one"
    elif usable_s < LEAST_USABLE_S:
        refusal = f"{usable_s:.0f} s of clear speech, {LEAST_USABLE_S:.0f} s are needed: record more, or nearer"
    elif usable_s < LITTLE_USABLE_S:
        notes.append(f"this is little: {LITTLE_USABLE_S:.0f} s of clear speech and more are better")
    return Verdict(tracks, recordings.total_s, usable_s, notes, refusal, found)


def judge_clean(recordings: Recordings, noisy: Verdict, predictor: Any, encoder: Any = None) -> Verdict:
    """The verdict on recordings that are said to be clean, and of the person whom the noisy ones are of."""
    tracks = {name: frame_snr_db(predictor, x) for name, x in recordings.samples.items()}
    usable_s = _usable_s(recordings, tracks)
    share, notes, refusal = usable_s / recordings.total_s, _notes(recordings), ""
    found = voices(encoder, recordings, tracks) if encoder is not None else {}
    likeness = alike(found, noisy.voices)
    if share < NOISY_SHARE:
        refusal = f"it is noisy: only {100 * share:.0f} % of it are above 0 dB; leave it among the noisy ones"
    elif likeness is not None and likeness < ALIKE:
        refusal = f"it sounds like another person than the noisy recordings (likeness {likeness:.2f})"
    elif share < CLEAN_SHARE:
        notes.append(f"it has some noise: {100 * share:.0f} % of it are above 0 dB")
    return Verdict(tracks, recordings.total_s, usable_s, notes, refusal, found)


def _usable_s(recordings: Recordings, tracks: Mapping[str, np.ndarray]) -> float:
    """Seconds above 0 dB."""
    parts = (float((x > 0).mean()) * len(recordings.samples[n]) for n, x in tracks.items())
    return sum(parts) / recordings.sample_rate


def _notes(recordings: Recordings) -> list[str]:
    clipped = [n for n, x in recordings.samples.items() if any("clipped" in fault for fault in audio.faults(x))]
    narrow = [n for n, x in recordings.samples.items() if _is_narrow(x, recordings.sample_rate)]
    total, notes = len(recordings.samples), []
    if clipped:
        notes.append(f"{len(clipped)} of {total} recordings are clipped: turn the microphone down")
    if narrow:
        told = "as on a telephone; a model of them will know such sound only"
        notes.append(f"{len(narrow)} of {total} recordings have nothing above {NARROW_HZ / 1000:.0f} kHz, {told}")
    return notes


def _is_narrow(samples: np.ndarray, sample_rate: int) -> bool:
    """Whether hardly any of the energy of [T] lies in the upper half of a wide band."""
    if sample_rate / 2 <= NARROW_HZ:
        return False
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    above = spectrum[round(len(spectrum) * 1.1 * NARROW_HZ / (sample_rate / 2)) :].sum()
    return 10 * np.log10(max(above, 1e-20) / max(spectrum.sum(), 1e-20)) < NARROW_DB


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def draw(verdict: Verdict, path: Path) -> None:
    """The frame SNR of every recording as a picture."""
    from pse.scoring.plots import usable_speech

    told = f"{_minutes(verdict.usable_s)} of {_minutes(verdict.total_s)} are above 0 dB"
    usable_speech(verdict.frame_snr_db, f"How noisy the recordings are: {told}", path=path)
