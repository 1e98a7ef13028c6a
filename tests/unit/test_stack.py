"""Trainings in a stack: each ends as it would have ended alone, whatever happens to the others."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pse.config import bind
from pse.data.cache import MemoryCache
from pse.data.collate import Batch
from pse.data.mixture import MixtureSampler, Sources
from pse.errors import PseError
from pse.models.base import Model, build, forward_together
from pse.registry import find
from pse.training import checkpoint, stack
from pse.training.config import TrainingConfig
from pse.training.loop import TrainResult, train
from pse.training.objectives.base import LossOut, Objective
from pse.training.stack import Training, train_stack
from tests.training_toy import Denoiser, Toy, equal, last, lines, plainly

SAMPLES = 2048
MODEL = {"name": "gru_mask", "hidden_size": 6, "n_fft": 64, "hop": 16}
CONFIG = TrainingConfig(
    lr=3e-3, batch_size=4, max_examples=36, min_examples=0, patience_examples=1000, valid_every_examples=12,
    checkpoint_every_s=3600.0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    plainly(monkeypatch)


def caches(seed: int) -> Sources:
    rng = np.random.default_rng(seed)

    def cache(role: str) -> MemoryCache:
        recordings = {f"{role}{i}": 0.1 * rng.standard_normal(3 * SAMPLES).astype(np.float32) for i in range(3)}
        return MemoryCache(recordings, role, 16000)

    return Sources(cache("speech"), cache("noise"), cache("premixture"))


def objective(name: str, seed: int, samples: int = SAMPLES, **options: Any) -> Objective:
    sources = caches(seed)
    train, valid = (
        MixtureSampler(sources, sources.speech.ids, samples, seed, stream, (-5, 5), (0, 10))
        for stream in ("train", "valid")
    )
    plugin = find("objective", name, "test")
    torch.manual_seed(9)
    predictor = build({"name": "snr_predictor", "hidden_size": 4, "num_layers": 1}, "test")
    helper = predictor if options.get("purification") == "predictor" else None
    fixed = [(valid.spec(i), valid.render(i)) for i in range(6)]
    return plugin(train, fixed, bind(plugin.Options, options, "test"), helper)


def model(seed: int, **keys: Any) -> Model:
    torch.manual_seed(seed)
    return build({**MODEL, **keys}, "test")


def member(directory: Path, seed: int, goal: Objective | None = None, **keys: Any) -> Training:
    goal = goal or objective("supervised", seed)
    return Training(model(seed), goal, dataclasses.replace(CONFIG, **keys), directory, seed, {"model": MODEL})


def three(root: Path) -> list[Training]:
    """Three ways of training: clean targets, purified noisy ones, frame by frame."""
    goals = [
        objective("supervised", 0), objective("pseudo_se", 1, purification="predictor"),
        objective("pseudo_se", 2, domain="segmental"),
    ]  # fmt: skip
    return [member(root / f"{i}", i, goal) for i, goal in enumerate(goals)]


def alone(training: Training) -> TrainResult:
    member, about = training[:5], training.about
    return train(*member, about=about)


def same(one: Path, other: Path) -> None:
    """Whether two directories hold the same curves to 1e-4 and the same weights to rounding."""
    curve, expected = lines(one), lines(other)
    assert [r["examples"] for r in curve] == [r["examples"] for r in expected]
    for line, wanted in zip(curve, expected, strict=True):
        assert line == {k: v if isinstance(v, str) else pytest.approx(v, abs=1e-4) for k, v in wanted.items()}
    for name, value in last(one).items():
        assert torch.allclose(value, last(other)[name], atol=1e-5), name
    best = [checkpoint.load_checkpoint(place).examples for place in (one, other)]
    assert best[0] == best[1]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three, each trained alone; tests only read it."""
    root = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        plainly(patch)
        for training in three(root):
            alone(training)
    return root


def without_clock(results: Iterable[TrainResult]) -> list[dict[str, Any]]:
    return [
        {k: v if isinstance(v, str) else pytest.approx(v, abs=1e-4) for k, v in dataclasses.asdict(r).items()}
        | {"seconds": pytest.approx(0, abs=1e9)}
        for r in results
    ]


@pytest.mark.parametrize("model_keys", [{}, {"bidirectional": True, "num_layers": 1}])
def test_models_computed_together_compute_what_each_does_alone(model_keys: dict[str, Any]) -> None:
    models = [model(i, **model_keys).double() for i in range(3)]
    mixes = [torch.randn(5, 700, dtype=torch.float64) for _ in models]
    for one, mix, out in zip(models, mixes, forward_together(models, mixes), strict=True):
        with torch.no_grad():
            expected = one(mix)
        assert torch.allclose(out.wavs, expected.wavs, rtol=1e-9, atol=1e-12)
        assert torch.allclose(out.masks, expected.masks, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("most", [2, 4])
def test_a_stack_gives_each_the_curve_of_training_it_alone(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(stack, "MOST_ON_A_PROCESSOR", most)
    results = train_stack(three(tmp_path))
    # Each was trained to its end there, so this trains nothing.
    expected = [alone(training) for training in three(undisturbed)]
    assert [dataclasses.asdict(r) for r in results] == without_clock(expected)
    for i in range(3):
        same(tmp_path / f"{i}", undisturbed / f"{i}")
    curves = [lines(tmp_path / f"{i}")[-1]["train_loss"] for i in range(3)]
    assert len(set(curves)) == 3


def test_the_weights_of_a_stack_load_into_a_plain_model_and_are_the_best(tmp_path: Path) -> None:
    trainings = three(tmp_path)
    train_stack(trainings)
    for training in trainings:
        plain = model(99)
        checkpoint.load_best(training.directory, plain)
        assert equal(dict(plain.state_dict()), dict(training.model.state_dict()))


def test_a_forward_pass_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = []

    def counted(models: Sequence[Model], mixes: Sequence[Tensor]):
        shared.append(len(models))
        return forward_together(models, mixes)

    monkeypatch.setattr(stack, "forward_together", counted)
    train_stack(three(tmp_path))
    assert shared == [3] * (CONFIG.max_examples // CONFIG.batch_size)


class Scripted(Objective):
    """Another objective with validation values of its own: the best is the one before the first step."""

    headline, larger_is_better = "value", True

    def __init__(self, inner: Objective) -> None:
        self.inner, self.batch, self.loss, self.valid_batches = inner, inner.batch, inner.loss, inner.valid_batches
        self.calls = 0

    batch = loss = valid_batches = None  # type: ignore[assignment]

    def validate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        self.calls += 1
        return {"value": torch.full((len(batch),), -float(self.calls)), "loss": torch.zeros(len(batch))}


def test_one_that_stops_early_leaves_the_stack(tmp_path: Path, undisturbed: Path) -> None:
    def trainings(root: Path) -> list[Training]:
        first, second, third = three(root)
        goal = Scripted(second.objective)
        return [first, second._replace(objective=goal, config=dataclasses.replace(CONFIG, patience_examples=24)), third]

    results = train_stack(trainings(tmp_path / "stack"))
    assert [r.examples for r in results] == [36, 24, 36] and "patience" in results[1].stopped_because
    alone(trainings(tmp_path / "alone")[1])
    for i, root in enumerate((undisturbed, tmp_path / "alone", undisturbed)):
        same(tmp_path / "stack" / f"{i}", root / f"{i}")


class Disturbed(Objective):
    """Another objective to which something happens when it computes its loss at an example."""

    def __init__(self, inner: Objective, at: int, happens: Any) -> None:
        self.inner, self.at, self.happens = inner, at, happens
        self.batch, self.valid_batches, self.validate = inner.batch, inner.valid_batches, inner.validate
        self.headline, self.larger_is_better = inner.headline, inner.larger_is_better

    batch = valid_batches = validate = None  # type: ignore[assignment]

    def loss(self, model: nn.Module, batch: Batch) -> LossOut:
        out = self.inner.loss(model, batch)
        return self.happens(out) or out if batch.ids[0] == f"train-{self.at:06d}" else out

    def modules(self) -> list[nn.Module]:
        return self.inner.modules()


def disturbed(trainings: list[Training], which: int, at: int, happens: Any) -> list[Training]:
    return [
        t._replace(objective=Disturbed(t.objective, at, happens)) if i == which else t for i, t in enumerate(trainings)
    ]


def test_a_signal_saves_all_and_the_same_call_goes_on(
    tmp_path: Path, undisturbed: Path, capsys: pytest.CaptureFixture
) -> None:
    def signalled(out: LossOut) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        train_stack(disturbed(three(tmp_path), 1, 28, signalled))
    assert caught.value.code == 143
    told = capsys.readouterr().err
    for i in range(3):
        assert checkpoint.load_checkpoint(tmp_path / f"{i}", "last").examples == 32
        assert f"{i}: SIGTERM: saved at 32 examples" in told
    train_stack(three(tmp_path))
    for i in range(3):
        same(tmp_path / f"{i}", undisturbed / f"{i}")


@pytest.mark.parametrize("go_on_alone", [False, True])
def test_after_a_crash_members_go_on_from_different_positions(
    tmp_path: Path, undisturbed: Path, go_on_alone: bool
) -> None:
    def crash(out: LossOut) -> None:
        raise RuntimeError("power cut")

    trainings = disturbed(three(tmp_path), 2, 28, crash)
    often = dataclasses.replace(CONFIG, checkpoint_every_s=0.0)
    with pytest.raises(RuntimeError, match="power cut"):
        train_stack([*(t._replace(config=often) for t in trainings[:2]), trainings[2]])
    # The last one had no checkpoint yet, so it begins again.
    assert [list(checkpoint.steps(tmp_path / f"{i}"))[-1:] for i in range(3)] == [[28], [28], []]
    if go_on_alone:
        for training in three(tmp_path):
            alone(training)
    else:
        train_stack(three(tmp_path))
    for i in range(3):
        same(tmp_path / f"{i}", undisturbed / f"{i}")


def test_a_finished_member_is_left_alone(tmp_path: Path) -> None:
    first = alone(three(tmp_path / "stack")[0])
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "stack" / "0" / "checkpoint").rglob("*.safetensors")}
    trainings = three(tmp_path / "stack")
    trainings[0].objective.batch = None  # type: ignore[method-assign]
    results = train_stack(trainings)
    assert results[0] == first and [r.examples for r in results] == [36, 36, 36]
    assert {p: p.stat().st_mtime_ns for p in written} == written
    assert train_stack(three(tmp_path / "stack")) == results


def test_a_step_that_is_not_finite_is_skipped_for_its_own_training_only(tmp_path: Path, undisturbed: Path) -> None:
    def poison(out: LossOut) -> LossOut:
        return LossOut(out.total * float("nan"), out.parts)

    train_stack(disturbed(three(tmp_path / "stack"), 1, 28, poison))
    alone(disturbed(three(tmp_path / "alone"), 1, 28, poison)[1])
    for i, root in enumerate((undisturbed, tmp_path / "alone", undisturbed)):
        same(tmp_path / "stack" / f"{i}", root / f"{i}")
    assert [lines(tmp_path / "stack" / f"{i}")[-1]["skipped"] for i in range(3)] == [0, 1, 0]


def test_one_that_fails_is_told_at_the_end_and_the_others_end_well(tmp_path: Path, undisturbed: Path) -> None:
    class Broken(Scripted):
        def loss(self, model: nn.Module, batch: Batch) -> LossOut:
            out = self.inner.loss(model, batch)
            return LossOut(out.total * (float("nan") if batch.ids[0] > "train-000010" else 1.0))

        def __init__(self, inner: Objective) -> None:
            super().__init__(inner)
            del self.loss

    first, second, third = three(tmp_path)
    with pytest.raises(PseError, match=r"5 steps in a row were not finite") as caught:
        train_stack([first, second._replace(objective=Broken(second.objective)), third])
    assert tmp_path / "1" in Path(caught.value.where).parents
    for i in (0, 2):
        same(tmp_path / f"{i}", undisturbed / f"{i}")


def test_examples_of_other_lengths_make_passes_of_their_own(tmp_path: Path) -> None:
    def trainings(root: Path) -> list[Training]:
        lengths = enumerate((SAMPLES, SAMPLES // 2, SAMPLES, SAMPLES // 2))
        return [member(root / f"{i}", i, objective("supervised", i, samples)) for i, samples in lengths]

    train_stack(trainings(tmp_path / "stack"))
    for i, training in enumerate(trainings(tmp_path / "alone")):
        alone(training)
        same(tmp_path / "stack" / f"{i}", tmp_path / "alone" / f"{i}")


def test_models_that_share_no_pass_train_as_alone_bit_for_bit(tmp_path: Path) -> None:
    def toys(root: Path) -> list[Training]:
        return [Training(toy(i), Toy(), CONFIG, root / f"{i}", i) for i in range(2)]

    def toy(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return Denoiser()

    train_stack(toys(tmp_path / "stack"))
    for i, training in enumerate(toys(tmp_path / "alone")):
        alone(training)
        assert equal(last(tmp_path / "stack" / f"{i}"), last(tmp_path / "alone" / f"{i}"))
        assert lines(tmp_path / "stack" / f"{i}") == lines(tmp_path / "alone" / f"{i}")


def test_an_objective_may_ask_the_model_for_more_than_one_output(tmp_path: Path) -> None:
    class Consistent(Disturbed):
        def loss(self, model: nn.Module, batch: Batch) -> LossOut:
            out, half = self.inner.loss(model, batch), model(0.5 * batch["mix"]).masks.mean()
            return LossOut(out.total + half + 1e-3 * sum(p.square().sum() for p in model.parameters()))

    def trainings(root: Path) -> list[Training]:
        return [t._replace(objective=Consistent(t.objective, 0, None)) for t in three(root)]

    train_stack(trainings(tmp_path / "stack"))
    for i, training in enumerate(trainings(tmp_path / "alone")):
        alone(training)
        same(tmp_path / "stack" / f"{i}", tmp_path / "alone" / f"{i}")


def test_bf16_members_train_as_alone_bit_for_bit(tmp_path: Path) -> None:
    def trainings(root: Path) -> list[Training]:
        return [member(root / f"{i}", i, precision="bf16", max_examples=12) for i in range(2)]

    train_stack(trainings(tmp_path / "stack"))
    for i, training in enumerate(trainings(tmp_path / "alone")):
        alone(training)
        assert equal(last(tmp_path / "stack" / f"{i}"), last(tmp_path / "alone" / f"{i}"))


def test_what_cannot_be_a_stack_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    one = member(tmp_path / "a", 0)
    with pytest.raises(PseError, match="trains .*a twice.*its own directory"):
        train_stack([one, member(tmp_path / "b" / ".." / "a", 1)])
    with pytest.raises(PseError, match="trains one model twice"):
        train_stack([one, one._replace(directory=tmp_path / "b")])
    with pytest.raises(PseError, match="cannot train in bf16 and no"):
        train_stack([one, member(tmp_path / "b", 1, precision="bf16")])
    with pytest.raises(PseError, match="cannot train in fp16"):
        train_stack([member(tmp_path / "b", 1, precision="fp16")])
    assert train_stack([]) == [] and list(tmp_path.iterdir()) == []


def test_a_member_of_another_config_stops_the_stack_before_its_first_step(tmp_path: Path) -> None:
    alone(member(tmp_path / "b", 1))
    goals = [objective("supervised", i) for i in range(2)]
    with pytest.raises(PseError, match="another config: training.lr"):
        train_stack([member(tmp_path / "a", 0, goals[0]), member(tmp_path / "b", 1, goals[1], lr=1.0)])
    assert list(checkpoint.steps(tmp_path / "a")) == []


def test_models_of_different_transforms_are_not_computed_together() -> None:
    models = [model(0), model(1, hop=8)]
    with pytest.raises(PseError, match="different n_fft or hop"):
        forward_together(models, [torch.zeros(1, 64)] * 2)


def test_a_stack_tells_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(stack, "LOG_INTERVAL_S", 0.0)
    train_stack([member(tmp_path / f"{i}", i, max_examples=8) for i in range(2)])
    told = capsys.readouterr().err
    assert "stack of 2: 2 training  8 ex" in told and "stack of 2: 0 training  16 ex" in told
    assert "ETA" in (tmp_path / "1" / "train.log").read_text() and "done (max_examples" in told
