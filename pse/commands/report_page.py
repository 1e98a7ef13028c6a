"""The page of `pse report`: what is measured of all recordings, and what is shown of the first ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pse import __version__
from pse.commands.matching import RESIDUAL, WHOLE, Matched
from pse.commands.status import StatusLine
from pse.errors import PseError, first_three
from pse.scoring.comparison import (
    MEASURED_S,
    PLAYED_S,
    Column,
    Judge,
    Measured,
    cell,
    columns,
    failures,
    mean_cell,
    measure,
)
from pse.scoring.tables import Value

# Browsers take more, slowly; recordings beyond it are measured and not shown.
LARGEST_PAGE_BYTES = 100e6
LARGEST_SNR_DB = 40.0


@dataclass
class Gathered:
    """What was found. labels: condition -> part, as in `Matched` -> its player's name.

    measured: recording -> label -> what was measured, without samples where there is nothing to listen to. full: a
    recording is not shown for the size of the page.
    """

    labels: Mapping[str, Mapping[int, str]]
    measured: dict[str, dict[str, Measured]] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    scored: bool = False
    full: bool = False

    @property
    def first(self) -> str:
        """The player of the recordings themselves, to which the others are compared."""
        return next(iter(self.labels.values()))[WHOLE]

    @property
    def players(self) -> list[str]:
        """The names of all players, in order."""
        return [label for labels in self.labels.values() for label in labels.values()]


def gather(matched: Matched, clean: Mapping[str, Path], judge: Judge, max_files: int) -> Gathered:
    """Measure all files. Raises PseError where none of a condition can be read."""
    found = Gathered(_labels(matched), notes=list(matched.notes), scored=bool(clean))
    size = 0.0
    with StatusLine() as line:
        for number, name in enumerate(matched.recordings):
            line.tell(f"{number} of {len(matched.recordings)} recordings")
            files = {
                found.labels[condition][part]: path
                for condition, its in matched.files.items()
                for part, path in its.get(name, {}).items()
            }
            here = _read_one(files, clean.get(name), judge, found)
            size += sum(8 / 3 * len(m.samples) + 4e5 for m in here.values())
            wanted = bool(here) and len(found.shown) < max_files
            found.full = found.full or wanted and size >= LARGEST_PAGE_BYTES
            if wanted and not found.full:
                found.shown.append(name)
            else:
                here = {label: _without_sound(m) for label, m in here.items()}
            found.measured[name] = here
    _check(found, matched, clean, max_files)
    return found


def _labels(matched: Matched) -> dict[str, dict[int, str]]:
    """A player for each condition, or for all parts that recordings have in it."""

    def label(condition: str, part: int) -> str:
        of_part = {WHOLE: "", RESIDUAL: ", residual"}
        return condition + of_part.get(part, f", speaker {part}")

    parts = {condition: sorted(set().union(*files.values())) for condition, files in matched.files.items()}
    return {condition: {part: label(condition, part) for part in its} for condition, its in parts.items()}


def _read_one(
    files: Mapping[str, Path], clean: Path | None, judge: Judge, found: Gathered
) -> dict[str, Measured]:
    """What can be measured of one recording; what cannot be read goes to the notes."""
    scored = [labels[WHOLE] for labels in found.labels.values() if WHOLE in labels]
    try:
        told = measure(files, judge, clean, scored)
    except PseError as error:
        found.unreadable.append(str(error))
        told = measure(files, judge)
    found.unreadable += [str(x) for x in told.values() if isinstance(x, PseError)]
    return {label: x for label, x in told.items() if not isinstance(x, PseError)}


def _without_sound(measured: Measured) -> Measured:
    nothing = np.zeros(0, np.float32)
    track = measured.frame_snr_db
    mean = None if track is None else track.mean(keepdims=True)
    return replace(measured, samples=nothing, frame_snr_db=mean)


def _check(found: Gathered, matched: Matched, clean: Mapping[str, Path], max_files: int) -> None:
    """Write down what a reader has to know. Raises PseError for a condition of which nothing could be read."""
    for condition, labels in found.labels.items():
        if not any(label in here for here in found.measured.values() for label in labels.values()):
            raise PseError(found.unreadable[0], None, f"no file of {condition} can be read")
    notes = found.notes
    notes += [f"cannot be used: {why}" for why in found.unreadable]
    if clean and (lacking := [name for name in matched.recordings if name not in clean]):
        notes.append(f"without a reference, and so without scores: {first_three(lacking)}")
    uneven = [name for name, here in found.measured.items() if len({round(m.duration_s, 2) for m in here.values()}) > 1]
    if uneven:
        notes.append(f"of different lengths in the conditions: {first_three(uneven)}")
    for what, most in (("played", PLAYED_S), ("measured", MEASURED_S)):
        names = found.shown if what == "played" else matched.recordings
        long = [name for name in names if any(m.duration_s > most for m in found.measured[name].values())]
        if long:
            notes.append(f"only the first {most:g} s are {what}: {first_three(long)}")
    if len(found.shown) < min(max_files, len(found.measured)):
        told = f"a page of more than {LARGEST_PAGE_BYTES / 1e6:.0f} MB opens slowly"
        why = told if found.full else "the others cannot be read"
        notes.append(f"{len(found.shown)} of {len(found.measured)} recordings can be listened to: {why}")
    elif len(found.shown) < len(found.measured):
        notes.append(f"the first {max_files} of {len(found.measured)} recordings can be listened to (--max_files)")


def write_page(path: Path, found: Gathered, judge: Judge) -> int:
    """Write the page; how many recordings it has to listen to."""
    from pse.scoring.report import Examples, Section, Text, write

    cols = columns(judge, found.scored)
    conditions = list(found.labels)
    sections: list[Section] = [_summary(found, cols)]
    notes = list(found.notes)
    if judge.predictor is None:
        notes.append(
            "Frame SNR and weights are left out for want of a model that predicts them: give --predictor, a directory "
            "that the recipe librispeech_pse packs (exp/<tag>/package/snr_predictor)."
        )
    if notes:
        sections.append(Text("What to know", notes))
    intro = "Pictures of a recording have one time axis and one range of levels, so that they can be compared."
    sections.append(Examples("Listen", [_example(name, found, judge, cols) for name in found.shown], intro))
    title = f"Recordings: {', '.join(conditions)}"
    total = sum(max((m.duration_s for m in here.values()), default=0.0) for here in found.measured.values())
    subtitle = f"{len(found.measured)} recordings, {total / 60:.1f} min"
    write(path, title, sections, subtitle, f"Made by pse report, version {__version__}.")
    return len(found.shown)


def _summary(found: Gathered, cols: list[Column]) -> Any:
    from pse.scoring.report import Table

    rows = []
    for condition, labels in found.labels.items():
        # What is left over would spoil the means of the speakers.
        meant = {label for part, label in labels.items() if part != RESIDUAL}
        pairs = [(m, h.get(found.first)) for h in found.measured.values() for n, m in h.items() if n in meant]
        minutes = sum(m.duration_s for m, _ in pairs) / 60
        values = {c.heading: [c.value(m, first) for m, first in pairs] for c in cols}
        means = [mean_cell(values[c.heading], c.decimals) for c in cols]
        rows.append([condition, str(len(pairs)), f"{minutes:.1f}", *means])
        for what, times, why in failures(values):
            found.notes.append(f"{condition}: no {what} of {times} of {len(pairs)} files: {why}")
    told = ["Means over the files ± half-width of the 95 % confidence interval (Student's t), and their number."]
    if found.scored:
        told.append(f"SI-SDRi: improvement over {found.first} of the same recording.")
    return Table("Summary", ["condition", "files", "minutes", *(c.heading for c in cols)], rows, " ".join(told))


def _example(name: str, found: Gathered, judge: Judge, cols: list[Column]) -> Any:
    from pse.scoring.report import Example, Table

    here = found.measured[name]
    first = here.get(found.first)
    labels = [n for n in found.players if n in here or not _of_speaker(n, found)]
    rows = []
    for label in labels:
        one = here.get(label)
        values: list[Value | None] = [None if one is None else c.value(one, first) for c in cols]
        about = ["-", "-"] if one is None else [f"{one.duration_s:.2f}", f"{one.sample_rate:,}"]
        rows.append([label, *about, *(cell(v, c.decimals) for v, c in zip(values, cols, strict=True))])
    table = Table(f"Of {name}", ["condition", "length (s)", "rate (Hz)", *(c.heading for c in cols)], rows)
    signals = {n: here[n].samples if n in here else None for n in labels}
    rates = {n: m.sample_rate for n, m in here.items()}
    below = [table, *_tracks(labels, here, judge)]
    return Example(name, rates, signals, note=_note(here, cols, found.first), below=below)


def _of_speaker(label: str, found: Gathered) -> bool:
    """Whether a player is of one of several parts: a speaker who is not there is not missed."""
    return any(label in list(labels.values())[1:] for labels in found.labels.values())


def _note(here: Mapping[str, Measured], cols: list[Column], first: str) -> str:
    """What a listener has to know of one recording."""
    told = [f"The first {PLAYED_S:g} s of it."] if any(m.duration_s > PLAYED_S for m in here.values()) else []
    start = here.get(first)
    for label, one in here.items():
        difference = 0.0 if start is None else one.duration_s - start.duration_s
        if abs(difference) >= 0.005:
            told.append(f"{label} is {abs(difference):.2f} s {'longer' if difference > 0 else 'shorter'} than {first}.")
        values = {c.heading: [c.value(one, start)] for c in cols}
        told += [f"No {what} of {label}: {why}." for what, _, why in failures(values)]
    return " ".join(told)


def _tracks(labels: list[str], here: Mapping[str, Measured], judge: Judge) -> list[Any]:
    """Frame SNR and the weights that data purification would give to the frames."""
    tracks = {n: m.frame_snr_db for n, m in here.items() if m.frame_snr_db is not None}
    if not tracks:
        return []
    import torch

    from pse.losses.purification import SLOPES, snr_to_weight
    from pse.scoring.tracks import Curve, Tracks

    seconds = max(len(m.samples) / m.sample_rate for m in here.values())
    count = 1 + round(seconds / judge.hop_s)
    snr = {n: tracks[n][:count] if n in tracks else None for n in labels}
    slope = SLOPES["target"]
    weights = {n: None if v is None else snr_to_weight(torch.from_numpy(v), slope).numpy() for n, v in snr.items()}
    top = LARGEST_SNR_DB
    curves = [
        Curve("Predicted frame SNR", "dB", -top / 2, top, snr, 0.0),
        Curve("Weight in data purification (Wiener gain of the frame SNR)", "", 0.0, 1.0, weights, 0.5),
    ]
    return [Tracks(curves, judge.hop_s, seconds)]
