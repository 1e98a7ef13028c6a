"""Where the recipe's files stand, and which sets there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pse.errors import StageMissingError
from pse.recipe.options import Context
from pse.recipe.personal.config import MethodConfig

# Speech: the generalist's speakers, and the target speakers cut by the paper's per-speaker split.
TARGET_PARTS = ("test", "val", "train", "preval", "pretrain")
SPEECH_SETS = ("train", "valid", *(f"target_{p}" for p in TARGET_PARTS))
# Noise: premix_* surrounds the user (FSD50K), noise_* is injected for training and testing (MUSAN).
NOISE_SETS = ("premix_train", "premix_valid", "premix_eval", "noise_train", "noise_valid", "noise_test")

MAKE_DATA = "run ./run.sh --stage data --stop_stage data first"

# What decides a mixture that is drawn for training.
MIXING = ("mixture.duration_s", "mixture.premixture_snr_db", "mixture.snr_db")


@dataclass(frozen=True)
class System:
    """A trained model: a method, for one speaker or all, before or after few-shot fine-tuning.

    seed: None is the config's own; others have theirs, and their names end with it.
    """

    method: str
    speaker: str | None
    clean_s: float | None = None
    seed: int | None = None

    @property
    def name(self) -> str:
        """Name of the model's directory, e.g. 19.pseudo_se.5s."""
        return ".".join(p for p in (self.speaker, self.run) if p)

    @property
    def condition(self) -> str:
        """What tells the row of a table: method and seconds of clean speech."""
        return self.method if self.clean_s is None else f"{self.method}.{self.clean_s:g}s"

    @property
    def run(self) -> str:
        """The condition and its seed: what is enhanced and scored as one."""
        return self.condition if self.seed is None else f"{self.condition}.seed{self.seed}"

    def directory(self, ctx: Context) -> Path:
        """The experiment directory of its training."""
        return ctx.exp / ("pretrain" if self.clean_s is None else "finetune") / self.name


def speakers(ctx: Context) -> list[str]:
    """The target speakers that stage 1 found. Raises StageMissingError when their list is not there or empty."""
    path = ctx.data / "target_test" / "spk2utt"
    try:
        found = [line.split(" ", 1)[0] for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise StageMissingError("no target speakers", path, MAKE_DATA) from error
    if not found:
        raise StageMissingError("no target speakers", path, MAKE_DATA)
    return found


def method_of(ctx: Context, system: System) -> MethodConfig | None:
    """The config of a system's method; None for random first weights."""
    return ctx.config.pretrain.methods.get(system.method)


def model_of(ctx: Context, system: System) -> tuple[dict[str, Any], str]:
    """The mapping of a system's model, and the config key it stands under."""
    method = method_of(ctx, system)
    if method is None or method.model is None:
        return ctx.config.pretrain.model, "pretrain.model"
    return method.model, f"pretrain.methods.{system.method}.model"


def model_keys(ctx: Context) -> list[str]:
    """The config keys under which the models of all systems stand."""
    return sorted({model_of(ctx, s)[1] for s in (*pretrained(ctx), *finetuned(ctx))})


def is_trained(ctx: Context, system: System) -> bool:
    """Whether this recipe trains the system: a peer comes with weights of its own."""
    method = method_of(ctx, system)
    return method is None or method.objective is not None


def is_bound(ctx: Context, condition: str) -> bool:
    """Whether a condition is an upper bound that no user can have: much clean speech, or true SNRs."""
    method = ctx.config.pretrain.methods.get(condition.split(".")[0])
    if method is None or method.objective is None:
        return False
    clean = method.objective.get("name") == "supervised" and method.speech == "target"
    return clean or method.objective.get("purification") == "oracle"


def seeds(ctx: Context) -> list[int | None]:
    """The seeds of every training, the config's own first."""
    return [None, *(ctx.config.seed + k for k in range(1, ctx.config.num_seeds))]


def seed_of(ctx: Context, system: System) -> int:
    """The seed of a system's training."""
    return ctx.config.seed if system.seed is None else system.seed


def pretrained(ctx: Context) -> Iterator[System]:
    """The systems that there are before fine-tuning."""
    for name, method in ctx.config.pretrain.methods.items():
        if method.objective is None:
            yield System(name, None)
        else:
            who = [None] if method.speech == "all" else speakers(ctx)
            yield from (System(name, s, seed=seed) for seed in seeds(ctx) for s in who)


def finetuned(ctx: Context) -> Iterator[System]:
    """The systems that stage finetune trains: every start, speaker, number of seconds and seed."""
    for seconds in ctx.config.finetune.clean_s:
        for start in ctx.config.finetune.start:
            yield from (System(start, s, seconds, seed) for seed in seeds(ctx) for s in speakers(ctx))


def start_of(ctx: Context, system: System) -> System | None:
    """The pretrained system that a fine-tuned one starts from; None for random first weights."""
    method = method_of(ctx, system)
    if method is None:
        return None
    return System(system.method, None if method.speech == "all" else system.speaker, seed=system.seed)


def runs(ctx: Context) -> dict[str, dict[str, System]]:
    """Run (a condition with one seed) -> speaker -> the system that enhances this speaker's test mixtures."""
    table: dict[str, dict[str, System]] = {}
    for system in [*pretrained(ctx), *finetuned(ctx)]:
        for speaker in [system.speaker] if system.speaker else speakers(ctx):
            table.setdefault(system.run, {})[speaker] = system
    return table


def conditions(ctx: Context) -> dict[str, dict[str, dict[str, System]]]:
    """Condition -> its runs, as `runs` has them."""
    table: dict[str, dict[str, dict[str, System]]] = {}
    for run, systems in runs(ctx).items():
        table.setdefault(next(iter(systems.values())).condition, {})[run] = systems
    return table


def finished(ctx: Context, stage: str, task: str) -> tuple[Path, ...]:
    """The record of a finished training: its best.json is there from the first checkpoint on."""
    return (ctx.exp / ".done" / stage / f"{task}.json",)


def trained(ctx: Context, system: System) -> tuple[Path, ...]:
    """What stands for the weights of a system: which checkpoint is best, and that training has ended."""
    if not is_trained(ctx, system):
        return ()
    stage = "pretrain" if system.clean_s is None else "finetune"
    return (system.directory(ctx) / "best.json", *finished(ctx, stage, system.name))


def cache_files(ctx: Context, *sets: str) -> tuple[Path, ...]:
    """The files that stand for the content of these sets' audio caches."""
    return tuple(ctx.dump / s / "cache.json" for s in sets)
