"""A personal model of a reader of LibriSpeech, made of noisy recordings, against the base model on what neither heard.

The recordings are utterances of the reader until so many minutes, each in a noise of the training split at 0 to 15 dB;
`pse personalize` gets them, its defaults and the noises of --own_noise_dir, if any. Tested are the first 6 s of 25
other utterances of the reader, each in four noises of the test split at -5 to 10 dB. Readers 19 and 26 were in no
training of the built-in models, nor were the noises of the test split. --clean_s: so many seconds of clean speech, too.
Run: python benchmarks/personalize.py WORK --librispeech_dir DIR --noise_dir DIR .. [--noise_manifest FILE]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import pse
from pse.corpora import folder, librispeech
from pse.data.mixture import add_noise
from pse.io import audio
from pse.scoring.metrics import si_sdr
from pse.scoring.statistics import mean_ci

RATE_HZ, HELD_OUT, TIMES, LONGEST_S = 16000, 25, 4, 6.0


def sound(path: Path) -> np.ndarray:
    """A recording [T]."""
    samples, rate = audio.read(path)
    return audio.resample(samples, rate, RATE_HZ)


class Reader:
    """What is recorded of a reader, and what is held out, in an order that the seed tells."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.random = np.random.default_rng([args.seed, int(args.reader)])
        found = [r for r in librispeech.scan(args.librispeech_dir, need_targets=False) if r.speaker == args.reader]
        order = [found[i] for i in self.random.permutation(len(found))]
        self.held, self.rest = order[:HELD_OUT], order[HELD_OUT:]
        noises = [n for d in args.noise_dir for n in folder.scan(d, args.noise_manifest, skip_bad=True)]
        self.noises = {split: [n for n in noises if n.split == split] for split in ("train", "test")}
        print(f"reader {args.reader}: {len(found)} utterances; noises: "
              + ", ".join(f"{len(some)} to {split}" for split, some in self.noises.items()))  # fmt: skip

    def noisy(self, speech: np.ndarray, split: str, snr_db: tuple[float, float]) -> np.ndarray:
        """Speech [T] in a noise of a split, from anywhere in it on."""
        noise = sound(self.noises[split][self.random.integers(len(self.noises[split]))].path)
        noise = np.resize(np.roll(noise, int(self.random.integers(len(noise)))), len(speech))
        return add_noise(speech, noise, float(self.random.uniform(*snr_db)))[0]

    def record(self, place: Path, minutes: float) -> float:
        """Write noisy recordings; how many minutes they are."""
        samples = 0
        while samples < minutes * 60 * RATE_HZ and self.rest:
            one = self.rest.pop(0)
            mix = self.noisy(sound(one.path), "train", (0, 15))
            audio.write(place / f"{one.id}.wav", mix * min(1.0, 0.9 / np.abs(mix).max()), RATE_HZ)
            samples += len(mix)
        return samples / RATE_HZ / 60

    def speak(self, place: Path, seconds: float) -> None:
        """Write clean recordings."""
        samples = 0
        while samples < seconds * RATE_HZ:
            one = self.rest.pop(0)
            speech = sound(one.path)
            audio.write(place / f"{one.id}.wav", speech, RATE_HZ)
            samples += len(speech)

    def tests(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(mixture, speech) of the held-out utterances."""
        heard = [sound(r.path)[: round(LONGEST_S * RATE_HZ)] for _ in range(TIMES) for r in self.held]
        return [(self.noisy(speech, "test", (-5, 10)), speech) for speech in heard]


def gains(model: str | Path, tests: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """SI-SDR improvement of each."""
    loaded = pse.load_model(model)
    return np.array([si_sdr(s, loaded.enhance(m, sample_rate=RATE_HZ)) - si_sdr(s, m) for m, s in tests])


def main() -> None:
    """Record, personalise, score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--librispeech_dir", type=Path, required=True)
    parser.add_argument("--noise_dir", type=Path, nargs="+", required=True)
    parser.add_argument("--noise_manifest", type=Path, help="which noises are for tests; else they are drawn")
    parser.add_argument("--own_noise_dir", type=Path, help="--noise_dir of pse personalize")
    parser.add_argument("--reader", default="26")
    parser.add_argument("--recorded_minutes", type=float, default=5.0)
    parser.add_argument("--clean_s", type=float, default=0.0)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training")
    parser.add_argument("--base", default="gru_256_causal")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    reader = Reader(args)
    tests, clean = reader.tests(), args.work / "clean" if args.clean_s else None
    if clean:
        reader.speak(clean, args.clean_s)
    minutes = reader.record(args.work / "noisy", args.recorded_minutes)
    elapsed, used = time.perf_counter(), time.process_time()
    made = pse.personalize(
        args.work / "noisy", args.work / "mine", base=args.base, clean=clean, noise_dir=args.own_noise_dir,
        minutes=args.minutes, seed=args.seed, progress=print,
    )  # fmt: skip
    elapsed, used = time.perf_counter() - elapsed, time.process_time() - used
    threads = torch.get_num_threads()
    print(f"\n{minutes:.1f} minutes recorded, {args.clean_s:g} s clean, {args.minutes:g} minutes of training: "
          f"{elapsed / 60:.1f} minutes in all, {used / 60:.1f} of processor time, {threads} threads")  # fmt: skip
    base, mine = gains(args.base, tests), gains(made.model, tests)
    for name, values in (("base", base), ("personal", mine), ("difference", mine - base)):
        told = mean_ci(values)
        print(f"{name}: SI-SDRi {told.mean:+.2f} ± {told.half_width:.2f} dB (n = {len(values)})")


if __name__ == "__main__":
    main()
