"""A task runs when what it reads has changed, says what that was, and otherwise does nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pse.errors import PseError, StageMissingError
from pse.io.atomic import sole_writer
from pse.recipe import runner
from pse.recipe.options import Context
from pse.recipe.personal.layout import speakers
from pse.recipe.stage import Task, View, digest


@dataclass(frozen=True)
class Part:
    lr: float = 1.0
    size: int = 3
    checkpoint_every_s: float = 60.0
    keep_checkpoints: int = 2


@dataclass(frozen=True)
class Config:
    seed: int = 0
    part: Part = field(default_factory=Part)
    named: dict[str, Part] = field(default_factory=lambda: {"a": Part(), "b": Part()})


def make(tmp_path: Path, **changes: Any) -> tuple[Task, list[float]]:
    calls: list[float] = []
    (tmp_path / "in.txt").write_text("x")

    def run(config: Any) -> None:
        calls.append(config.part.lr)
        (tmp_path / "out.txt").write_text(f"{config.part.lr}")

    task = Task(
        "t", "s", ("part.lr", "named.a"), (tmp_path / "in.txt",), (tmp_path / "out.txt",), tmp_path, run, "earlier"
    )
    return replace(task, **changes), calls


def test_a_finished_task_is_up_to_date_and_a_new_one_is_missing(tmp_path: Path) -> None:
    task, calls = make(tmp_path)
    assert task.why_not_done(Config()) == "missing"
    task.execute(Config())
    assert task.why_not_done(Config()) is None and calls == [1.0]


def test_only_keys_that_are_read_make_it_stale_and_they_are_named(tmp_path: Path) -> None:
    task, _ = make(tmp_path)
    task.execute(Config())
    assert task.why_not_done(Config(seed=7, part=Part(size=9))) is None
    assert task.why_not_done(Config(named={"a": Part(), "b": Part(lr=3)})) is None
    assert task.why_not_done(Config(part=Part(lr=2.0))) == "changed: part.lr 1.0 -> 2.0"
    assert "named.a.size 3 -> 4" in str(task.why_not_done(Config(named={"a": Part(size=4)})))


def test_a_changed_input_and_a_lost_output_are_named(tmp_path: Path) -> None:
    task, _ = make(tmp_path)
    task.execute(Config())
    (tmp_path / "in.txt").write_text("something else")
    assert "in.txt" in str(task.why_not_done(Config()))
    task.execute(Config())
    (tmp_path / "out.txt").unlink()
    assert task.why_not_done(Config()) == f"damaged {tmp_path / 'out.txt'}"


def test_an_output_of_another_size_is_named(tmp_path: Path) -> None:
    task, _ = make(tmp_path)
    task.execute(Config())
    for content in ("", "1.0 and more"):
        (tmp_path / "out.txt").write_text(content)
        assert task.why_not_done(Config()) == f"damaged {tmp_path / 'out.txt'}"
    (tmp_path / "out.txt").unlink()
    (tmp_path / "out.txt").mkdir()
    assert task.why_not_done(Config()) == f"damaged {tmp_path / 'out.txt'}"


WRONG = ["", "{", "[]", "7", "null", "{}", '{"keys": 3, "inputs": {}}', '{"keys": {}, "inputs": []}']


@pytest.mark.parametrize("content", [*WRONG, pytest.param("[" * 100_000, id="deep")])
def test_a_record_of_any_other_shape_counts_as_missing(tmp_path: Path, content: str) -> None:
    task, _ = make(tmp_path)
    task.execute(Config())
    task.record_path.write_text(content)
    assert task.why_not_done(Config()) == "missing"
    task.record_path.write_bytes(b"\xff\xfe")
    assert task.why_not_done(Config()) == "missing"


def test_a_record_with_sizes_of_another_shape_counts_as_missing(tmp_path: Path) -> None:
    task, _ = make(tmp_path)
    task.execute(Config())
    record = json.loads(task.record_path.read_text())
    task.record_path.write_text(json.dumps(record | {"outputs": [1]}))
    assert task.why_not_done(Config()) == "missing"


def test_how_often_a_checkpoint_is_written_makes_nothing_stale(tmp_path: Path) -> None:
    task, _ = make(tmp_path, reads=("part",))
    task.execute(Config())
    assert task.why_not_done(Config(part=Part(checkpoint_every_s=1.0, keep_checkpoints=9))) is None
    assert task.why_not_done(Config(part=Part(size=4))) == "changed: part.size 3 -> 4"


def test_a_repeated_task_with_the_same_result_leaves_what_follows_up_to_date(tmp_path: Path) -> None:
    task, _ = make(tmp_path)
    task.execute(Config())
    record = json.loads(task.record_path.read_text())
    follower = replace(task, name="u", inputs=(task.record_path,), reads=(), outputs=())
    follower = replace(follower, run=lambda config: None)
    follower.execute(Config())
    task.record_path.write_text(json.dumps(record | {"seconds": 9e9, "commit": "another"}))
    assert follower.why_not_done(Config()) is None
    before = digest(task.record_path)
    task.execute(Config(part=Part(lr=5.0)))
    assert digest(task.record_path) != before
    assert "t.json" in str(follower.why_not_done(Config()))


def test_a_missing_input_names_the_stage_that_makes_it(tmp_path: Path) -> None:
    task, calls = make(tmp_path)
    (tmp_path / "in.txt").unlink()
    with pytest.raises(StageMissingError, match="--stage earlier") as caught:
        task.execute(Config())
    assert caught.value.exit_code == 2 and not calls


def test_a_failed_task_is_not_up_to_date(tmp_path: Path) -> None:
    task, _ = make(tmp_path)
    task.execute(Config())

    def fail(config: Any) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    broken = replace(task, run=fail)
    with pytest.raises(PseError, match="no room left"):
        broken.execute(Config())
    assert task.why_not_done(Config()) == "missing"


def test_a_task_cannot_read_what_it_does_not_declare() -> None:
    view = View(Config(), ("part.lr", "named.a"))
    assert view.part.lr == 1.0 and view.named.a == Part()
    for read in (lambda: view.seed, lambda: view.part.size, lambda: view.named.b):
        with pytest.raises(RuntimeError, match="declares only"):
            read()


def test_a_training_goes_on_unless_what_decides_it_changed(tmp_path: Path) -> None:
    place = tmp_path / "exp"
    task, _ = make(tmp_path, place=place, outputs=(place / "weights",))

    def train(config: Any) -> None:
        place.mkdir(exist_ok=True)
        steps = place / "steps"
        steps.write_text((steps.read_text() if steps.exists() else "") + "x")
        if len(steps.read_text()) == 1:
            raise KeyboardInterrupt
        (place / "weights").write_text("w")

    task = replace(task, run=train)
    with pytest.raises(KeyboardInterrupt):
        task.execute(Config())
    task.execute(Config())
    assert (place / "steps").read_text() == "xx"
    with pytest.raises(KeyboardInterrupt):
        task.execute(Config(part=Part(lr=9.0)))
    assert (place / "steps").read_text() == "x"
    assert (tmp_path / ".earlier" / "exp" / "weights").read_text() == "w"


RECIPE = Path(__file__).resolve().parents[2] / "egs" / "librispeech_pse"


def run_stage(tmp_path: Path, tasks: Callable[[Context], list[Task]], *more: str) -> str:
    """What a stage of the recipe tells the user when it cannot do its work."""
    roots = [x for d in ("data", "dump", "exp") for x in (f"--{d}dir", str(tmp_path / d))]
    recipe = ["--recipe", "personal", "--recipe_dir", str(RECIPE), "--config", "conf/mini.yaml"]
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(PseError) as caught:
            program = [sys.executable, "-c", "raise SystemExit(1)"]
            runner.main("this", tasks, [*recipe, *roots, "--tag", "t", *more], program)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def one_task(run: Callable[[Any], None], **changes: Any) -> Callable[[Context], list[Task]]:
    return lambda ctx: [replace(Task("t", "this", (), (), (ctx.exp / "x",), ctx.exp, run), **changes)]


def test_the_remedy_for_what_an_earlier_stage_makes_is_the_whole_command(tmp_path: Path) -> None:
    gone = one_task(print, inputs=(tmp_path / "gone",), made_by="earlier")
    told = run_stage(tmp_path, gone, "--only", "t", "--force")
    assert "run ./run.sh --stage earlier --stop_stage this --config conf/mini.yaml" in told
    assert f"--expdir {tmp_path / 'exp'} --tag t first" in told and "--recipe" not in told
    told = run_stage(tmp_path, lambda ctx: [speakers(ctx)])
    assert "run ./run.sh --stage data --stop_stage this --config" in told and "--tag t first" in told


def test_any_remedy_that_names_the_recipe_has_the_options_once(tmp_path: Path) -> None:
    def damaged(config: Any) -> None:
        raise PseError("is cut off", "x", "run ./run.sh --stage a --stop_stage a --force")

    told = run_stage(tmp_path, one_task(damaged))
    assert told.count("--config") == 1 and told.endswith("--tag t --stage a --stop_stage a --force")
    jobs = [one_task(print, own_process=True, name=n) for n in "ab"]
    told = run_stage(tmp_path, lambda ctx: [t for make in jobs for t in make(ctx)], "--nj", "2")
    assert "repeat it with: ./run.sh --stage this" in told and told.count("--config") == 1


def test_a_directory_in_use_names_the_process_and_a_place_beside_it(tmp_path: Path) -> None:
    with sole_writer(tmp_path / "dump" / "mini"):
        told = run_stage(tmp_path, one_task(print, work=tmp_path / "dump" / "mini"))
    assert f"(kill {os.getpid()}), or choose another --dumpdir" in told


def test_data_is_not_changed_under_a_run_that_reads_it(tmp_path: Path) -> None:
    dump = tmp_path / "dump" / "mini"
    dump.mkdir(parents=True)
    told: list[str] = []

    def train_too(config: Any) -> None:
        raise PseError("is done as well", "u")

    def train(config: Any) -> None:
        for work, run in ((dump, print), (tmp_path / "exp" / "u", train_too)):
            told.append(run_stage(tmp_path, one_task(run, work=work), "--tag", "u"))
        raise PseError("is done", "t")

    assert "is done" in run_stage(tmp_path, one_task(train))
    assert "another run reads them now" in told[0] and "or choose another --dumpdir" in told[0]
    # Another experiment may read the same.
    assert "is done as well" in told[1]


def test_a_mistyped_option_is_one_line(tmp_path: Path) -> None:
    assert "--nonsense" in run_stage(tmp_path, one_task(print), "--nonsense", "3")
    assert "--nj" in run_stage(tmp_path, one_task(print), "--nj", "many")
