"""The text files of the `mini` corpus, in the formats of LibriSpeech, FSD50K and MUSAN."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from pse.corpora.mini_parts import CLIP_STREAMS, FSD50K, NOISE, Clip, Plan, Speaker
from pse.io.atomic import write_text
from pse.io.audio import probe

NOTE = (
    "Made by pse (corpus `mini`) with a speech synthesiser and noise generators, laid out as {name}.\n"
    "It holds no recording of {name}. Free for any use (CC0 1.0).\n"
)
# Labels of FSD50K's vocabulary and their AudioSet ids.
MIDS = {
    "Alarm": "/m/07pp_mv",
    "Chatter": "/m/07rkbfh",
    "Clock": "/m/01x3z",
    "Crowd": "/m/03qtwd",
    "Domestic_sounds_and_home_sounds": "/t/dd00071",
    "Door": "/m/02dgv",
    "Engine": "/m/02mk9",
    "Frying_(food)": "/m/0dxrf",
    "Hammer": "/m/03l9g",
    "Human_group_actions": "/t/dd00012",
    "Human_voice": "/m/09l8g",
    "Idling": "/m/07pb8fc",
    "Keyboard_(musical)": "/m/05148p4",
    "Knock": "/m/07r4wb8",
    "Mechanical_fan": "/m/02x984l",
    "Mechanisms": "/t/dd00077",
    "Microwave_oven": "/m/0fx9l",
    "Music": "/m/04rlf",
    "Musical_instrument": "/m/04szw",
    "Ocean": "/m/05kq4",
    "Organ": "/m/013y1f",
    "Rain": "/m/06mb1",
    "Ringtone": "/m/01hnzm",
    "Sawing": "/m/01b82r",
    "Speech": "/m/09x0r",
    "Speech_synthesizer": "/m/0brhx",
    "Telephone": "/m/07cx4",
    "Tick-tock": "/m/07qjznl",
    "Tools": "/m/07k1x",
    "Typing": "/m/0316dw",
    "Waves_and_surf": "/m/034srq",
    "Wind": "/m/03m9d0z",
}
LABELS = {
    "stationary": (
        "Rain",
        "Mechanical_fan,Mechanisms",
        "Frying_(food),Domestic_sounds_and_home_sounds",
        "Wind",
    ),
    "modulated": ("Waves_and_surf,Ocean", "Sawing,Tools"),
    "impulsive": (
        "Knock,Door,Domestic_sounds_and_home_sounds",
        "Hammer,Tools",
        "Tick-tock,Clock,Mechanisms",
        "Typing,Domestic_sounds_and_home_sounds",
    ),
    "hum": ("Engine", "Idling,Engine", "Microwave_oven,Domestic_sounds_and_home_sounds"),
    "babble": ("Chatter,Human_group_actions", "Crowd,Human_group_actions"),
    "music": ("Organ,Keyboard_(musical),Musical_instrument,Music", "Ringtone,Telephone,Alarm"),
    "speech": ("Speech_synthesizer,Speech,Human_voice",),
}


def write(root: Path, plan: Plan, speakers: list[Speaker], clips: list[Clip]) -> None:
    """Write all tables and notes; the audio has to be there (SPEAKERS.TXT tells the minutes)."""
    write_text(root / "LibriSpeech" / "SPEAKERS.TXT", _speakers(root, speakers))
    write_text(root / "LibriSpeech" / "README.TXT", NOTE.format(name="LibriSpeech"))
    truth = root / "FSD50K" / "FSD50K.ground_truth"
    for part in FSD50K:
        write_text(truth / f"{part}.csv", _ground_truth(plan, part, [c for c in clips if c.stream == part]))
    vocabulary = [[index, label, MIDS[label]] for index, label in enumerate(sorted(MIDS))]
    write_text(truth / "vocabulary.csv", _csv(vocabulary))
    write_text(root / "FSD50K" / "FSD50K.doc" / "README.md", NOTE.format(name="FSD50K"))
    write_text(root / "musan" / "README", NOTE.format(name="MUSAN"))
    for part in (*NOISE, "fma", "librivox"):
        inside = [c for c in clips if c.stream == part]
        directory = (root / inside[0].path).parent
        write_text(directory / "ANNOTATIONS", "".join(_annotation(c) for c in inside))
        write_text(directory / "LICENSE", "".join(f"{Path(c.path).stem}\tCC0 1.0\n" for c in inside))


def _speakers(root: Path, speakers: list[Speaker]) -> str:
    lines = ["; Voices of a speech synthesiser; the ids are those of readers in LibriSpeech.\n"]
    lines.append(";ID  |SEX| SUBSET           |MINUTES| NAME\n")
    for s in sorted(speakers, key=lambda speaker: int(speaker.id)):
        minutes = sum(probe(path).duration_s for path in (root / s.path).rglob("*.flac")) / 60
        name = f"voice {s.sex}{s.number:02d}"
        lines.append(f"{s.id:<4} | {s.sex} | train-clean-100  | {minutes:<5.2f} | {name}\n")
    return "".join(lines)


def _ground_truth(plan: Plan, part: str, clips: list[Clip]) -> str:
    rows: list[list[object]] = [["fname", "labels", "mids", *(["split"] if part == "dev" else [])]]
    for clip in clips:
        choices = LABELS[clip.kind]
        rng = np.random.default_rng([plan.seed, CLIP_STREAMS[clip.stream], clip.index, 2])
        pick = rng.integers(len(choices))
        mids = ",".join(MIDS[label] for label in choices[pick].split(","))
        # Every fifth clip validates: five and the six classes share no divisor, so all classes come.
        split = ["val" if clip.index % 5 == 0 else "train"] if part == "dev" else []
        rows.append([Path(clip.path).stem, choices[pick], mids, *split])
    return _csv(rows)


def _csv(rows: list[list[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _annotation(clip: Clip) -> str:
    name = Path(clip.path).stem
    # MUSAN's music lines are: file, genres, vocals (Y or N), artist.
    return f"{name} synthetic N pse\n" if clip.stream == "fma" else f"{name}\t{clip.kind}\n"
