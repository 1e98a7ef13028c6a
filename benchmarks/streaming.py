"""What a stream costs on one core: every causal model, in chunks of 10, 16 and 32 ms, against the same
model on the whole signal in the same run.

The real-time factor is seconds of processor time for a second of audio; below 1 the stream keeps up.
The longest chunk must fit into the chunk's own length as well, or the sound stutters.
Run: python benchmarks/streaming.py [conf/models/x_causal.yaml ...]
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from pse.config import read_yaml
from pse.inference.streaming import Stream
from pse.models.base import Model, build

CONF = Path(__file__).resolve().parents[1] / "egs" / "librispeech_pse" / "conf" / "models"
FAMILIES = ("gru_{32,64,128,256,512}", "conv_tasnet_{tiny,small,medium,large}", "snr_predictor_{small}")
CHUNKS_MS, SECONDS, ROUNDS, WARM_CHUNKS = (10, 16, 32), 4, 5, 20


def shipped() -> list[Path]:
    """The causal configs of the recipe, small ones first."""
    pairs = [family.rstrip("}").split("{") for family in FAMILIES]
    return [CONF / f"{stem}{size}_causal.yaml" for stem, sizes in pairs for size in sizes.split(",")]


def whole(model: Model, signal: Tensor) -> Tensor:
    """The model on the whole signal: [T] samples or [F] ratios."""
    with torch.inference_mode():
        out = model(signal[None])
    return out.frame_snr_db[0] if out.wavs is None else out.wavs[0, 0]


def seconds_of(work: Callable[[], Tensor]) -> float:
    """Processor time of a call: on one thread that of an idle machine, whatever else runs."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def chunk_times(model: Model, signal: Tensor, chunk_ms: int) -> tuple[list[float], Tensor]:
    """Processor times of a stream's chunks, and what it put out."""
    stream, times, out = Stream(model, model.sample_rate), [], []
    for chunk in signal.split(model.sample_rate * chunk_ms // 1000):
        times.append(seconds_of(lambda chunk=chunk: out.append(stream.push(chunk))))
    return times[WARM_CHUNKS:], torch.cat([*out, stream.flush()])


def measure(path: Path) -> None:
    """Print a model's row for each chunk length."""
    torch.manual_seed(0)
    model = build(read_yaml(path), path).eval()
    signal = 0.1 * torch.randn(SECONDS * model.sample_rate)
    expected = whole(model, signal)
    offline: list[float] = []
    chunks: dict[int, list[list[float]]] = {ms: [] for ms in CHUNKS_MS}
    for _ in range(ROUNDS):
        offline.append(seconds_of(lambda: whole(model, signal)) / SECONDS)
        for ms in CHUNKS_MS:
            times, out = chunk_times(model, signal, ms)
            assert (out - expected).abs().max() <= 1e-5, f"{path.stem}: the stream differs"
            chunks[ms].append(times)
    base = statistics.median(offline)
    for ms, rounds in chunks.items():
        factor = statistics.median(statistics.fmean(times) for times in rounds) * 1000 / ms
        together = [t for times in rounds for t in times]
        # What the machine does to a cache hits a chunk of one round; a slow chunk is slow in all of them.
        longest = max(statistics.median(same) for same in zip(*rounds, strict=True))
        print(
            f"{path.stem:<27} {ms:3d} ms {factor:8.4f} {base:8.4f} {factor / base:8.1f}"
            f" {1000 * statistics.median(together):8.2f} {1000 * longest:8.2f} {1000 * max(together):8.2f}",
            flush=True,
        )


def main() -> None:
    """Measure the configs named on the command line, or all that ship."""
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread; {SECONDS} s of noise,")
    print(f"{ROUNDS} rounds, real-time factors of the median round; ms a chunk: the median, the longest")
    print("when each chunk counts with its median over the rounds, and the worst single time")
    heads = ("stream", "offline", "ratio", "median", "longest", "worst")
    print(f"{'model':<27}  chunk " + " ".join(f"{head:>8}" for head in heads))
    for path in [Path(name) for name in sys.argv[1:]] or shipped():
        measure(path)


if __name__ == "__main__":
    main()
