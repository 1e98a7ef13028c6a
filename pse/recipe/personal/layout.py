"""Where the recipe's files stand, and which sets there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pse.errors import StageMissingError
from pse.recipe.options import Context

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
    """A trained model: a method, for one speaker or all, before or after few-shot fine-tuning."""

    method: str
    speaker: str | None
    clean_s: float | None = None

    @property
    def name(self) -> str:
        """Name of the model's directory, e.g. 19.pseudo_se.5s."""
        return ".".join(p for p in (self.speaker, self.condition) if p)

    @property
    def condition(self) -> str:
        """What tells the row of a table: method and seconds of clean speech."""
        return self.method if self.clean_s is None else f"{self.method}.{self.clean_s:g}s"

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


def pretrained(ctx: Context) -> Iterator[System]:
    """The systems that stage pretrain trains."""
    for name, method in ctx.config.pretrain.methods.items():
        if method.speech == "all":
            yield System(name, None)
        else:
            yield from (System(name, s) for s in speakers(ctx))


def finetuned(ctx: Context) -> Iterator[System]:
    """The systems that stage finetune trains: every start, speaker and number of seconds."""
    for seconds in ctx.config.finetune.clean_s:
        for start in ctx.config.finetune.start:
            yield from (System(start, s, seconds) for s in speakers(ctx))


def start_of(ctx: Context, system: System) -> System:
    """The pretrained system that a fine-tuned one starts from."""
    shared = ctx.config.pretrain.methods[system.method].speech == "all"
    return System(system.method, None if shared else system.speaker)


def conditions(ctx: Context) -> dict[str, dict[str, System]]:
    """Condition -> speaker -> the system that enhances this speaker's test mixtures."""
    table: dict[str, dict[str, System]] = {}
    for system in [*pretrained(ctx), *finetuned(ctx)]:
        for speaker in [system.speaker] if system.speaker else speakers(ctx):
            table.setdefault(system.condition, {})[speaker] = system
    return table


def finished(ctx: Context, stage: str, task: str) -> tuple[Path, ...]:
    """The record of a finished training: its best.json is there from the first checkpoint on."""
    return (ctx.exp / ".done" / stage / f"{task}.json",)


def trained(ctx: Context, system: System) -> tuple[Path, ...]:
    """What stands for the weights of a system: which checkpoint is best, and that training has ended."""
    stage = "pretrain" if system.clean_s is None else "finetune"
    return (system.directory(ctx) / "best.json", *finished(ctx, stage, system.name))


def cache_files(ctx: Context, *sets: str) -> tuple[Path, ...]:
    """The files that stand for the content of these sets' audio caches."""
    return tuple(ctx.dump / s / "cache.json" for s in sets)
