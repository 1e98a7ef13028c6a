"""What recordings are worth, before anything is trained on them: how much speech, how noisy, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pse.dsp.band import NARROW_HZ, is_narrow
from pse.inference.frame_snr import frame_snr_db
from pse.personalize.identity import (
    ALIKE,
    MANY_STRANGERS,
    Heard,
    alike,
    in_words,
    middle,
    strangers,
    two_digits,
    voices,
)
from pse.personalize.material import GAP_DB, Recordings

# Of frames above 0 dB: less is too little to learn a voice from, or to see whether it was learnt. The share is of all.
LEAST_USABLE_S, LITTLE_USABLE_S, LEAST_USABLE_SHARE = 20.0, 60.0, 0.1
# A part of 20 s counts where so many of its frames are well above the noise: in long noise seconds come together that
# are taken for speech. Of 20 kinds of noise (240 parts) 14 had a tenth above 0 dB or more, by this six have (animals,
# barks, children, a crowd, drills, machines; of street music 7 % where it was 19 %). Of 36 readers in noise, three
# utterances each, it refuses nobody at 10 dB, one at 5 dB and seven at 0 dB; silent half of the time 1, 3 and 17.
WELL_DB, WELL_SHARE = 8.0, 0.06
# How far speech is above the noise, which is a few dB above the ratio of the two. Set on the first utterances of 118
# readers of LibriSpeech, where NOISY_DB refuses one that is clean (1963: 4 dB). Of 118 other readers it refuses 0
# without noise, and 70, 116 and 115 in noise at 10, 5 and 0 dB; 0, 110, 117 and 118 are below CLEAN_DB.
CLEAN_DB, NOISY_DB = 22.0, 16.0
# So much of noises may sound like the voice that is to be kept. To 58 readers 6 % of babble and 3 % of 150 recorded
# noises did at most, 14 % of children or dogs alone; the clean speech of 48 of them itself, and 9 % of that of others.
MUCH_OWN = 0.25
# A line names so many recordings, and a picture shows so many.
MOST_NAMED, MOST_SHOWN = 3, 8


@dataclass(frozen=True)
class Verdict:
    """What was found.

    frame_snr_db, seconds: by recording, its frames [F] as predicted and how long it is; notes: what to know; refusal:
    why nothing can be trained on it, or nothing; voices: whoever is heard in the windows that are clear enough;
    strangers: those that are somebody else; clipped: these recordings are.
    """

    frame_snr_db: Mapping[str, np.ndarray]
    seconds: Mapping[str, float]
    usable_s: float
    notes: list[str] = field(default_factory=list)
    refusal: str = ""
    voices: Sequence[Heard] = ()
    strangers: Sequence[Heard] = ()
    clipped: frozenset[str] = frozenset()

    @property
    def total_s(self) -> float:
        """Seconds in all."""
        return sum(self.seconds.values())

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
        ]
        if len(self.frame_snr_db) > 1:
            worst = list(self.above.items())[:MOST_NAMED]
            lines.append("the noisiest: " + ", ".join(f"{n} ({100 * share:.0f} % above 0 dB)" for n, share in worst))
        return "\n".join([*lines, *self.notes, *([f"not usable: {self.refusal}"] if self.refusal else [])])

    @property
    def above(self) -> dict[str, float]:
        """What share of each recording is above 0 dB, the noisiest first."""
        shares = {name: float((track > 0).mean()) for name, track in self.frame_snr_db.items()}
        return dict(sorted(shares.items(), key=lambda item: item[1]))


def judge_recordings(recordings: Recordings, predictor: Any, encoder: Any = None) -> Verdict:
    """The verdict on recordings, by a model of frame SNR, and by one of voices where there is one."""
    found = _look(recordings, predictor, encoder)
    least_s = max(LEAST_USABLE_S, LEAST_USABLE_SHARE * found.total_s)
    if found.refusal:
        return found
    if found.usable_s < least_s:
        return replace(found, refusal=_too_little(recordings, found, least_s))
    if found.usable_s < LITTLE_USABLE_S:
        found.notes.append(f"this is little: {LITTLE_USABLE_S:.0f} s of clear speech and more are better")
    return found


def judge_clean(recordings: Recordings, noisy: Verdict, predictor: Any, encoder: Any = None) -> Verdict:
    """The verdict on recordings that are said to be clean, and of the person whom the noisy ones are of."""
    found = _look(recordings, predictor, encoder, noisy.voices)
    above_db, likeness = stands_out_db(recordings, found.frame_snr_db), alike(found.voices, noisy.voices)
    if found.refusal:
        return found
    if above_db < NOISY_DB:
        told = f"it is noisy: its speech is only {above_db:.0f} dB above the noise; leave it among the noisy ones"
        return replace(found, refusal=told)
    if likeness is not None and likeness < ALIKE:
        told = f"likeness {two_digits(likeness)}, {ALIKE} is needed"
        return replace(found, refusal=f"it sounds like another person than the noisy recordings ({told})")
    if likeness is not None:
        found.notes.append(f"that is enough ({ALIKE}), but no proof: one in eight other people is as alike")
    if above_db < CLEAN_DB:
        found.notes.append(f"it has some noise: its speech is {above_db:.0f} dB above it")
    return found


def judge_noises(noises: Recordings, noisy: Verdict, predictor: Any, encoder: Any = None) -> tuple[str, str]:
    """What there is of speech in recordings of noise, in words, and why they are not to be trained with, or nothing.

    Music, babble and other people may be removed: only the voice that is to be kept may not.
    """
    tracks = {name: frame_snr_db(predictor, x) for name, x in noises.samples.items()}
    spoken = {name for name, _, _, track in noises.in_parts(tracks) if _stands_out(track)}
    told = f"{len(tracks)} recordings, {_minutes(noises.total_s)}"
    told += f"; {len(spoken)} of them hold speech or what sounds like it"
    if encoder is None or not noisy.voices:
        return told, ""
    known = middle(noisy.voices)
    own_s = sum(h.end_s - h.start_s for h in voices(encoder, noises, tracks) if h.vector @ known >= ALIKE)
    share = own_s / noises.total_s
    if share <= MUCH_OWN:
        return told, ""
    return told, f"{100 * share:.0f} % of it sound like the voice that is to be kept; give noises without it"


def _look(recordings: Recordings, predictor: Any, encoder: Any, known: Sequence[Heard] = ()) -> Verdict:
    """What is asked of any recordings: how wide, how noisy, whose, and how like those that are known already."""
    tracks = {name: frame_snr_db(predictor, x) for name, x in recordings.samples.items()}
    heard = voices(encoder, recordings, tracks) if encoder is not None else []
    others = strangers(heard)
    narrow = [n for n, x in recordings.samples.items() if is_narrow(x, recordings.sample_rate)]
    narrow_s = sum(len(recordings.samples[n]) for n in narrow) / recordings.sample_rate
    total, notes, refusal = len(recordings.samples), [in_words(encoder, heard, others, alike(heard, known))], ""
    if recordings.clipped:
        notes.append(f"{len(recordings.clipped)} of {total} recordings are clipped: turn the microphone down")
    band = f"{len(narrow)} of {total} recordings have hardly anything above {NARROW_HZ / 1000:.0f} kHz"
    if narrow_s > recordings.total_s / 2:
        # Before all that the predictor says.
        why = "as over a telephone, muffled speech, or music: the SNR predictor takes such sound for noise"
        refusal = f"{band}, {why}; give speech that was recorded at 16 kHz or more, with nothing over the microphone"
    elif narrow:
        notes.append(f"{band}; a model of them will know such sound only")
    if not refusal and len(others) > MANY_STRANGERS * len(heard):
        refusal = "several people speak: keep the recordings of one"
    seconds = {name: len(samples) / recordings.sample_rate for name, samples in recordings.samples.items()}
    usable_s = _usable_s(recordings, tracks)
    return Verdict(tracks, seconds, usable_s, notes, refusal, heard, others, recordings.clipped)


def _usable_s(recordings: Recordings, tracks: Mapping[str, np.ndarray]) -> float:
    """Seconds above 0 dB, of the parts in which speech stands out."""
    parts = (float((x > 0).mean()) * len(part) for _, _, part, x in recordings.in_parts(tracks) if _stands_out(x))
    return sum(parts) / recordings.sample_rate


def _stands_out(track: np.ndarray) -> bool:
    return float((track > WELL_DB).mean()) >= WELL_SHARE


def _too_little(recordings: Recordings, found: Verdict, least_s: float) -> str:
    """Why there is too little to learn from."""
    with_speech = [_stands_out(track) for *_, track in recordings.in_parts(found.frame_snr_db)]
    if with_speech.count(False) <= len(with_speech) / 2:
        return f"{found.usable_s:.0f} s of clear speech, {least_s:.0f} s are needed: record more, or nearer"
    where = f"{with_speech.count(False)} of {len(with_speech)} parts"
    return f"hardly any speech stands out in {where}: music, noise, or a voice too far away"


def stands_out_db(recordings: Recordings, tracks: Mapping[str, np.ndarray]) -> float:
    """How far speech is above the noise in all: the energy of frames of noise against that of the others, in dB.

    Frames near 0 dB do not count as noise: in clean speech some loud ones are taken for it, and they would be most of
    what is found. Every part of 20 s counts by its length, whatever its level.
    """
    noise, count = 0.0, 0
    for _, _, part, track in recordings.in_parts(tracks):
        starts = np.linspace(0, len(part), len(track), endpoint=False).astype(int)
        energy = np.add.reduceat(np.square(part), starts)
        noise += len(part) * float(energy[track < GAP_DB].sum()) / max(float(energy.sum()), 1e-20)
        count += len(part)
    share = min(max(noise / count, 1e-5), 1 - 1e-5)
    return float(10 * np.log10((1 - share) / share))


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def draw(verdict: Verdict, path: Path) -> None:
    """The frame SNR of the worst recordings over time as a picture."""
    from pse.scoring.plots import recording_tracks

    marks: dict[str, list[tuple[float, float]]] = {}
    for heard in verdict.strangers:
        marks.setdefault(heard.recording, []).append((heard.start_s, heard.end_s))
    # The noisiest, and half the rows at most for those with something else the matter.
    odd = [name for name in verdict.above if name in verdict.clipped or name in marks][: MOST_SHOWN // 2]
    chosen = (odd + [name for name in verdict.above if name not in odd])[:MOST_SHOWN]
    labels = {
        name: f"{name}: {100 * share:.0f} % above 0 dB" + (", clipped" if name in verdict.clipped else "")
        for name, share in verdict.above.items()
        if name in chosen
    }
    total = len(verdict.frame_snr_db)
    which = f"; the worst {len(labels)} of {total} recordings" if len(labels) < total else ""
    told = f"{_minutes(verdict.usable_s)} of {_minutes(verdict.total_s)} are speech that stands out{which}"
    recording_tracks(
        {label: verdict.frame_snr_db[name] for name, label in labels.items()},
        {label: verdict.seconds[name] for name, label in labels.items()},
        {label: marks.get(name, []) for name, label in labels.items()},
        "sounds like somebody else", told, path=path,
    )  # fmt: skip
