"""The built-in models on one core, and beside the noise suppressors that a user could install instead.

The real-time factor is seconds of processor time for a second of audio, on one thread, for the whole signal at once.
With speech and noises the enhancers are scored, too: test readers of LibriSpeech (no model of pse heard them), one
utterance each, in a test noise each time, at several SNRs; means with 95 % intervals. A good recording, at 30 dB,
should stay as it is: it is not in those means.
Run: python benchmarks/builtin.py [--librispeech_dir DIR --noise_dir DIR .. [--noise_manifest FILE]]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pse.corpora import folder, librispeech
from pse.data.mixture import add_noise
from pse.errors import EnvironmentFault
from pse.inference import builtin, engine
from pse.inference.loaded import load_model
from pse.inference.separation import separate
from pse.io import audio
from pse.models.base import build
from pse.models.peer import PEERS
from pse.scoring.metrics import si_sdr
from pse.scoring.perceptual import estoi, pesq_wb
from pse.scoring.statistics import mean_ci

RATE_HZ, LONGEST_S, ROUNDS = 16000, 10.0, 5
SNRS_DB = (-5.0, 0.0, 5.0, 10.0)
GOOD_DB = 30.0


def models() -> dict[str, tuple[Any, str]]:
    """Name: the network and what it does, of every built-in model and of the peers that are installed."""
    found = {}
    for name in builtin.names():
        loaded = load_model(name)
        found[name] = (loaded.network, loaded.task)
    for name in PEERS:
        try:
            found[name] = (build({"name": "peer", "package": name}, name).eval(), "enhance")
        except EnvironmentFault as missing:
            print(f"{name} is left out: {missing}")
    return found


def once(network: Any, task: str, samples: np.ndarray) -> Any:
    """What the model is for, on [T] at its rate."""
    if task == "enhance":
        return engine.enhance(network, samples, network.sample_rate)
    if task == "separate":
        return separate(network, samples, network.sample_rate, num_speakers=2)
    with torch.inference_mode():
        return network(torch.from_numpy(samples)[None])


def real_time_factor(network: Any, task: str, seconds: float) -> float:
    """The median of several runs on noise."""
    samples = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * network.sample_rate), np.float32)
    times = []
    for _ in range(ROUNDS + 1):
        start = time.thread_time()
        once(network, task, samples)
        times.append((time.thread_time() - start) / seconds)
    return statistics.median(times[1:])


def mixtures(speech_dir: Path, noise_dirs: Sequence[Path], manifest: Path | None) -> Iterator[tuple[float, Any, Any]]:
    """SNR, mixture and speech: every test reader's longest utterance at every SNR, in noises that take turns."""
    readers = {}
    for found in librispeech.scan(speech_dir, need_targets=False):
        if found.split == "test" and found.duration_s > getattr(readers.get(found.speaker), "duration_s", 0):
            readers[found.speaker] = found
    noises = [n for place in noise_dirs for n in folder.scan(place, manifest, skip_bad=True) if n.split == "test"]
    print(f"{len(readers)} readers, {len(noises)} noises")
    random = np.random.default_rng(0)
    turns: list[int] = []
    for reader in readers.values():
        speech = sound(reader.path)
        for snr_db in (*SNRS_DB, GOOD_DB):
            turns = turns or list(random.permutation(len(noises)))
            noise = np.resize(sound(noises[turns.pop()].path), len(speech))
            yield snr_db, add_noise(speech, noise, snr_db)[0], speech


def sound(path: Path) -> np.ndarray:
    """At most the first seconds of a recording [T]."""
    samples, rate = audio.read(path)
    return audio.resample(samples, rate, RATE_HZ)[: round(LONGEST_S * RATE_HZ)]


def score(networks: dict[str, Any], sets: Iterator[tuple[float, Any, Any]]) -> None:
    """Print what each network makes of the mixtures: the gain at each SNR, and over all of them."""
    gains: dict[str, list[list[float]]] = {name: [] for name in ("mixture", *networks)}
    for snr_db, mix, speech in sets:
        before = [si_sdr(speech, mix), pesq_wb(speech, mix, RATE_HZ), estoi(speech, mix, RATE_HZ)]
        gains["mixture"].append([snr_db, *before])
        for name, network in networks.items():
            made = engine.enhance(network, mix, RATE_HZ)
            after = [si_sdr(speech, made), pesq_wb(speech, made, RATE_HZ), estoi(speech, made, RATE_HZ)]
            gains[name].append([snr_db, *(a - b for a, b in zip(after, before, strict=True))])
    heads = " | ".join(f"SI-SDRi at {snr:g} dB" for snr in (*SNRS_DB, GOOD_DB))
    print(f"\n| model | {heads} | SI-SDRi (dB) | PESQ | eSTOI |\n|---|{'---:|' * (len(SNRS_DB) + 4)}")
    for name, rows in gains.items():
        table = np.array(rows)
        told = [f"{table[table[:, 0] == snr, 1].mean():.2f}" for snr in (*SNRS_DB, GOOD_DB)]
        noisy = table[table[:, 0] != GOOD_DB]
        for column, digits in ((1, 2), (2, 2), (3, 3)):
            mean = mean_ci(noisy[:, column])
            told.append(f"{mean.mean:+.{digits}f} ± {mean.half_width:.{digits}f}")
        print(f"| {name} | {' | '.join(told)} |", flush=True)
    count = len(gains["mixture"]) // (len(SNRS_DB) + 1)
    print(f"n = {count} mixtures at each SNR; of the mixture itself not gains, but values")


def main() -> None:
    """Time every model; score the enhancers where there is something to score them on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--librispeech_dir", type=Path)
    parser.add_argument("--noise_dir", type=Path, nargs="*", default=[])
    parser.add_argument("--noise_manifest", type=Path, help="which noises are for tests; else they are drawn")
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = models()
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread,")
    print(f"{LONGEST_S:g} s of noise, median of {ROUNDS}\n")
    print("| model | task | rate | weights | real-time factor |\n|---|---|---:|---:|---:|")
    for name, (network, task) in known.items():
        weights = sum(p.numel() for p in network.parameters())
        factor = real_time_factor(network, task, LONGEST_S)
        print(f"| {name} | {task} | {network.sample_rate} Hz | {weights:,} | {factor:.4f} |", flush=True)
    if args.librispeech_dir and args.noise_dir:
        enhancers = {name: network for name, (network, task) in known.items() if task == "enhance"}
        score(enhancers, mixtures(args.librispeech_dir, args.noise_dir, args.noise_manifest))


if __name__ == "__main__":
    main()
