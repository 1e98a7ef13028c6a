"""Devices, mixed precision and processes, on Hugging Face accelerate.

The model is never wrapped: an objective may call any of its methods, and its weights keep their
names. Processes average their gradients in one flat reduction after the backward pass; the models
here are small, so there is little to hide behind it.
"""

from __future__ import annotations

import atexit
import hashlib
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pse.errors import EnvironmentFault, PseError

if TYPE_CHECKING:
    from pse.data.collate import Batch
    from pse.training.objectives.base import Objective


class Engine:
    """Where and how precisely to compute: `ngpu` 0 is the processor.

    With several processes (see `several`) each sees its own `rank` of `world`. Raises EnvironmentFault
    when accelerate or a GPU is missing, PseError for a precision that the device cannot do.
    """

    def __init__(self, precision: str, ngpu: int) -> None:
        try:
            from accelerate import Accelerator
            from accelerate.state import AcceleratorState
        except ImportError as error:
            fix = "run tools/setup.sh, or: pip install accelerate"
            raise EnvironmentFault("the package accelerate is missing", "training", fix) from error
        if ngpu > 0 and not torch.cuda.is_available():
            raise EnvironmentFault("no GPU is visible", f"--ngpu {ngpu}", "train with --ngpu 0")
        if ngpu == 0 and precision == "fp16":
            raise PseError("fp16 needs a GPU", "precision", "set precision: bf16 or precision: no")
        # An earlier training in this process may have used another device or precision.
        AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = Accelerator(cpu=ngpu == 0, mixed_precision=precision)
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.device = self.accelerator.device
        if self.world > 1:
            atexit.unregister(_leave_group)
            atexit.register(_leave_group)
        if ngpu > 1 and self.world != ngpu:
            fix = f"start it with: torchrun --nproc-per-node {ngpu}"
            raise PseError(f"asks for {ngpu} processes, {self.world} runs", "--ngpu", fix)

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[None]:
        """Mixed precision, where the config asks for it."""
        return self.accelerator.autocast()

    def backward(self, loss: Tensor) -> None:
        """Gradients of the (scaled) loss."""
        self.accelerator.backward(loss)

    def average(self, parameters: Sequence[Tensor], scalars: Tensor) -> Tensor:
        """Average the gradients and `scalars` [N] over the processes; returns the scalars."""
        if self.world == 1:
            return scalars
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([*(g.reshape(-1) for g in gradients), scalars.to(gradients[0].dtype)])
        flat = self.accelerator.reduce(flat, reduction="mean")
        *pieces, scalars = flat.split([*(g.numel() for g in gradients), scalars.numel()])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)
        return scalars

    def clip(self, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], largest: float) -> Tensor:
        """Clip the gradient to a norm of `largest` (0: leave it); returns the norm before."""
        self.accelerator.unscale_gradients(optimizer)
        return nn.utils.clip_grad_norm_(parameters, largest or float("inf"))

    @property
    def scale(self) -> float:
        """The factor on the loss: above 1, an infinite gradient may be fp16's own overflow."""
        return 1.0 if self.accelerator.scaler is None else float(self.accelerator.scaler.get_scale())

    def update(self, optimizer: torch.optim.Optimizer, finite: bool) -> None:
        """Apply a finite gradient, drop another one (fp16's scaler then scales down), and clear it.

        The optimizer is torch's own: accelerate's wrapper looks for optional packages in every step.
        """
        scaler = self.accelerator.scaler
        if finite:
            optimizer.step() if scaler is None else scaler.step(optimizer)
        if scaler is not None:
            scaler.update()
        optimizer.zero_grad()

    def scaler_state(self) -> dict[str, float] | None:
        """What fp16's loss scale has come to, in plain numbers."""
        return None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()

    def restore_scaler(self, state: dict[str, float] | None) -> None:
        """Put `scaler_state` back."""
        if state is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state)

    def batches(self, objective: Objective, batch_size: int, examples: int) -> Iterator[Batch]:
        """This process's part of every batch from a position on, drawn one ahead in another thread."""
        share = batch_size // self.world

        def draw(start: int) -> Batch:
            first = start + self.rank * share
            return objective.batch(range(first, first + share)).to(self.device)

        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            ahead = thread.submit(draw, examples)
            while True:
                batch = ahead.result()
                examples += batch_size
                ahead = thread.submit(draw, examples)
                yield batch

    def evaluate(self, model: nn.Module, objective: Objective, most: int | None = None) -> dict[str, float]:
        """Means over the validation examples (of the first `most` batches), shared by the processes.

        Raises PseError when there are none, or when they lack the headline or the loss.
        """
        model.eval()
        sums: dict[str, float] = {}
        count = 0
        for number, batch in enumerate(itertools.islice(objective.valid_batches(), most)):
            mine = number % self.world == self.rank
            # Every process looks at the first batch, so that all know the names.
            if not mine and number:
                continue
            with torch.no_grad(), self.autocast():
                values = objective.validate(model, batch.to(self.device))
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + (value.detach().double().sum().item() if mine else 0.0)
            count += len(batch) if mine else 0
        if missing := {objective.headline, "loss"} - set(sums):
            what = f"gives no {sorted(missing)[0]!r}" if sums else "has no examples"
            raise PseError(f"the validation {what}", type(objective).__name__, "check the valid set")
        names = sorted(sums)
        numbers = torch.tensor([count, *(sums[n] for n in names)], dtype=torch.float64, device=self.device)
        count, *totals = self._total(numbers).tolist()
        return {n: t / count for n, t in zip(names, totals, strict=True)}

    def _total(self, values: Tensor) -> Tensor:
        return values if self.world == 1 else self.accelerator.reduce(values, reduction="sum")

    def agree(self, value: int) -> int:
        """The value of the first process, in every process, which waits for it."""
        if self.world == 1:
            return value
        from accelerate.utils import broadcast

        return int(broadcast(torch.tensor([value], device=self.device)).item())

    def share(self, model: nn.Module) -> None:
        """Give every process the weights of the first."""
        if self.world > 1:
            from accelerate.utils import broadcast

            with torch.no_grad():
                for tensor in model.state_dict().values():
                    tensor.copy_(broadcast(tensor.clone()))

    @contextmanager
    def randomness(self) -> Iterator[None]:
        """Leave torch's global generators as they were found."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            yield

    def seed_step(self, seed: int, examples: int) -> None:
        """Seed torch for one step by (seed, position, process): a resumed run needs no old generator."""
        digest = hashlib.sha256(f"{seed}/{examples}/{self.rank}".encode()).digest()
        number = int.from_bytes(digest[:8], "big", signed=True)
        # Not torch.manual_seed: without a GPU it records a stack trace at every call.
        torch.default_generator.manual_seed(number)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(number)


def _leave_group() -> None:
    """Take leave of the other processes before the interpreter ends.

    Gloo's threads release the tensors of the last reduction a moment after it, for which they need the
    interpreter; one that comes too late aborts the process. Sleeping lets them have it.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        time.sleep(0.2)


def several(arguments: Sequence[str], processes: int) -> list[str]:
    """The command that runs `python <arguments>` (a script, or -m and a module) in several processes.

    The first failing process ends the others; the first one alone is heard.
    """
    runner = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "--local-ranks-filter=0"]
    return [sys.executable, *runner, *arguments]
