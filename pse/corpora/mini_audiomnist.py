"""The embedded corpus as AudioMNIST lies in its repository: spoken digits by speaker, and the speakers' table.

The digits are synthesised here, as the sentences of `mini` hold none. Nobody in it speaks in `mini` too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pse.corpora import espeak, voices
from pse.corpora.audiomnist import TABLE
from pse.errors import PseError
from pse.io import audio
from pse.io.atomic import writing_dir
from pse.io.jsonl import read_json, write_json

WORDS = "zero one two three four five six seven eight nine".split()
SAMPLE_RATE = 48000
# The speakers of `mini` are the first ones of their sex: it has fewer than that.
FIRST_VOICE = 100
STREAM = 8
SEX_WORDS = {"F": "female", "M": "male"}
MAX_SPEAKERS = 60


def make(target: Path, seed: int = 0, num_speakers: int = 8, num_repetitions: int = 2) -> Path:
    """Write data/<speaker>/<digit>_<speaker>_<repetition>.wav and data/audioMNIST_meta.txt below `target`.

    A third are women. A tree with these parameters is left alone, any other that this function made is made
    anew. The 160 digits take 3 s and 14 MB. Raises PseError for impossible numbers or a directory that
    holds something else; EnvironmentFault without the synthesiser.
    """
    if not (1 <= num_speakers <= MAX_SPEAKERS and num_repetitions >= 1 and seed >= 0):
        what = f"{num_speakers} speakers, {num_repetitions} repetitions and the seed {seed} cannot be"
        raise PseError(what, target, f"take 1 to {MAX_SPEAKERS} speakers, 1 repetition or more, a seed of 0 or more")
    wanted = {"seed": seed, "speakers": num_speakers, "repetitions": num_repetitions, "espeak-ng": espeak.version()}
    marker = target / "made_of.json"
    if marker.is_file() and read_json(marker) == wanted:
        return target
    if target.exists() and not marker.is_file() and any(target.iterdir()):
        raise PseError("holds something that is not of mini", target, "choose an empty directory")
    with writing_dir(target) as new:
        table = {f"{n + 1:02d}": _speak(new / "data", n, seed, num_repetitions) for n in range(num_speakers)}
        write_json(new / "data" / TABLE, table)
        write_json(new / marker.name, wanted)
    return target


def _speak(data: Path, number: int, seed: int, num_repetitions: int) -> dict[str, Any]:
    """Write the digits of one speaker; returns the row of the table."""
    name, sex = f"{number + 1:02d}", "F" if number % 3 == 0 else "M"
    voice = voices.speaker(sex, FIRST_VOICE + number, seed)
    for digit, word in enumerate(WORDS):
        rng = np.random.default_rng([seed, STREAM, number, digit])
        for repetition in range(num_repetitions):
            samples = voices.say(voice, f"{word}.", int(rng.integers(2**31)), SAMPLE_RATE)
            audio.write(data / name / f"{digit}_{name}_{repetition}.wav", samples, SAMPLE_RATE)
    # As text for some and as a number for others, as in the published table.
    age = 20 + 3 * number
    return {"accent": voice.name.partition("+")[0], "age": age if number % 2 else str(age), "gender": SEX_WORDS[sex]}
