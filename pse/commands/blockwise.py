"""A file worked on block by block, in memory that does not grow with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pse.commands.status import Progress
from pse.io import blocks


def convert(
    source: Path, target: Path, worker_for: Callable[[int, int], blocks.Worker], block_ms: float | None = None
) -> float:
    """Write what a worker for the file's rate and channels makes of it, as finely; returns its duration in seconds.

    block_ms: None for large blocks. Progress is told on stderr. Raises PseError when the file cannot be read or the
    other one not be written, which is then not there.
    """
    with blocks.reading(source) as (info, parts):
        rate, num_channels = info.sample_rate, info.num_channels
        worker, num_done = worker_for(rate, num_channels), 0
        length = blocks.block_length(num_channels) if block_ms is None else blocks.length_of(block_ms, rate)
        progress = Progress(source.name, info.duration_s)
        with progress, blocks.writing_wav(target, rate, num_channels, info.result_subtype) as write:
            for part in parts(length):
                write(worker.push(part))
                num_done += part.shape[1]
                progress.done(num_done / info.num_samples)
            write(worker.flush())
    return info.duration_s
