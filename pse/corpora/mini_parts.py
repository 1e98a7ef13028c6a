"""The parts of the `mini` corpus: who speaks, which noises there are, and how each is written.

A part is one speaker's directory or one noise clip. It draws from a generator of its own, so that
it comes out the same whichever process writes it, and when.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from pse.corpora import noises, sentences, voices
from pse.corpora.librispeech import TEST_SPEAKERS, VALID_SPEAKERS
from pse.io.atomic import writing, writing_dir

SPEECH, NOISE = "LibriSpeech/train-clean-100", {"free-sound": 48, "sound-bible": 24}
FSD50K = {"dev": 60, "eval": 30}
SPEECH_RATE, FSD50K_RATE = 16000, 44100
UTTERANCE_S = (4.0, 14.0)
CLIP_S, SHORT_CLIP_S = (4.2, 12.0), (0.6, 3.6)
# Readers of the real train-clean-100, women and men in turn.
TEST_IDS = [reader for pair in zip(*TEST_SPEAKERS.values(), strict=True) for reader in pair]
VALID_IDS = [reader for pair in zip(*VALID_SPEAKERS.values(), strict=True) for reader in pair]
TRAIN_IDS = (
    "32 60 103 229 150 233 211 311 226 332 289 374 328 412 403 445 441 458 669 460 696 481 1069 831 1088 "
    "839 1098 909 1183 911 1246 1034 1363 1040 1447 1334 1553 1355 1737 1455 1841 1624 1898 1743 1926 "
    "2002 1963 2136 1970 2384 1992 2514 2007 2843 2092 2893 2182 3168 2196 3214 2391 3240 2416 3242 2817 "
    "3374 2836 3436 2910 3486 2989 3607 3112 3664 3235 3699 3259 3807 3440 3830 "
).split()
SPEAKER_STREAM = 1
CLIP_STREAMS = {"free-sound": 2, "sound-bible": 3, "dev": 4, "eval": 5, "fma": 6, "librivox": 7}


@dataclass(frozen=True)
class Plan:
    """What decides the corpus: equal plans give equal bytes."""

    seed: int
    num_speakers: int
    seconds_per_speaker: float
    target_seconds: float
    noise_share: float


@dataclass(frozen=True)
class Speaker:
    """One reader: LibriSpeech id, sex, the how-manieth of that sex, and how much is spoken."""

    id: str
    sex: str
    number: int
    seconds: float

    @property
    def path(self) -> str:
        """Directory below the corpus root."""
        return f"{SPEECH}/{self.id}"


@dataclass(frozen=True)
class Clip:
    """One noise file: `kind` is a class of `noises` or "speech"; `stream` and `index` seed it."""

    path: str
    kind: str
    stream: str
    index: int
    seconds: float
    sample_rate: int


def speakers(plan: Plan) -> list[Speaker]:
    """The readers of a plan: a fifth are test readers, a tenth validation readers, the others train."""
    num_test = min(max(1, round(plan.num_speakers / 5)), len(TEST_IDS))
    num_valid = min(max(1, round(plan.num_speakers / 10)), len(VALID_IDS))
    num_train = plan.num_speakers - num_test - num_valid
    found: list[Speaker] = []
    for ids, num in ((TEST_IDS, num_test), (VALID_IDS, num_valid), (TRAIN_IDS, num_train)):
        for place, name in enumerate(ids[:num]):
            sex = "FM"[place % 2]
            seconds = plan.target_seconds if ids is TEST_IDS else plan.seconds_per_speaker
            found.append(Speaker(name, sex, sum(s.sex == sex for s in found), seconds))
    return found


def clips(plan: Plan) -> list[Clip]:
    """All noise files of a plan, class after class in turn, so that every split holds every class."""
    found = []
    for part, full in NOISE.items():
        for index in range(_share(full, plan)):
            path = f"musan/noise/{part}/noise-{part}-{index:04d}.wav"
            found.append(_clip(plan, path, noises.KINDS[index % 6], part, index))
    for kind, part in (("music", "fma"), ("speech", "librivox")):
        for index in range(2):
            found.append(_clip(plan, f"musan/{kind}/{part}/{kind}-{part}-{index:04d}.wav", kind, part, index))
    names = np.random.default_rng([plan.seed, 99]).permutation(np.arange(1000, 9000)).tolist()
    for part, full in FSD50K.items():
        for index in range(_share(full, plan)):
            kind = "speech" if index % 12 == 7 else noises.KINDS[index % 6]
            path = f"FSD50K/FSD50K.{part}_audio/{names.pop()}.wav"
            found.append(_clip(plan, path, kind, part, index, FSD50K_RATE))
    return found


def _share(full: int, plan: Plan) -> int:
    return max(1, round(full * plan.noise_share))


def _clip(plan: Plan, path: str, kind: str, stream: str, index: int, rate: int = SPEECH_RATE) -> Clip:
    rng = np.random.default_rng([plan.seed, CLIP_STREAMS[stream], index, 0])
    # FSD50K holds many clips below the recipe's 4 s: here every ninth, in changing classes.
    limits = SHORT_CLIP_S if stream in FSD50K and index % 9 == 4 else CLIP_S
    return Clip(path, kind, stream, index, float(rng.uniform(*limits)), rate)


def write_clip(root: Path, plan: Plan, clip: Clip) -> None:
    """Render and write one noise file, atomically."""
    rng = np.random.default_rng([plan.seed, CLIP_STREAMS[clip.stream], clip.index, 1])
    if clip.kind == "speech":
        num_samples = round(clip.seconds * clip.sample_rate)
        samples = noises.levelled(voices.chatter(rng, num_samples, clip.sample_rate), rng)
    else:
        samples = noises.render(clip.kind, rng, clip.seconds, clip.sample_rate, voices.chatter)
    with writing(root / clip.path, "wb") as file:
        file.write(_encoded(samples, clip.sample_rate, "WAV"))


def write_speaker(root: Path, plan: Plan, speaker: Speaker) -> None:
    """Speak and write one reader's `<chapter>/<reader>-<chapter>-<number>.flac`, all or none."""
    rng = np.random.default_rng([plan.seed, SPEAKER_STREAM, int(speaker.id)])
    voice = voices.speaker(speaker.sex, speaker.number, plan.seed)
    num_chapters = int(np.clip(round(speaker.seconds / 60), 1, 5))
    chapters = np.sort(rng.choice(np.arange(100_000, 300_000), num_chapters, replace=False))
    spoken_s = 0.0
    with writing_dir(root / speaker.path) as directory:
        for number, chapter in enumerate(chapters, 1):
            lines: list[str] = []
            (directory / str(chapter)).mkdir()
            while spoken_s < speaker.seconds * number / num_chapters:
                name = f"{speaker.id}-{chapter}-{len(lines):04d}"
                text, samples = _utterance(voice, rng)
                content = _encoded(samples, SPEECH_RATE, "FLAC")
                (directory / str(chapter) / f"{name}.flac").write_bytes(content)
                lines.append(f"{name} {sentences.transcript(text)}\n")
                spoken_s += len(samples) / SPEECH_RATE
            table = directory / str(chapter) / f"{speaker.id}-{chapter}.trans.txt"
            table.write_text("".join(lines), encoding="utf-8")


def _utterance(voice: voices.Voice, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    while True:
        text = sentences.paragraph(rng, round(rng.uniform(4.5, 12.5) * voice.characters_per_s))
        samples = voices.say(voice, text, int(rng.integers(2**31)))
        if UTTERANCE_S[0] <= len(samples) / SPEECH_RATE <= UTTERANCE_S[1]:
            return text, samples


def _encoded(samples: np.ndarray, sample_rate: int, kind: str) -> bytes:
    # In memory first: a full disk then raises an OSError, which the atomic writer explains.
    file = io.BytesIO()
    integers = np.round(samples * 32767).astype(np.int16)
    soundfile.write(file, integers, sample_rate, format=kind, subtype="PCM_16")
    return file.getvalue()
