"""Specialists an hour: one after another, side by side, and as a stack.

Each specialist is a whole training (PseudoSE from an audio cache, batch 32 x 4 s at 16 kHz, as in
conf/two_readers.yaml) with its own data, validation and checkpoints; 20,000 examples make one. Ways:

    after     one after another, all threads for each
    beside    as many at a time as there are cores, one thread each: what a recipe does without stacks
    stack     all in one process, all threads
    stacks    as many stacks as there are cores, one thread each

Run: python benchmarks/stacked_training.py [--models gru_64 conv_tasnet_tiny] [--k 4 8 20] [--rounds 3]
With `--before` the first two ways train as before there were stacks: torch's GRU by autograd, freed
memory given back to the system.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from pse.config import read_yaml
from pse.data.cache import AudioCache
from pse.data.cache_build import build as build_cache
from pse.data.mixture import MixtureSampler, Sources
from pse.io import datadir
from pse.models import recurrent
from pse.models.base import Model, build, num_parameters
from pse.training import loop, stack
from pse.training.config import TrainingConfig
from pse.training.objectives.pseudo_se import Options, PseudoSE
from pse.training.stack import Training, train_stack

CONF = Path(__file__).parents[1] / "egs" / "librispeech_pse" / "conf" / "models"
RATE, SECONDS, BATCH, EXAMPLES = 16000, 4, 32, 20_000
ROLES = ("speech", "noise", "premixture_noise")
CORES = os.cpu_count() or 1


def prepare(root: Path) -> None:
    """Audio caches of noise: a speaker's, and two of surroundings."""
    for number, role in enumerate(ROLES):
        rng = np.random.default_rng(number)
        ids = [f"{role}{i:02d}" for i in range(20)]
        (root / role).mkdir()
        for utt in ids:
            samples = 0.1 * rng.standard_normal(14 * RATE)
            soundfile.write(root / role / f"{utt}.wav", samples.clip(-1, 1), RATE)
        scp = {u: str(root / role / f"{u}.wav") for u in ids}
        tables = {"wav.scp": scp, "utt2spk": dict.fromkeys(ids, role), "utt2dur": dict.fromkeys(ids, "14")}
        datadir.write(root / role / "data", tables)
        build_cache(root / role / "data", root / role / "cache", RATE, 1, lambda line: None)


def trainings(task: dict[str, Any], steps: int) -> list[Training]:
    """The specialists of a worker, to be trained for so many steps."""
    root, config = Path(task["root"]), read_yaml(CONF / f"{task['model']}.yaml")
    sources = Sources(*(AudioCache(root / role / "cache") for role in ROLES))
    found = []
    for seed in task["seeds"]:
        torch.manual_seed(seed)
        sampler, valid = (
            MixtureSampler(sources, sources.speech.ids, SECONDS * RATE, seed, stream, (-5, 5), (0, 10))
            for stream in ("train", "valid")
        )
        fixed = ((valid.spec(i), valid.render(i)) for i in range(32))
        goal = PseudoSE(sampler, fixed, Options())
        keys = TrainingConfig(batch_size=BATCH, max_examples=steps * BATCH, valid_every_examples=1000)
        place = root / f"{task['way']}-{os.getpid()}" / str(seed)
        found.append(Training(build(config, task["model"]), goal, keys, place, seed))
    return found


def work(task: dict[str, Any]) -> None:
    """Train two steps, wait to be told, train the rest, tell how long the steps took."""
    torch.set_num_threads(task["threads"])
    if task["before"]:
        loop.keep_freed_memory = stack.keep_freed_memory = lambda: None
    stacked = task["way"].startswith("stack")

    def train(steps: int) -> float:
        members, start = trainings(task, steps), time.perf_counter()
        with recurrent.plain() if task["before"] else nullcontext():
            for part in [members] if stacked else [[member] for member in members]:
                train_stack(part)
        return time.perf_counter() - start

    train(2)
    print("ready", flush=True)
    sys.stdin.readline()
    # To resume, to load the best weights and to draw a curve takes as long without a step.
    around = train(2)
    print(train(2 + task["steps"]) - around, flush=True)


def rate_of(root: Path, model: str, way: str, num: int, steps: int, before: bool) -> float:
    """Specialists an hour; alone a specialist takes the same time whatever K is, so few are trained."""
    processes = CORES if way in ("beside", "stacks") else 1
    num = {"after": 1, "beside": CORES}.get(way, num)
    started = []
    for first in range(processes):
        threads = 1 if processes > 1 else CORES
        task = {"root": str(root), "model": model, "way": way, "seeds": list(range(first, num, processes)),
                "steps": steps, "before": before, "threads": threads}  # fmt: skip
        environ = os.environ | {"OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, __file__, "--task", json.dumps(task)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environ)
        started.append(process)
    for process in started:
        assert process.stdout.readline().strip() == "ready"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    seconds = max(float(process.communicate()[0]) for process in started)
    return num * steps * BATCH / EXAMPLES * 3600 / seconds


def floor(model: Model) -> None:
    """Count what a step of one GRU specialist costs at the least, at rates measured here, on one thread."""
    torch.set_num_threads(1)
    bins, size, layers = model.transform.num_bins, model.gru.hidden_size, model.gru.num_layers
    ways = 1 + model.gru.bidirectional
    rows = BATCH * model.transform.num_frames(SECONDS * RATE)
    # Products: forward, gradient of the weights, and of the input where it is one; the recurrence has all three.
    inputs = 2 * bins + 3 * (layers - 1) * size * ways
    macs = rows * (3 * size * ways * (inputs + 3 * layers * size) + 3 * size * ways * bins)
    x, weight = torch.randn(rows, bins), torch.randn(3 * size, bins)
    product_s = _seconds(lambda: recurrent.product(x, weight)) / (2 * x.numel() * len(weight))
    frames = torch.randn(rows // BATCH, model.transform.n_fft)
    transform_s = _seconds(lambda: torch.fft.rfft(frames)) / len(frames)
    large = torch.randn(1 << 24)
    other = torch.empty_like(large)
    byte_s = _seconds(lambda: other.copy_(large)) / (8 * large.numel())
    # The spectrum is written and read twice, so are its magnitude and the mask: 8 and 4 bytes a bin.
    num_bytes = rows * bins * (3 * 8 + 3 * 4 + 2 * 4)
    tiny = torch.zeros(1)
    call_s = _seconds(lambda: [tiny.add_(0.0) for _ in range(1000)]) / 1000
    # In a frame of a layer: five operations forward, four backward, for all models of a pass.
    calls = model.transform.num_frames(SECONDS * RATE) * layers * ways * 9
    parts = {
        f"{2 * macs / 1e9:.1f} GFLOP of products at {1e-9 / product_s:.0f} G/s": 2 * macs * product_s,
        f"{3 * rows:,} transforms of {model.transform.n_fft} points": 3 * rows * transform_s,
        f"{num_bytes / 1e6:.0f} MB to and from memory at {1e-9 / byte_s:.0f} GB/s": num_bytes * byte_s,
        f"{calls:,} calls in time loops of a pass of 4 at {1e6 * call_s:.1f} us": calls * call_s / 4,
    }
    total = sum(parts.values())
    print("At the least, on one thread a step: " + "; ".join(f"{k}: {1e3 * v:.0f} ms" for k, v in parts.items()))
    rate = CORES * BATCH / total / EXAMPLES * 3600
    print(f"in all {1e3 * total:.0f} ms, so at the most {rate:.0f} specialists an hour on {CORES} cores\n")


def _seconds(function: Any) -> float:
    function()
    times = []
    for _ in range(9):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def compare(root: Path, name: str, k: int, options: argparse.Namespace) -> None:
    """Print the rates of the four ways, and their ratio to `beside`: medians of alternating rounds."""
    steps = options.steps if name.startswith(("gru", "bgru")) else max(1, options.steps // 10)
    rates: dict[str, list[float]] = {way: [] for way in ("after", "beside", "stack", "stacks")}
    for _ in range(options.rounds):
        for way, found in rates.items():
            before = options.before and way in ("after", "beside")
            found.append(rate_of(root, name, way, k, steps, before))
    for way, found in rates.items():
        ratio = statistics.median(a / b for a, b in zip(found, rates["beside"], strict=True))
        rate = statistics.median(found)
        print(f"{name:<18} K={k:<3} {way:<7} {rate:7.1f} specialists/h  {ratio:5.2f} x beside", flush=True)


def main() -> None:
    """Measure, or do a worker's part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["gru_64", "conv_tasnet_tiny"])
    parser.add_argument("--k", nargs="+", type=int, default=[4, 8, 20])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=32, help="of each specialist; a tenth for Conv-TasNet")
    parser.add_argument("--before", action="store_true")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        work(json.loads(options.task))
        return
    print(f"{CORES} cores, {platform.processor() or platform.machine()}, load {os.getloadavg()[0]:.1f} before;")
    told = ", `after` and `beside` as before" if options.before else ""
    print(f"torch {torch.__version__}; {options.steps} steps, medians of {options.rounds} alternating rounds{told}\n")
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))
        for model_name in options.models:
            model = build(read_yaml(CONF / f"{model_name}.yaml"), model_name)
            print(f"{model_name}: {num_parameters(model):,} weights")
            if hasattr(model, "gru"):
                floor(model)
            for k in options.k:
                compare(Path(name), model_name, k, options)


if __name__ == "__main__":
    main()
