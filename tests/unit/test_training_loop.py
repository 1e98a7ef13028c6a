"""The training loop: equal to a plain one, resumable bit for bit, stopping where it should."""

from __future__ import annotations

import math
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pse.config import bind
from pse.data.collate import Batch
from pse.errors import EnvironmentFault, PseError
from pse.training import checkpoint
from pse.training.config import TrainingConfig
from pse.training.engine import Engine
from pse.training.optimizer import noisy
from tests.training_toy import CONFIG, Denoiser, Toy, equal, last, lines, plainly, run


@pytest.fixture(autouse=True)
def _plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    plainly(monkeypatch)


def test_it_learns_and_ends_with_the_best_weights(tmp_path: Path) -> None:
    result, model = run(tmp_path)
    assert result.best_value > lines(tmp_path)[0]["valid_snr_db"] + 3
    assert result.examples == 120 and result.stopped_because.startswith("max_examples")
    value = Engine("no", 0).evaluate(model, Toy())["snr_db"]
    assert value == pytest.approx(result.best_value, abs=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_weights_equal_those_of_a_plain_loop(tmp_path: Path, optimizer: str) -> None:
    """Also shows that the rehearsal leaves no trace. Dropout is off: its draws are our own."""
    run(tmp_path, lr_schedule="half_then_decay", dropout=0.0, optimizer=optimizer, momentum=0.8)
    torch.manual_seed(0)
    model, objective = Denoiser(dropout=0.0), Toy()
    make = {"adam": torch.optim.Adam, "sgd": partial(torch.optim.SGD, momentum=0.8)}[optimizer]
    optimizer = make(model.parameters(), lr=CONFIG.lr)
    losses = []
    for start in range(0, CONFIG.max_examples, CONFIG.batch_size):
        for group in optimizer.param_groups:
            group["lr"] = CONFIG.lr * min(1.0, 2 * (1 - start / CONFIG.max_examples))
        optimizer.zero_grad()
        out = objective.loss(model, objective.batch(range(start, start + CONFIG.batch_size)))
        out.total.backward()
        losses.append(out.total.item())
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG.clip_grad_norm)
        optimizer.step()
    assert equal(checkpoint.load_checkpoint(tmp_path, "last").tensors, dict(model.state_dict()))
    # Three steps to a validation: a line holds the mean of its own steps.
    means = [sum(losses[i : i + 3]) / 3 for i in range(0, len(losses), 3)]
    assert [r["train_loss"] for r in lines(tmp_path)[1:]] == pytest.approx(means)


def test_two_runs_are_equal_bit_for_bit_and_other_seeds_differ(tmp_path: Path) -> None:
    run(tmp_path / "a")
    torch.rand(7)
    run(tmp_path / "b")
    assert equal(last(tmp_path / "a"), last(tmp_path / "b"))
    assert lines(tmp_path / "a") == lines(tmp_path / "b")
    run(tmp_path / "c", seed=4)
    assert not equal(last(tmp_path / "a"), last(tmp_path / "c"))


@pytest.mark.parametrize("keys", [{}, {"optimizer": "sgd"}, {"optimizer": "sgd", "momentum": 0.0, "weight_noise": 0.1}])
def test_extending_a_run_equals_one_long_run(tmp_path: Path, keys: dict[str, object]) -> None:
    run(tmp_path / "whole", **keys)
    for examples in (8, 52, 120):
        run(tmp_path / "parts", max_examples=examples, **keys)
    assert equal(last(tmp_path / "whole"), last(tmp_path / "parts"))


def test_noise_on_the_weights_is_there_for_the_gradient_and_gone_for_the_update() -> None:
    torch.manual_seed(0)
    weights = [torch.randn(200, 200, requires_grad=True)]
    before = weights[0].detach().clone()
    with noisy(weights, 0.5):
        added = weights[0].detach() - before
        assert added.std().item() == pytest.approx(0.5, rel=0.02) and abs(added.mean().item()) < 0.01
    assert torch.equal(weights[0].detach(), before)
    with noisy(weights, 0.0):
        assert torch.equal(weights[0].detach(), before)


def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    first, model = run(tmp_path)
    objective = Toy()
    again, same = run(tmp_path, objective)
    assert again == first and objective.seen == []
    assert equal(dict(model.state_dict()), dict(same.state_dict()))


class _Scripted(Toy):
    """Validation values by number of calls, whatever the model does."""

    def __init__(self, values: dict[int, float]) -> None:
        super().__init__()
        self.values, self.calls = values, -1

    def valid_batches(self):
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


def test_a_rate_that_falls_is_never_stopped_before_its_end(tmp_path: Path) -> None:
    given = {"patience_examples": 24, "lr_schedule": "half_then_decay", "max_examples": 96}
    result, _ = run(tmp_path, _Scripted({0: 1.0, 7: 2.0}), **given)
    assert (result.examples, result.best_examples) == (96, 84)


def test_the_model_is_given_the_best_weights_not_the_last(tmp_path: Path) -> None:
    _, model = run(tmp_path, _Scripted({0: 1.0, 3: 2.0}), patience_examples=24)
    best, last = (checkpoint.load_checkpoint(tmp_path, w) for w in ("best", "last"))
    assert equal(dict(model.state_dict()), best.tensors) and not equal(best.tensors, last.tensors)


def test_a_validation_that_is_never_finite_stops_by_patience(tmp_path: Path) -> None:
    result, _ = run(tmp_path, _Scripted(dict.fromkeys(range(99), math.nan)), patience_examples=24)
    assert (result.best_value, result.best_examples, result.examples) == (None, 0, 48)
    assert {r["valid_snr_db"] for r in lines(tmp_path)} == {None}


def test_only_the_newest_checkpoints_and_the_best_stay(tmp_path: Path) -> None:
    run(tmp_path, _Scripted({1: 9.0}), checkpoint_every_s=0.0, keep_checkpoints=3, max_examples=60)
    assert list(checkpoint.steps(tmp_path)) == [12, 52, 56, 60]


def test_time_adds_up_over_resumes(tmp_path: Path) -> None:
    times = [run(tmp_path, Toy(step_s=0.02), max_examples=n)[0].seconds for n in (40, 80, 120)]
    assert times[0] >= 0.2 and times[1] >= times[0] + 0.2 and times[2] >= times[1] + 0.2


def test_early_stopping_counts_on_after_a_resume(tmp_path: Path) -> None:
    run(tmp_path, _Scripted({0: 1.0}), max_examples=24, patience_examples=1000)
    result, _ = run(tmp_path, _Scripted({}), patience_examples=60)
    assert (result.examples, result.best_examples, result.best_value) == (60, 0, 1.0)


def test_smaller_is_better_where_the_objective_says_so(tmp_path: Path) -> None:
    objective = _Scripted({0: 1.0, 1: 0.5, 2: 0.7})
    objective.headline, objective.larger_is_better, objective.values = "loss", False, {0: 1, 1: -5, 2: -3}
    assert run(tmp_path, objective)[0].best_examples == 12


def test_a_directory_of_another_config_is_refused_but_stopping_keys_may_change(tmp_path: Path) -> None:
    run(tmp_path, max_examples=24)
    with pytest.raises(PseError, match=r"another config: training.lr 0.003 -> 0.1"):
        run(tmp_path, lr=0.1)
    assert run(tmp_path, max_examples=36, keep_checkpoints=1, patience_examples=5000)[0].examples == 36


def test_what_cannot_work_fails_before_the_first_step(tmp_path: Path) -> None:
    class Nameless(Toy):
        headline = "pesq"

    class Empty(Toy):
        def valid_batches(self):
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
    assert half.best_value == pytest.approx(full.best_value, abs=0.5)
    assert not equal(dict(model.state_dict()), dict(other.state_dict()))
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
        ("momentum", 1.0, "from 0 to below 1"),
        ("weight_noise", -0.1, "not be negative"),
        ("optimizer", "sdg", "did you mean 'sgd'"),
        ("precision", "bf32", "choose one of no, bf16, fp16"),
        ("batchsize", 4, "did you mean 'batch_size'"),
    ],
)
def test_impossible_config_values_are_refused(key: str, value: object, says: str) -> None:
    with pytest.raises(PseError, match=says):
        bind(TrainingConfig, {key: value}, "training")


