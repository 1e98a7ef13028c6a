"""Many trainings at once: small models of one shape share a forward and a backward pass.

Each training stays its own: data, objective, seed, optimizer, clipping, validation, early stopping
and checkpoints are those of `pse.training.loop`, and so are its results. Only the gradients of a
step are computed together, where the model says how (`process_together`); other models take turns.
A directory may be trained alone first and go on in a stack, or the other way round.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from pse.errors import PseError, first_three
from pse.memory import keep_freed_memory
from pse.models.base import Model, Output, forward_together
from pse.training import guard
from pse.training.config import TrainingConfig
from pse.training.engine import Engine
from pse.training.loop import Run, TrainResult
from pse.training.progress import LOG_INTERVAL_S, Progress, clock

if TYPE_CHECKING:
    from pse.data.collate import Batch
    from pse.training.objectives.base import Objective

# More models in one pass save a processor no more time, and their tensors leave its cache.
MOST_ON_A_PROCESSOR = 4


class Training(NamedTuple):
    """What `pse.training.loop.train` is asked to do."""

    model: nn.Module
    objective: Objective
    config: TrainingConfig
    directory: str | Path
    seed: int
    about: dict[str, Any] | None = None


def train_stack(trainings: Sequence[Training], ngpu: int = 0) -> list[TrainResult]:
    """Train each as `train` would, all at the same time; every model ends with its best weights.

    One that is at its end, or stops early, leaves the stack; the others go on. One that fails leaves
    it as well, and its PseError is raised at the end. Raises PseError at once for what fails before a
    first step, for mixed precisions or fp16, and where a directory or a model is named twice;
    KeyboardInterrupt or SystemExit after a signal, when all checkpoints are written.
    """
    if not trainings:
        return []
    keep_freed_memory()
    engine = _engine(trainings, ngpu)
    with ExitStack() as stack:
        stack.enter_context(engine.randomness())
        interrupts = stack.enter_context(guard.Interrupts())
        runs = [Run(*training, engine, stack, _MemberProgress) for training in trainings]
        courses = [stack.enter_context(closing(run.course(interrupts))) for run in runs]
        faults = _train_together(dict(zip(runs, courses, strict=True)))
        if interrupts.received is not None:
            interrupts.leave()
    if faults:
        others = f" (and {len(faults) - 1} more of the stack failed)" if len(faults) > 1 else ""
        raise PseError(faults[0].what + others, faults[0].where, faults[0].fix) from faults[0]
    return [run.result for run in runs if run.result is not None]


def _engine(trainings: Sequence[Training], ngpu: int) -> Engine:
    """The device of all; refuses what cannot share one."""
    places = [Path(t.directory).resolve() for t in trainings]
    if len(set(places)) < len(places) or len({id(t.model) for t in trainings}) < len(trainings):
        twice = first_three(sorted({str(p) for p in places if places.count(p) > 1}) or ["one model"])
        raise PseError(f"a stack trains {twice} twice", "stack", "give every training its own directory and model")
    precisions = sorted({t.config.precision for t in trainings})
    if len(precisions) > 1 or precisions == ["fp16"]:
        fix = "set precision: no (or bf16) for all of them"
        raise PseError(f"a stack cannot train in {' and '.join(precisions)}", "precision", fix)
    # A GPU computes while the processor draws.
    engine = (Engine if ngpu else _StackEngine)(precisions[0], ngpu)
    if engine.world > 1:
        fix = "start one process, or train them one after another"
        raise PseError(f"a stack is trained by one process, {engine.world} run", "stack", fix)
    return engine


class _StackEngine(Engine):
    """An engine that draws each batch when it is asked for: threads that draw ahead would slow its owner."""

    def batches(self, objective: Objective, batch_size: int, examples: int) -> Iterator[Batch]:
        while True:
            yield objective.batch(range(examples, examples + batch_size)).to(self.device)
            examples += batch_size


def _train_together(courses: dict[Run, Iterator[Batch]]) -> list[PseError]:
    """Take steps until no training waits for gradients; the faults of those that could not go on."""
    waiting = {run: batch for run, course in courses.items() if (batch := next(course, None)) is not None}
    faults: list[PseError] = []
    teller = _Teller(courses)
    while waiting:
        for group in _groups(waiting):
            _differentiate({run: waiting[run] for run in group})
        for run in list(waiting):
            try:
                batch = next(courses[run], None)
            except PseError as fault:
                run.progress.note(f"{fault}; the others of the stack go on")
                faults.append(fault)
                batch = None
            if batch is None:
                del waiting[run]
            else:
                waiting[run] = batch
        teller.tell(len(waiting))
    return faults


def _groups(waiting: dict[Run, Batch]) -> list[list[Run]]:
    """The runs that can share a pass: models of one kind and shape, mixtures of one shape."""
    groups: dict[Any, list[Run]] = {}
    for run, batch in waiting.items():
        model, mix = run.model, batch.tensors.get("mix")
        key: Any = run
        plain = run.config.precision == "no" and not run.config.weight_noise
        if isinstance(model, Model) and model.process_together and mix is not None and plain:
            key = type(model), mix.shape, mix.dtype, tuple((n, p.shape) for n, p in model.named_parameters())
        groups.setdefault(key, []).append(run)
    most = MOST_ON_A_PROCESSOR if next(iter(waiting)).engine.device.type == "cpu" else len(waiting)
    return [group[i : i + most] for group in groups.values() for i in range(0, len(group), most)]


def _differentiate(batches: dict[Run, Batch]) -> None:
    """Fill the gradients of all runs of a group, each for its batch."""
    runs = list(batches)
    if len(runs) == 1:
        runs[0].differentiate(batches[runs[0]])
        return
    mixes = [batch["mix"] for batch in batches.values()]
    for run in runs:
        run.model.train()
    totals = []
    for run, mix, output in zip(runs, mixes, forward_together([run.model for run in runs], mixes), strict=True):
        run.engine.seed_step(run.seed, run.state.examples)
        out = run.objective.loss(_Answered(run.model, mix, output), batches[run])
        run.gradients = out.total.detach().float(), out.parts
        totals.append(out.total)
    # The gradient of a sum is that of each term: one that is not finite stays with its own training.
    runs[0].engine.backward(torch.stack(totals).sum())


class _Answered:
    """A model whose output for one input is there already; in all else the model itself."""

    def __init__(self, model: nn.Module, mix: Tensor, output: Output) -> None:
        self._model, self._mix, self._output = model, mix, output

    def __call__(self, mix: Tensor) -> Output:
        return self._output if mix is self._mix else self._model(mix)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


class _MemberProgress(Progress):
    """A training's own progress in a stack: its steps are written to its train.log only."""

    def step(
        self, examples: int, loss: float, headline: str, value: float | None, best: float | None
    ) -> None:
        now = time.monotonic()
        self._start = self._start or (now, examples)
        if now - self._logged >= LOG_INTERVAL_S:
            self._logged = now
            self._write_log(self.line(examples, loss, headline, value, best, now))


class _Teller:
    """One line for the whole stack, at most one in ten seconds."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = list(runs)
        self.first, self.start = self._examples(), time.monotonic()
        self.told = self.start

    def _examples(self) -> int:
        return sum(run.state.examples for run in self.runs)

    def tell(self, num_training: int) -> None:
        """Say where the stack stands, if it is time to."""
        now = time.monotonic()
        if now - self.told < LOG_INTERVAL_S:
            return
        self.told, done = now, self._examples()
        left = sum(max(0, run.config.max_examples - run.state.examples) for run in self.runs if run.result is None)
        rate = (done - self.first) / (now - self.start)
        eta = clock(left / rate) if rate else "-"
        text = f"stack of {len(self.runs)}: {num_training} training  {done:,} ex  {rate:.0f} ex/s  ETA {eta}\n"
        sys.stderr.write(text)
        sys.stderr.flush()
