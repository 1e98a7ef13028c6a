"""Noises to train with out of little: synthesised ones, people at once, and recorded ones in many guises.

    python tools/make_noises.py OUT --librispeech_dir /corpora/LibriSpeech --noise_dir /corpora/noise --minutes 120

writes OUT/train, OUT/valid and OUT/test, a folder for each kind; what is in one is made of nothing that is in another.
The same command writes the same files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pse.cli import guarded
from pse.corpora import folder, librispeech, noises
from pse.corpora.base import Recording
from pse.errors import PseError
from pse.io import audio
from pse.io.atomic import writing_dir

RATE, CLIP_S = 16000, 8.0
SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}
SYNTHESISED = ("stationary", "modulated", "impulsive", "hum", "music")
# What part of the clips is of which kind.
RECORDED, BABBLE = 0.5, 0.15
TALKERS, SPEED, TILT_DB_PER_OCTAVE, SECOND = (3, 12), (0.6, 1.5), (-4.0, 4.0), 0.4


def main(argv: Sequence[str] | None = None) -> int:
    """Write the noises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--librispeech_dir", type=Path, required=True, help="readers that talk at once")
    parser.add_argument("--noise_dir", type=Path, required=True, help="recorded noises, in any folders")
    parser.add_argument("--noise_manifest", type=Path, help="which of them train, validate and test")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.output.exists():
        raise PseError("is there already", args.output, "choose another name, or remove it")
    readers = librispeech.scan(args.librispeech_dir, need_targets=False)
    recorded = folder.scan(args.noise_dir, manifest=args.noise_manifest, skip_bad=True, seed=args.seed)
    talking = _talking(readers, args.librispeech_dir)
    with writing_dir(args.output) as new:
        for number, (part, share) in enumerate(SHARES.items()):
            count = max(1, round(60 * args.minutes * share / CLIP_S))
            sounds = [r for r in recorded if r.split == part]
            made = write_part(new / part, count, talking[part], sounds, np.random.default_rng([args.seed, number]))
            print(f"{part}: {made}", flush=True)
    return 0


def _talking(readers: Sequence[Recording], place: Path) -> dict[str, list[Path]]:
    """Whose voices are in which part: target speakers in none, those who validate generalists in valid and in test."""
    others = sorted({r.speaker for r in readers if r.split == "valid"})
    people = {"train": {r.speaker for r in readers if r.split == "train"}, "valid": others[::2], "test": others[1::2]}
    found = {part: [r.path for r in readers if r.speaker in who] for part, who in people.items()}
    if not all(found.values()):
        what = f"{len(people['train'])} readers to train on and {len(others)} to validate on, 1 and 2 are needed"
        raise PseError(what, place, "add readers of train-clean-100")
    return found


def write_part(
    place: Path, count: int, talk: Sequence[Path], sounds: Sequence[Recording], random: np.random.Generator
) -> str:
    """Write `count` clips; returns how many there are of each kind."""
    makers: dict[str, Callable[[], np.ndarray]] = {
        kind: lambda kind=kind: noises.render(kind, random, CLIP_S, RATE, lambda *rest: _crowd(talk, random))
        for kind in SYNTHESISED
    }
    makers |= {"babble": lambda: _crowd(talk, random), "recorded": lambda: _guise(sounds, random)}
    each = (1 - RECORDED - BABBLE) / len(SYNTHESISED)
    shares = dict.fromkeys(SYNTHESISED, each) | {"babble": BABBLE, "recorded": RECORDED if sounds else 0.0}
    numbers = {kind: round(count * share) for kind, share in shares.items()}
    for kind, number in numbers.items():
        for i in range(number):
            samples = noises.levelled(makers[kind]().astype(np.float64), random)
            audio.write(place / kind / f"{kind}-{i:04d}.flac", samples, RATE)
    return ", ".join(f"{number} {kind}" for kind, number in numbers.items())


def _crowd(talk: Sequence[Path], random: np.random.Generator) -> np.ndarray:
    """Several readers at once [T], near and far, forwards and (half of them) backwards: nobody's words are learnt."""
    total = np.zeros(round(CLIP_S * RATE))
    for path in random.choice(np.array(talk, object), int(random.integers(*TALKERS, endpoint=True))):
        samples, _ = audio.read(path, RATE)
        samples = np.resize(np.roll(samples, int(random.integers(len(samples)))), len(total))
        samples = samples[::-1] if random.random() < 0.5 else samples
        total += samples / max(1e-6, samples.std()) * 10 ** (random.uniform(-10, 0) / 20)
    return total


def _guise(sounds: Sequence[Recording], random: np.random.Generator) -> np.ndarray:
    """A stretch of a recording [T] at another speed, with another tilt, at times with a second one."""
    found = _stretch(sounds, random)
    if random.random() < SECOND:
        found = found + _stretch(sounds, random) * 10 ** (random.uniform(-10, 0) / 20)
    return found


def _stretch(sounds: Sequence[Recording], random: np.random.Generator) -> np.ndarray:
    size = round(CLIP_S * RATE)
    for _ in range(50):
        chosen = sounds[int(random.integers(len(sounds)))]
        samples, rate = audio.read(chosen.path)
        as_played = round(rate * np.exp(random.uniform(*np.log(SPEED))))
        samples = audio.resample(samples, as_played, RATE)
        start = int(random.integers(max(1, len(samples) - size)))
        part = np.resize(samples[start : start + size], size).astype(np.float64)
        if part.std() > 1e-5:
            break
    spectrum = np.fft.rfft(part / max(part.std(), 1e-9))
    octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / RATE), 50.0) / 1000)
    found = np.fft.irfft(spectrum * 10 ** (random.uniform(*TILT_DB_PER_OCTAVE) * octaves / 20), size)
    return found / max(found.std(), 1e-9)


if __name__ == "__main__":
    sys.exit(guarded(main))
