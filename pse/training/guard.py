"""What keeps a run safe: steps that are not finite are skipped, and a signal ends it cleanly."""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pse.errors import PseError, first_three
from pse.io.atomic import writing_dir
from pse.io.jsonl import write_json
from pse.io.tensors import write_tensors

if TYPE_CHECKING:
    from pse.data.collate import Batch
    from pse.training.objectives.base import Objective

MOST_IN_A_ROW = 5


def is_fault(loss: float, norm: float, scale: float) -> bool:
    """Whether a step is not finite through no fault of fp16's loss scale, which finds its own level."""
    return not math.isfinite(loss) or (not math.isfinite(norm) and scale <= 1.0)


def stop_on_nonfinite(
    model: nn.Module, objective: Objective, batch: Batch, directory: Path, examples: int
) -> PseError:
    """Keep the batch below `directory` and say where the first value that is not finite arose."""
    culprit = first_nonfinite(model, objective, batch)
    with writing_dir(directory) as place:
        write_tensors(place / "batch.safetensors", batch.tensors)
        write_json(place / "report.json", {"ids": list(batch.ids), "examples": examples, "first": culprit})
    return PseError(
        f"{MOST_IN_A_ROW} steps in a row were not finite, the last with {first_three(batch.ids)}; "
        f"first in {culprit}; the batch is kept",
        directory,
        "try a lower lr or clip_grad_norm, or precision: no",
    )


def first_nonfinite(model: nn.Module, objective: Objective, batch: Batch) -> str:
    """Name the first tensor of a training step that is not finite: batch, weight, module or gradient."""
    for name, tensor in batch.tensors.items():
        if not _finite(tensor):
            return f"the batch ({name})"
    for name, tensor in model.state_dict().items():
        if not _finite(tensor):
            return f"the weight {name}"
    found: list[str] = []
    with _watching(model, found):
        model.zero_grad(set_to_none=True)
        total = objective.loss(model, batch).total
        if not found and _finite(total):
            total.backward()
    if found:
        return f"module {found[0]}"
    bad = [n for n, p in model.named_parameters() if p.grad is not None and not _finite(p.grad)]
    model.zero_grad(set_to_none=True)
    if bad:
        return f"the gradient of {bad[0]}"
    return "the loss" if not _finite(total) else "no tensor of a repeated step in float32"


@contextmanager
def _watching(model: nn.Module, found: list[str]) -> Iterator[None]:
    """Note the modules whose output is not finite, in the order in which they finish."""

    def hook(name: str) -> Any:
        def watch(module: nn.Module, inputs: object, output: object) -> None:
            if not all(_finite(t) for t in _tensors(output)):
                found.append(f"{name or 'the model'} ({type(module).__name__})")

        return watch

    handles = [m.register_forward_hook(hook(n)) for n, m in model.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _all(value.values())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _all(getattr(value, f.name) for f in dataclasses.fields(value))
    elif isinstance(value, (list, tuple)):
        yield from _all(value)


def _all(values: Iterable[object]) -> Iterator[Tensor]:
    for value in values:
        yield from _tensors(value)


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


class Interrupts:
    """While active, SIGTERM and Ctrl-C are noted instead of obeyed; a second one takes effect at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        # Python hands signals to the main thread only, and lets only that one set handlers.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        for again, handler in self._before.items():
            signal.signal(again, handler)

    def leave(self) -> None:
        """End the program as the noted signal asks: KeyboardInterrupt, or exit code 143 for SIGTERM."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + signal.SIGTERM)
