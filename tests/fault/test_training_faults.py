"""What goes wrong in a training: crashes, signals, a full disk, steps that are not finite."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import signal
from pathlib import Path

import pytest
from torch import Tensor, nn

from pse.data.collate import Batch
from pse.errors import PseError
from pse.io.atomic import sole_writer
from pse.training import checkpoint, guard
from tests.training_toy import Denoiser, Toy, equal, last, lines, plainly, run


@pytest.fixture(autouse=True)
def _plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    plainly(monkeypatch)


class _Crash(Toy):
    """Fails at an example, as a power cut would."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def loss(self, model: nn.Module, batch: Batch):
        if batch.ids[0] == f"tone-{self.at}" and checkpoint.steps(self.directory):
            raise RuntimeError("power cut")
        return super().loss(model, batch)


@pytest.mark.parametrize("every_s", [0.0, 0.02])
@pytest.mark.parametrize("crashes", [[8], [12, 16, 40, 116]])
def test_a_crashed_run_resumes_to_the_same_end(tmp_path: Path, every_s: float, crashes: list[int]) -> None:
    whole, model = run(tmp_path / "whole", max_examples=120)
    broken = tmp_path / "broken"
    for at in crashes:
        objective = _Crash(at)
        objective.directory = broken
        if at == crashes[0]:
            run(broken, max_examples=4)
        with pytest.raises(RuntimeError, match="power cut"):
            run(broken, objective, checkpoint_every_s=every_s)
    result, resumed = run(broken)
    assert equal(dict(model.state_dict()), dict(resumed.state_dict()))
    assert equal(last(tmp_path / "whole"), last(broken))
    assert (result.best_value, result.best_examples) == (whole.best_value, whole.best_examples)
    # The line at the first end, 4 examples, is one more validation.
    assert [r for r in lines(broken) if r["examples"] != 4][2:] == lines(tmp_path / "whole")[2:]


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_saves_and_the_same_call_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture, number: int, error: type[BaseException]
) -> None:
    class Signalled(Toy):
        def loss(self, model: nn.Module, batch: Batch):
            if batch.ids[0] == "tone-28":
                os.kill(os.getpid(), number)
            return super().loss(model, batch)

    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(error):
        run(tmp_path / "a", Signalled())
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert checkpoint.load_checkpoint(tmp_path / "a", "last").examples == 32
    assert "saved at 32 examples; the same command goes on" in capsys.readouterr().err
    run(tmp_path / "a")
    run(tmp_path / "b")
    assert equal(last(tmp_path / "a"), last(tmp_path / "b"))
    assert lines(tmp_path / "a") == lines(tmp_path / "b")


def test_a_second_signal_takes_effect_at_once() -> None:
    # A shell starts its background jobs with Ctrl-C ignored, and a test run may be one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with guard.Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupts.received == signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_poisoned_step_is_skipped_and_counted(tmp_path: Path) -> None:
    result, model = run(tmp_path, Toy(poison=[21, 22, 53]))
    assert [r["skipped"] for r in lines(tmp_path)][-1] == 2
    assert all(v.isfinite().all() for v in model.state_dict().values())
    assert result.examples == 120 and all(r["train_loss"] is not None for r in lines(tmp_path)[1:])


def test_any_number_of_poisoned_steps_may_come_apart(tmp_path: Path) -> None:
    run(tmp_path, Toy(poison=range(0, 120, 8)))
    assert lines(tmp_path)[-1]["skipped"] == 15


def test_five_poisoned_steps_in_a_row_stop_and_keep_the_batch(tmp_path: Path) -> None:
    with pytest.raises(PseError, match=r"5 steps in a row.*the batch \(mix\).*the batch is kept"):
        run(tmp_path, Toy(poison=range(40, 80)))
    place = tmp_path / "nonfinite" / "process-0"
    report = json.loads((place / "report.json").read_text())
    assert report["ids"] == [f"tone-{n}" for n in range(56, 60)] and report["examples"] == 56
    assert checkpoint.load_file(place / "batch.safetensors")["mix"].isnan().all()


class _Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - 10).sqrt()


def test_the_first_nonfinite_module_or_weight_is_named() -> None:
    batch = Toy().batch(range(4))
    model = Denoiser()
    model.drop = _Root()
    assert guard.first_nonfinite(model, Toy(), batch) == "module drop (_Root)"
    model = Denoiser()
    model.out.bias.data.fill_(math.inf)
    assert guard.first_nonfinite(model, Toy(), batch) == "the weight out.bias"

    class Kink(Toy):
        def loss(self, model: nn.Module, batch: Batch):
            out = super().loss(model, batch)
            return dataclasses.replace(out, total=out.total + (model.out.bias * 0).abs().sqrt().sum())

    assert guard.first_nonfinite(Denoiser(), Kink(), batch) == "the gradient of out.bias"


def test_an_overflow_of_fp16_is_no_fault_until_the_scale_is_spent() -> None:
    assert not guard.is_fault(1.0, math.inf, scale=65536.0)
    assert guard.is_fault(1.0, math.inf, scale=1.0) and guard.is_fault(math.nan, 1.0, scale=65536.0)
    assert not guard.is_fault(1.0, 2.0, scale=1.0)


def test_a_full_disk_is_one_line_and_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every later write of the run may be the one that fails, also one in the middle of a checkpoint."""
    write, left = checkpoint.write_tensors, 0

    def fails(path: Path, tensors: dict[str, Tensor]) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, tensors)

    run(tmp_path / "whole", checkpoint_every_s=0.0)
    monkeypatch.setattr(checkpoint, "write_tensors", fails)
    for left in (0, 1, 4, 9, 12):  # noqa: B007
        with pytest.raises(PseError, match="no room left to write.*free some space"):
            run(tmp_path / "full", checkpoint_every_s=0.0)
    monkeypatch.setattr(checkpoint, "write_tensors", write)
    run(tmp_path / "full", checkpoint_every_s=0.0)
    assert equal(last(tmp_path / "whole"), last(tmp_path / "full"))
    assert lines(tmp_path / "whole") == lines(tmp_path / "full")


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with sole_writer(tmp_path / "checkpoint"), pytest.raises(PseError, match="is being written by"):
        run(tmp_path)
