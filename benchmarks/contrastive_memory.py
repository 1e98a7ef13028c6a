"""Memory and time of a training step of contrast, by the frames in a batch: all at once, and in chunks.

    python benchmarks/contrastive_memory.py --frames 1024 8192 32768

A step of the encoder of frames of conf/libri.yaml, on 32 frames of each example of 0.4 s; chunks are of 32 examples.
Each is a process of its own, whose peak is told less that of one which makes no step.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import resource
import time
from multiprocessing.connection import Connection

PER_EXAMPLE, CHUNK, SECONDS, RATE, NUM_SPEAKERS = 32, 32, 0.4, 8000, 64


def step(frames: int, chunk: int, sent: Connection) -> None:
    """Send the seconds of the second of two steps, none of them for 0 frames, and the peak of memory in MB."""
    import numpy as np
    import torch

    from pse.data.cache import MemoryCache
    from pse.data.speech import Voices
    from pse.data.speech_mixture import SpeakerSampler
    from pse.models.base import build
    from pse.training.objectives.contrastive import Contrastive, Options

    torch.set_num_threads(1)
    torch.manual_seed(0)
    noise = np.random.default_rng(0).standard_normal((NUM_SPEAKERS, 10 * RATE)).astype(np.float32) * 0.1
    cache = MemoryCache({f"s{i}u0": x for i, x in enumerate(noise)}, "", RATE)
    cache.speaker = {utt: utt[:-2] for utt in cache.ids}
    voices = Voices(cache, dict.fromkeys(cache.ids, -20.0), {s: "F" for s in cache.speaker.values()})
    sampler = SpeakerSampler(voices, round(SECONDS * RATE), 0, "memory", (1,))
    objective = Contrastive(sampler, (), Options(nodes_per_example=PER_EXAMPLE, min_apart_samples=256, chunk=chunk))
    model = build({"name": "frame_encoder", "channels": 128, "embedding_size": 64, "projection_size": 64}, "here")
    taken = 0.0
    for _ in range(2 if frames else 0):
        batch = objective.batch(range(frames // PER_EXAMPLE))
        start = time.monotonic()
        objective.loss(model, batch).total.backward()
        taken = time.monotonic() - start
    sent.send((taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def apart(frames: int, chunk: int) -> tuple[float, float]:
    """`step` in a process of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=step, args=(frames, chunk, there))
    process.start()
    found = here.recv()
    process.join()
    return found


def main() -> None:
    """Print a line for each size of a batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[1024, 8192, 32768])
    args = parser.parse_args()
    print(f"{platform.machine()}, one thread; {PER_EXAMPLE} frames an example")
    idle = apart(0, 0)[1]
    for frames in args.frames:
        whole, parts = apart(frames, 0), apart(frames, CHUNK)
        told = "".join(
            f"   {name} {peak - idle:7.0f} MB {seconds:6.2f} s"
            for name, (seconds, peak) in (("at once", whole), ("chunks", parts))
        )
        less, longer = (whole[1] - idle) / (parts[1] - idle), parts[0] / whole[0]
        print(f"{frames:>6} frames{told}   {less:5.1f} x less memory, {longer:4.2f} x the time", flush=True)


if __name__ == "__main__":
    main()
