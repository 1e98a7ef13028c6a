"""The training loop: the same examples in the same order on any machine, and a run that survives.

Every example, and torch's generator in every step, is a function of (seed, position), and so is the
learning rate. What a checkpoint holds besides is the weights, the optimizer's moments and a few counters:
on a processor a resumed run ends with the same weights, bit for bit, as one that never stopped.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pse.config import flatten, plain
from pse.errors import PseError
from pse.io.atomic import sole_writer
from pse.memory import keep_freed_memory
from pse.training import checkpoint, guard
from pse.training.config import TrainingConfig
from pse.training.engine import Engine
from pse.training.optimizer import make_optimizer, noisy
from pse.training.progress import Metrics, Progress, draw_curve, quantity

if TYPE_CHECKING:
    from pse.data.collate import Batch
    from pse.training.objectives.base import Objective


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """How a training ended: the best validation, where it was, and why training stopped."""

    best_value: float | None
    best_examples: int
    examples: int
    seconds: float
    stopped_because: str


@dataclasses.dataclass
class Counters:
    """All that a checkpoint remembers besides tensors; the sums are of the steps since a validation."""

    examples: int = 0
    seconds: float = 0.0
    best_value: float | None = None
    best_examples: int = 0
    valid_examples: int = -1
    valid_value: float | None = None
    skipped: int = 0
    skipped_in_a_row: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    num_steps: int = 0


def train(
    model: nn.Module, objective: Objective, config: TrainingConfig, directory: str | Path, seed: int, ngpu: int = 0,
    about: dict[str, Any] | None = None,
) -> TrainResult:  # fmt: skip
    """Train `model` on `objective` in `directory`, going on where an earlier call stopped.

    The model ends with the best weights. `about` is what else identifies the run (model and
    objective config): a directory trained with another is refused. Start several processes with
    `pse.training.engine.several`. Raises PseError for such a directory, for broken checkpoints and
    for five steps in a row that are not finite; KeyboardInterrupt or SystemExit after a signal,
    when the checkpoint is written.
    """
    keep_freed_memory()
    engine = Engine(config.precision, ngpu)
    if config.batch_size % engine.world:
        what = f"batch_size {config.batch_size} cannot be shared by {engine.world} processes"
        raise PseError(what, directory, "choose a multiple")
    with ExitStack() as stack:
        stack.enter_context(engine.randomness())
        interrupts = stack.enter_context(guard.Interrupts())
        run = Run(model, objective, config, directory, seed, about, engine, stack)
        for batch in stack.enter_context(closing(run.course(interrupts))):
            run.differentiate(batch)
        if run.result is None or interrupts.received is not None:
            interrupts.leave()
        return run.result


def _copies(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


class Run:
    """One training from (re)start to end, in a directory that is locked until `stack` is closed."""

    def __init__(
        self, model: nn.Module, objective: Objective, config: TrainingConfig, directory: str | Path, seed: int,
        about: dict[str, Any] | None, engine: Engine, stack: ExitStack, progress: type[Progress] = Progress,
    ) -> None:  # fmt: skip
        self.model, self.objective, self.config, self.engine = model, objective, config, engine
        self.directory, self.seed = Path(directory), seed
        if engine.is_main:
            stack.enter_context(sole_writer(self.directory / "checkpoint"))
        title = f"{self.directory.absolute().parent.name} {self.directory.name}"
        self.progress = progress(self.directory, title, config.max_examples, silent=not engine.is_main)
        stack.callback(self.progress.close)
        self.identity = plain(dict(flatten({"seed": seed, "training": config.identity(), "about": about or {}})))
        self.model.to(engine.device)
        for helper in objective.modules():
            helper.to(engine.device).eval().requires_grad_(False)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if not self.parameters:
            raise PseError("has no weights to train", type(model).__name__, "choose another model")
        self.optimizer = make_optimizer(self.parameters, config)
        self.state = Counters()
        self.saved_examples = -1
        self.metrics: Metrics | None = None
        # A batch's loss and the named scalars it is made of, once its gradients are in the weights.
        self.gradients: tuple[Tensor, dict[str, Tensor]]
        self.result: TrainResult | None = None
        # The best weights, while no checkpoint on disk holds them.
        self.best: dict[str, Tensor] | None = None

    def course(self, interrupts: guard.Interrupts) -> Iterator[Batch]:
        """Resume or rehearse, train, save: all but the gradients of the batches; no `result` after a signal."""
        resumed_at = self._resume()
        self.saved_at = time.monotonic()
        self.started = self.saved_at - self.state.seconds
        with ExitStack() as stack:
            if self.engine.is_main:
                self.metrics = stack.enter_context(Metrics(self.directory, resumed_at, self.progress))
            if resumed_at is None:
                self._rehearse()
                self._validate()
            if (yield from self._loop(interrupts)):
                return
            if self.state.examples != self.saved_examples:
                self._save()
        self.result = self._finish()

    # -- start ------------------------------------------------------------------------------------

    def _resume(self) -> int | None:
        """Load the newest whole checkpoint into model, optimizer and counters; its position."""
        found = None
        if self.engine.is_main:
            found = checkpoint.newest(self.directory, self.identity, self.progress.note)
        position = self.engine.agree(-1 if found is None else found.examples)
        if self.engine.is_main:
            checkpoint.forget_after(self.directory, position)
        if position < 0:
            self.engine.share(self.model)
            return None
        found = found or checkpoint.load_checkpoint(self.directory, f"step-{position}")
        checkpoint.put(found, self.model)
        checkpoint.restore_optimizer(self.model, self.optimizer, found.path)
        self.engine.restore_scaler(found.state["scaler"])
        self.state = Counters(**found.state["progress"])
        self.saved_examples = position
        if self.engine.is_main:
            self._name_best()
        if self._stop_reason() is None:
            self.progress.note(f"going on at {position:,} examples from {found.path}")
        return position

    def _rehearse(self) -> None:
        """Two steps, a validation batch and a checkpoint, so that what cannot work fails at once.

        Leaves weights, optimizer and counters as they were.
        """
        before = _copies(self.model)
        scaler = self.engine.scaler_state()
        batches = self.engine.batches(self.objective, self.config.batch_size, 0)
        for number, batch in zip(range(2), batches, strict=False):
            total, _ = self.differentiate(batch, number)
            norm = self.engine.clip(self.optimizer, self.parameters, self.config.clip_grad_norm)
            self.engine.update(self.optimizer, math.isfinite(total.item()) and math.isfinite(norm.item()))
        self.engine.evaluate(self.model, self.objective, most=1)
        if self.engine.is_main:
            path = self.directory / "checkpoint" / "rehearsal"
            self._write(path, Counters(), with_optimizer=True)
            checkpoint.remove([path])
        self.model.load_state_dict(before)
        self.optimizer.state.clear()
        self.engine.restore_scaler(scaler)

    # -- steps ------------------------------------------------------------------------------------

    def _loop(self, interrupts: guard.Interrupts) -> Generator[Batch, None, bool]:
        """Train to the end, or until interrupted: whether it was."""
        config, state = self.config, self.state
        batches = self.engine.batches(self.objective, config.batch_size, state.examples)
        while self._stop_reason() is None:
            batch = next(batches)
            yield batch
            stop = self._step(batch, interrupts.received is not None)
            # Several processes have to agree, in the reduction of their next step.
            stop = stop or (self.engine.world == 1 and interrupts.received is not None)
            before, state.examples = state.examples, state.examples + config.batch_size
            ended = state.examples >= config.max_examples
            if ended or state.examples // config.valid_every_examples > before // config.valid_every_examples:
                self._validate()
            state.seconds = time.monotonic() - self.started
            if stop:
                self._save()
                name = signal.Signals(interrupts.received or signal.SIGTERM).name
                self.progress.note(f"{name}: saved at {state.examples:,} examples; the same command goes on")
                return True
            if time.monotonic() - self.saved_at >= config.checkpoint_every_s:
                self._save()
        return False

    def differentiate(self, batch: Batch, examples: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Fill `gradients` with those of a batch, at the present position unless another is told."""
        self.engine.seed_step(self.seed, self.state.examples if examples is None else examples)
        self.model.train()
        with noisy(self.parameters, self.config.weight_noise):
            with self.engine.autocast():
                out = self.objective.loss(self.model, batch)
            self.engine.backward(out.total)
        self.gradients = out.total.detach().float(), out.parts
        return self.gradients

    def _step(self, batch: Batch, stop: bool) -> bool:
        """One update, or a skipped one; whether any process was asked to stop."""
        state, (total, parts) = self.state, self.gradients
        lr = self.config.lr_at(state.examples)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        scale = self.engine.scale
        scalars = [total, total.new_tensor(float(stop)), *(v.detach().float() for v in parts.values())]
        averaged = self.engine.average(self.parameters, torch.stack(scalars))
        norm = self.engine.clip(self.optimizer, self.parameters, self.config.clip_grad_norm)
        # One transfer from the device for all that is looked at.
        loss, asked, *values, size = torch.cat([averaged, norm.detach().float().reshape(1)]).tolist()
        finite = math.isfinite(loss) and math.isfinite(size)
        self.engine.update(self.optimizer, finite)
        if finite:
            state.skipped_in_a_row = 0
            state.num_steps += 1
            for name, value in zip(("loss", *parts, "grad_norm"), (loss, *values, size), strict=True):
                state.sums[name] = state.sums.get(name, 0.0) + value
        else:
            state.skipped += 1
            if guard.is_fault(loss, size, scale):
                self._count_fault(batch)
        done = state.examples + self.config.batch_size
        self.progress.step(done, loss, self.objective.headline, state.valid_value, state.best_value)
        return asked > 0

    def _count_fault(self, batch: Batch) -> None:
        state = self.state
        state.skipped_in_a_row += 1
        self.progress.note(f"step at {state.examples:,} examples is not finite: skipped")
        if state.skipped_in_a_row >= guard.MOST_IN_A_ROW:
            place = self.directory / "nonfinite" / f"process-{self.engine.rank}"
            raise guard.stop_on_nonfinite(self.model, self.objective, batch, place, state.examples)

    # -- validation -------------------------------------------------------------------------------

    def _validate(self) -> None:
        """Evaluate, write the metrics, and keep the weights if they are the best so far."""
        state, objective = self.state, self.objective
        self.engine.seed_step(self.seed, -1)
        values = self.engine.evaluate(self.model, objective)
        value = values[objective.headline] if math.isfinite(values[objective.headline]) else None
        state.valid_examples, state.valid_value = state.examples, value
        state.seconds = time.monotonic() - self.started
        sign = 1 if objective.larger_is_better else -1
        better = value is not None and (state.best_value is None or sign * (value - state.best_value) > 0)
        # The start counts too: a fine-tuning that never gains gives back what it was given.
        if better or state.examples == 0:
            state.best_value, state.best_examples = value, state.examples
            self.best = _copies(self.model)
        if self.metrics is not None:
            self.metrics.write(self._record(values))
        state.sums, state.num_steps = {}, 0

    def _record(self, values: dict[str, float]) -> dict[str, Any]:
        """A line of metrics.jsonl."""
        state = self.state
        means = {k: v / state.num_steps for k, v in state.sums.items()}
        return {
            "examples": state.examples,
            "seconds": round(state.seconds, 3),
            "headline": self.objective.headline,
            "lr": self.config.lr_at(max(0, state.examples - self.config.batch_size)),
            "grad_norm": means.pop("grad_norm", None),
            "skipped": state.skipped,
            "train_loss": means.pop("loss", None),
            **{f"train_{k}": v for k, v in means.items()},
            **{f"valid_{k}": v for k, v in values.items()},
        }

    def _stop_reason(self) -> str | None:
        """Why no further step is due; a function of the counters, so that a resumed run agrees."""
        config, state = self.config, self.state
        if state.examples >= config.max_examples:
            return f"max_examples: {config.max_examples:,} examples seen"
        if config.lr_schedule != "constant":
            # The steps while the rate falls bring what those before it could not.
            return None
        since = state.valid_examples - state.best_examples
        if state.valid_examples >= config.min_examples and since >= config.patience_examples and since > 0:
            return f"patience_examples: {since:,} examples without a better {self.objective.headline}"
        return None

    # -- saving -----------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write the checkpoint, and the best weights if no checkpoint on disk holds them yet."""
        state = self.state
        if self.engine.is_main:
            if self.best is not None and state.best_examples != state.examples:
                at_best = dataclasses.replace(state, examples=state.best_examples)
                self._write(checkpoint.place(self.directory, at_best.examples), at_best, with_optimizer=False)
            self._write(checkpoint.place(self.directory, state.examples), state, with_optimizer=True)
            self._name_best()
            checkpoint.prune(self.directory, self.config.keep_checkpoints)
        self.best = None
        self.saved_examples, self.saved_at = state.examples, time.monotonic()

    def _write(self, path: Path, state: Counters, with_optimizer: bool) -> None:
        tensors = self.model.state_dict() if with_optimizer or self.best is None else self.best
        optimizer = checkpoint.optimizer_tensors(self.model, self.optimizer) if with_optimizer else None
        content = {
            "examples": state.examples,
            "progress": dataclasses.asdict(state),
            "identity": self.identity,
            "lr": self.config.lr_at(state.examples),
            "scaler": self.engine.scaler_state(),
            "random": {"seed": self.seed, "each_step_seeded_by": ["seed", "examples", "process"]},
        }
        checkpoint.write(path, tensors, optimizer, content)

    def _name_best(self) -> None:
        state = self.state
        checkpoint.write_best(self.directory, state.best_examples, self.objective.headline, state.best_value)

    def _finish(self) -> TrainResult:
        """Put the best weights into the model, draw the curve and say how it went."""
        state, reason = self.state, self._stop_reason() or ""
        self.engine.agree(0)
        checkpoint.put(checkpoint.load_checkpoint(self.directory, f"step-{state.best_examples}"), self.model)
        if self.engine.is_main:
            objective = self.objective
            draw_curve(self.directory, objective.headline, objective.larger_is_better, self.progress)
        best = quantity(self.objective.headline, state.best_value)
        self.progress.note(f"done ({reason}); best {best} at {state.best_examples:,} examples")
        return TrainResult(state.best_value, state.best_examples, state.examples, state.seconds, reason)
