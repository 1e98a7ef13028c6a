"""The training loop: equal to a plain one, resumable bit for bit, and hard to break."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pse.config import bind
from pse.data.collate import Batch
from pse.errors import EnvironmentFault, PseError
from pse.io.atomic import sole_writer
from pse.training import checkpoint, guard, loop
from pse.training import progress as progress_module
from pse.training.config import TrainingConfig
from pse.training.engine import Engine
from pse.training.progress import Progress, clock, quantity
from tests.training_toy import CONFIG, Denoiser, Toy, run


@pytest.fixture(autouse=True)
def _quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread; figures and TensorBoard only where a test says `complete`."""
    torch.set_num_threads(1)
    if "complete" not in request.fixturenames:
        monkeypatch.setattr(loop, "draw_curve", lambda *arguments: None)
        monkeypatch.setattr(progress_module, "_tensorboard", lambda *arguments: None)


@pytest.fixture
def complete() -> None:
    """Asks for figures and TensorBoard."""


def _lines(directory: Path) -> list[dict]:
    """metrics.jsonl without the clock."""
    records = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if k != "seconds"} for r in records]


def _same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())


def _last(directory: Path) -> dict[str, Tensor]:
    """Weights and Adam's moments of the last checkpoint."""
    found = checkpoint.load_checkpoint(directory, "last")
    optimizer = checkpoint.load_file(found.path / "optimizer.safetensors")
    return {**found.tensors, **optimizer}


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


def test_it_learns_and_ends_with_the_best_weights(tmp_path: Path, complete: None) -> None:
    result, model = run(tmp_path)
    first = _lines(tmp_path)[0]["valid_snr_db"]
    assert result.best_value > first + 3
    assert result.examples == 120 and result.stopped_because.startswith("max_examples")
    value = Engine("no", 0).evaluate(model, Toy())["snr_db"]
    assert value == pytest.approx(result.best_value, abs=1e-6)
    assert (tmp_path / "images" / "learning_curve.png").stat().st_size > 1000
    assert list((tmp_path / "tensorboard").iterdir())


def test_weights_equal_those_of_a_plain_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also shows that the rehearsal leaves no trace. Dropout is off: its draws are our own."""
    monkeypatch.setattr("tests.training_toy.nn.Dropout", lambda p: nn.Identity())
    run(tmp_path, lr_schedule="half_then_decay")
    torch.manual_seed(0)
    model, objective = Denoiser(), Toy()
    optimizer = torch.optim.Adam(model.parameters(), lr=CONFIG.lr)
    for start in range(0, CONFIG.max_examples, CONFIG.batch_size):
        for group in optimizer.param_groups:
            group["lr"] = CONFIG.lr * min(1.0, 2 * (1 - start / CONFIG.max_examples))
        optimizer.zero_grad()
        objective.loss(model, objective.batch(range(start, start + CONFIG.batch_size))).total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG.clip_grad_norm)
        optimizer.step()
    assert _equal(checkpoint.load_checkpoint(tmp_path, "last").tensors, dict(model.state_dict()))


def test_two_runs_are_equal_bit_for_bit_and_other_seeds_differ(tmp_path: Path) -> None:
    run(tmp_path / "a")
    torch.rand(7)
    run(tmp_path / "b")
    assert _equal(_last(tmp_path / "a"), _last(tmp_path / "b"))
    assert _lines(tmp_path / "a") == _lines(tmp_path / "b")
    run(tmp_path / "c", seed=4)
    assert not _equal(_last(tmp_path / "a"), _last(tmp_path / "c"))


def test_extending_a_run_equals_one_long_run(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    for last in (8, 52, 120):
        run(tmp_path / "parts", max_examples=last)
    assert _equal(_last(tmp_path / "whole"), _last(tmp_path / "parts"))


class _Crash(Toy):
    """Fails at an example, as a power cut would."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def loss(self, model: nn.Module, batch: Batch):  # noqa: ANN201
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
    assert _same(model, resumed) and _equal(_last(tmp_path / "whole"), _last(broken))
    assert (result.best_value, result.best_examples) == (whole.best_value, whole.best_examples)
    # The line at the first end, 4 examples, is one more validation.
    assert [r for r in _lines(broken) if r["examples"] != 4][2:] == _lines(tmp_path / "whole")[2:]


def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    first, model = run(tmp_path)
    objective = Toy()
    again, same = run(tmp_path, objective)
    assert again == first and _same(model, same) and objective.seen == []


class _Scripted(Toy):
    """Validation values by number of calls, whatever the model does."""

    def __init__(self, values: dict[int, float]) -> None:
        super().__init__()
        self.values, self.calls = values, -1

    def valid_batches(self):  # noqa: ANN201
        self.calls += 1
        return super().valid_batches()

    def validate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        # The rehearsal is call 0, the validation before the first step call 1.
        value = torch.full((len(batch),), self.values.get(self.calls - 1, 0.0))
        return {"loss": value, "snr_db": value}


@pytest.mark.parametrize(
    ("values", "patience", "stop", "best"),
    [({0: 1.0}, 24, 48, 0), ({0: 1.0}, 80, 84, 0), ({0: 1.0, 3: 2.0}, 24, 60, 36), ({}, 24, 48, 0)],
)
def test_early_stopping_counts_examples_since_the_best(
    tmp_path: Path, values: dict[int, float], patience: int, stop: int, best: int
) -> None:
    result, _ = run(tmp_path, _Scripted(values), patience_examples=patience)
    assert (result.examples, result.best_examples) == (stop, best)
    assert result.stopped_because.startswith("patience_examples")
    assert checkpoint.load_checkpoint(tmp_path, "best").examples == best


def test_early_stopping_counts_on_after_a_resume(tmp_path: Path) -> None:
    run(tmp_path, _Scripted({0: 1.0}), max_examples=24, patience_examples=1000)
    result, _ = run(tmp_path, _Scripted({}), patience_examples=60)
    assert (result.examples, result.best_examples, result.best_value) == (60, 0, 1.0)


def test_smaller_is_better_where_the_objective_says_so(tmp_path: Path) -> None:
    objective = _Scripted({0: 1.0, 1: 0.5, 2: 0.7})
    objective.headline, objective.larger_is_better, objective.values = "loss", False, {0: 1, 1: -5, 2: -3}
    assert run(tmp_path, objective)[0].best_examples == 12


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_saves_and_the_same_call_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture, number: int, error: type[BaseException]
) -> None:
    class Signalled(Toy):
        def loss(self, model: nn.Module, batch: Batch):  # noqa: ANN202
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
    assert _equal(_last(tmp_path / "a"), _last(tmp_path / "b"))
    assert _lines(tmp_path / "a") == _lines(tmp_path / "b")


def test_a_poisoned_step_is_skipped_and_counted(tmp_path: Path) -> None:
    result, model = run(tmp_path, Toy(poison=[21, 22, 53]))
    assert [r["skipped"] for r in _lines(tmp_path)][-1] == 2
    assert all(v.isfinite().all() for v in model.state_dict().values())
    assert result.examples == 120 and all(r["train_loss"] is not None for r in _lines(tmp_path)[1:])


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
        def loss(self, model: nn.Module, batch: Batch):  # noqa: ANN202
            out = super().loss(model, batch)
            return dataclasses.replace(out, total=out.total + (model.out.bias * 0).abs().sqrt().sum())

    assert guard.first_nonfinite(Denoiser(), Kink(), batch) == "the gradient of out.bias"


def test_an_overflow_of_fp16_is_no_fault_until_the_scale_is_spent() -> None:
    assert not guard.is_fault(1.0, math.inf, scale=65536.0)
    assert guard.is_fault(1.0, math.inf, scale=1.0) and guard.is_fault(math.nan, 1.0, scale=65536.0)
    assert not guard.is_fault(1.0, 2.0, scale=1.0)


def test_a_directory_of_another_config_is_refused_but_stopping_keys_may_change(tmp_path: Path) -> None:
    run(tmp_path, max_examples=24)
    with pytest.raises(PseError, match=r"another config: training.lr 0.003 -> 0.1"):
        run(tmp_path, lr=0.1)
    assert run(tmp_path, max_examples=36, keep_checkpoints=1, patience_examples=5000)[0].examples == 36


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with sole_writer(tmp_path / "checkpoint"), pytest.raises(PseError, match="is being written by"):
        run(tmp_path)


def test_what_cannot_work_fails_before_the_first_step(tmp_path: Path) -> None:
    class Nameless(Toy):
        headline = "pesq"

    class Empty(Toy):
        def valid_batches(self):  # noqa: ANN202
            return []

    with pytest.raises(PseError, match="gives no 'pesq'"):
        run(tmp_path / "a", Nameless())
    with pytest.raises(PseError, match="has no examples"):
        run(tmp_path / "b", Empty())
    assert [p.name for p in (tmp_path / "a" / "checkpoint").iterdir()] == [".lock"]


def test_global_generators_and_signals_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    Denoiser()
    want = torch.get_rng_state()
    run(tmp_path, max_examples=8)
    assert torch.equal(torch.get_rng_state(), want)


def test_helper_networks_are_frozen(tmp_path: Path) -> None:
    helper = nn.Dropout(0.5)
    helper.scale = nn.Parameter(torch.ones(()))
    objective = Toy()
    objective.modules = lambda: [helper]
    run(tmp_path, objective, max_examples=4)
    assert not helper.training and not helper.scale.requires_grad


def test_bf16_trains_on_a_processor_and_differs_from_float32(tmp_path: Path) -> None:
    half, model = run(tmp_path / "a", precision="bf16")
    full, other = run(tmp_path / "b")
    assert half.best_value == pytest.approx(full.best_value, abs=0.5) and not _same(model, other)
    assert all(v.dtype == torch.float32 for v in model.state_dict().values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(PseError, match="fp16 needs a GPU"):
        Engine("fp16", 0)
    with pytest.raises(EnvironmentFault, match="no GPU is visible; train with --ngpu 0"):
        Engine("no", 1)


def test_missing_accelerate_is_an_environment_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(EnvironmentFault, match="accelerate is missing"):
        Engine("no", 0)


def test_training_needs_neither_tensorboard_nor_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, complete: None
) -> None:
    for name in ("tensorboardX", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    run(tmp_path, max_examples=8)
    printed = capsys.readouterr().err
    assert printed.count("no TensorBoard events") == 1 and printed.count("no learning curve drawn") == 1


def test_metrics_drop_a_torn_line_and_what_follows_the_checkpoint(tmp_path: Path) -> None:
    run(tmp_path, max_examples=24)
    kept = (tmp_path / "metrics.jsonl").read_text()
    for tail in ('{"examples": 36, "seconds": 1}\n', '{"examples": 30, "sec', "\x00\xff"):
        (tmp_path / "metrics.jsonl").write_text(kept + tail)
        run(tmp_path, max_examples=24)
        assert (tmp_path / "metrics.jsonl").read_text() == kept


def test_learning_rate_is_held_for_half_then_falls_to_zero() -> None:
    config = TrainingConfig(lr=1e-3, lr_schedule="half_then_decay", max_examples=1000)
    assert [config.lr_at(n) for n in (0, 500, 750, 1000)] == pytest.approx([1e-3, 1e-3, 5e-4, 0])
    assert TrainingConfig(lr=1e-3).lr_at(10**9) == 1e-3
    assert "max_examples" in config.identity() and "max_examples" not in TrainingConfig().identity()


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("lr", 0, "lr must be positive"),
        ("batch_size", 0, "at least 1"),
        ("patience_examples", -1, "not be negative"),
        ("precision", "bf32", "choose one of no, bf16, fp16"),
        ("batchsize", 4, "did you mean 'batch_size'"),
    ],
)
def test_impossible_config_values_are_refused(key: str, value: object, says: str) -> None:
    with pytest.raises(PseError, match=says):
        bind(TrainingConfig, {key: value}, "training")


def test_progress_line_reads_as_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 30.0])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(now))
    out = io.StringIO()
    shown = Progress(tmp_path, "pretrain 19.pseudo_se", 100_000, out=out)
    shown.step(440, -1.0, "si_sdr_i", None, None)
    shown.step(12_800, -6.314, "si_sdr_i", 3.21, 3.43)
    shown.close()
    assert out.getvalue().splitlines()[1] == (
        "pretrain 19.pseudo_se  12,800/100,000 ex  loss -6.31  si_sdr_i 3.2 dB (best 3.4)  412 ex/s  ETA 3:32"
    )
    assert clock(3812) == "1:03:32" and clock(9.6) == "0:10" and quantity("loss", 0.01234) == "loss 0.01234"


def test_a_log_gets_one_line_in_ten_seconds_and_a_terminal_rewrites_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [float(s) for s in range(41)]
    for terminal in (False, True):
        out = io.StringIO()
        monkeypatch.setattr(out, "isatty", lambda value=terminal: value)
        now = iter(seconds)
        monkeypatch.setattr(progress_module.time, "monotonic", lambda now=now: next(now))
        shown = Progress(tmp_path, "t", 100, out=out)
        for number in range(len(seconds)):
            shown.step(number, 0.0, "loss", None, None)
        shown.note("a line\nof its own")
        shown.close()
        lines = out.getvalue().split("\n")
        if terminal:
            assert len(lines) == 3 and lines[0].count("\r") == 41 and lines[1] == "t: a line\\nof its own"
        else:
            assert len(lines) == 5 + 2 and "\r" not in out.getvalue()
