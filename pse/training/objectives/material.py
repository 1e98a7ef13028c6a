"""What every objective on mixtures shares: live training mixtures and fixed validation mixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from pse.data.collate import Batch, stack
from pse.data.mixture import Mixture, MixtureSpec, Sources, render

# Which tensors a batch holds: name -> the part of a mixture it is made of.
Parts = dict[str, Callable[[Mixture], np.ndarray]]

VALID_BATCH = 16


def training_batch(specs: Iterable[MixtureSpec], sources: Sources, parts: Parts) -> Batch:
    """Render the mixtures of these descriptions, and stack them."""
    return _collate([(s.id, render(s, sources)) for s in specs], parts)


def fixed_batches(mixtures: Iterable[tuple[str, Mixture]], parts: Parts) -> list[Batch]:
    """Render fixed mixtures once, in batches that are kept."""
    return [_collate(chunk, parts) for chunk in _chunks(mixtures, VALID_BATCH)]


def _collate(examples: Sequence[tuple[str, Mixture]], parts: Parts) -> Batch:
    tensors = {name: stack([part(m) for _, m in examples]) for name, part in parts.items()}
    return Batch(tensors, [i for i, _ in examples])


def _chunks(items: Iterable[tuple[str, Mixture]], size: int) -> Iterator[list[tuple[str, Mixture]]]:
    chunk: list[tuple[str, Mixture]] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
