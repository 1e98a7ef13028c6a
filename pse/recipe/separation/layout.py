"""Where the recipe's files stand, and which systems, conditions and sets there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pse.inference.package import packaged_config
from pse.recipe.fitting import own_training
from pse.recipe.options import Context
from pse.recipe.separation.config import MethodConfig
from pse.training.config import TrainingConfig

# What decides a mixture that is drawn for training.
MIXING = ("mixture.spread_db", "mixture.seed", "mixture.num_valid", "mixture.valid_duration_s")
VALID = "valid"
# Fixed mixtures to train on, with the number of speakers behind it.
TRAIN = "train_"
# Speech and noise beside the speakers of the corpus, for methods that ask for it. Noises: set -> split.
DIGITS = "digits"
NOISE_SETS = {"noise_train": "train", "noise_valid": "valid", "noise_test": "test"}

# Objectives of models whose vectors have to be clustered.
OF_EMBEDDINGS = ("deep_clustering", "contrastive", "slots", "masked_reconstruction", "predictive_coding")


@dataclass(frozen=True)
class System:
    """A trained model or a baseline: a method with one seed, whose name ends with it unless it is the config's own."""

    method: str
    seed: int | None = None

    @property
    def name(self) -> str:
        """Name of the model's directory."""
        return self.method if self.seed is None else f"{self.method}.seed{self.seed}"


@dataclass(frozen=True)
class Condition:
    """A system and, where its model gives embeddings, how they are clustered: the row of a table."""

    system: System
    clustering: str | None = None

    @property
    def row(self) -> str:
        """Name of the row, e.g. dc.global; the same for all seeds."""
        return ".".join(p for p in (self.system.method, self.clustering) if p)

    @property
    def name(self) -> str:
        """Name of its directories, e.g. dc.seed1.global."""
        return ".".join(p for p in (self.system.name, self.clustering) if p)


def methods(ctx: Context) -> list[MethodConfig]:
    """The methods of both training stages."""
    return [m for stage in (ctx.config.pretrain, ctx.config.finetune) for m in stage.methods.values()]


def digits_heard(ctx: Context) -> bool:
    """Whether any method is trained on spoken digits too."""
    return any(m.digits for m in methods(ctx))


def noise_heard(ctx: Context) -> bool:
    """Whether any mixture has noise."""
    conditions = [x.conditions for x in (*methods(ctx), *ctx.config.mixture.tests.values())]
    return any(c.noise_snr_db is not None for c in conditions)


def train_sets(ctx: Context) -> list[str]:
    """The fixed sets of mixtures that methods are trained on."""
    counts = {count for m in methods(ctx) if m.mixtures == "fixed" for count in m.num_speakers}
    return [f"{TRAIN}{count}" for count in sorted(counts)]


def speech_sets(ctx: Context) -> tuple[str, ...]:
    """The sets of speech that anything is made of: closed and open speakers where a test asks for them."""
    tested = {t.speech for t in ctx.config.mixture.tests.values()} | {valid_speech(ctx)}
    # How often a number of speakers is told right is always said of open ones.
    if ctx.config.count.estimators or any(estimates(ctx, c) for c in conditions(ctx)):
        tested.add("open")
    if any(m.speakers for m in methods(ctx)):
        tested.add("closed")
    return ("train", *(name for name in ("closed", "open", VALID) if name in tested))


def valid_speech(ctx: Context) -> str:
    """Whose speech training is validated on: other speakers', or as in the published lists the closed ones'."""
    return VALID if ctx.config.corpus.name in ("librispeech", "own") else "closed"


def stage_of(ctx: Context, method: str) -> str:
    """The stage that trains a method."""
    return "pretrain" if method in ctx.config.pretrain.methods else "finetune"


def method_of(ctx: Context, system: System) -> MethodConfig:
    """The config of a system's method."""
    return getattr(ctx.config, stage_of(ctx, system.method)).methods[system.method]


def model_of(ctx: Context, system: System) -> tuple[dict[str, Any], str]:
    """The mapping of a system's model and the key it stands under: its own, its start's, or that of pretrain."""
    method, stage = method_of(ctx, system), stage_of(ctx, system.method)
    if method.package is not None:
        return packaged_config(method.package), f"{stage}.methods.{system.method}.package"
    if method.model is not None:
        return method.model, f"{stage}.methods.{system.method}.model"
    if method.start is not None:
        return model_of(ctx, System(method.start))
    return ctx.config.pretrain.model, "pretrain.model"


def training_of(ctx: Context, system: System) -> tuple[TrainingConfig, list[str]]:
    """How a system is trained, and the keys of its stage's section that decide it."""
    own, stage = method_of(ctx, system).training, stage_of(ctx, system.method)
    where = f"{stage}.methods.{system.method}.training"
    return own_training(getattr(ctx.config, stage).training, own, f"{stage}.training", where)


def segment_samples(ctx: Context, system: System) -> int:
    """Length of the examples that a system is trained on."""
    method, stage = method_of(ctx, system), stage_of(ctx, system.method)
    seconds = method.segment_s or getattr(ctx.config, stage).segment_s
    return round(seconds * ctx.config.sample_rate)


def seeds(ctx: Context) -> list[int | None]:
    """The seeds of every training, the config's own first."""
    return [None, *(ctx.config.seed + k for k in range(1, ctx.config.num_seeds))]


def seed_of(ctx: Context, system: System) -> int:
    """The seed of a system's training."""
    return ctx.config.seed if system.seed is None else system.seed


def trainings(ctx: Context, stage: str) -> Iterator[System]:
    """The systems that a stage trains."""
    for name, method in getattr(ctx.config, stage).methods.items():
        if method.objective is not None:
            yield from (System(name, seed) for seed in seeds(ctx))


def systems(ctx: Context) -> Iterator[System]:
    """All systems, those that are not trained here first."""
    for stage in ("pretrain", "finetune"):
        yield from (System(n) for n, m in getattr(ctx.config, stage).methods.items() if m.objective is None)
    for stage in ("pretrain", "finetune"):
        yield from trainings(ctx, stage)


def directory(ctx: Context, system: System) -> Path:
    """The experiment directory of a system's training, or its package."""
    method = method_of(ctx, system)
    if method.package is not None:
        return method.package
    return ctx.exp / stage_of(ctx, system.method) / system.name


def trained(ctx: Context, system: System) -> tuple[Path, ...]:
    """What stands for the weights of a system: which checkpoint is best, and that training has ended."""
    method = method_of(ctx, system)
    if method.package is not None:
        return (method.package / "SHA256SUMS",)
    if method.objective is None:
        return ()
    record = ctx.exp / ".done" / stage_of(ctx, system.method) / f"{system.name}.json"
    return (directory(ctx, system) / "best.json", record)


def gives_embeddings(ctx: Context, system: System) -> bool:
    """Whether what a system is trained to give has to be clustered."""
    method = method_of(ctx, system)
    return method.package is not None or (method.objective or {}).get("name") in OF_EMBEDDINGS


def is_clustered(ctx: Context, system: System) -> bool:
    """Whether a system can separate by clusters of embeddings: its own, or those that it refines."""
    objective = method_of(ctx, system).objective
    return gives_embeddings(ctx, system) or (objective is not None and objective.get("name") == "refinement")


def conditions(ctx: Context) -> list[Condition]:
    """Every system in every way that its output becomes separated speech.

    Masks need no clusters; what they lose by changing order is seen with that of the oracle by segments.
    """
    made = []
    for system in systems(ctx):
        method = method_of(ctx, system)
        known = ctx.config.separate.clustering
        named = [n for n in known if method.clustering is None or n in method.clustering]
        ways: list[str | None] = list(named)
        if method.baseline is not None:
            ways = [None]
        elif not is_clustered(ctx, system):
            ways = [None, *(n for n in named if known[n].mode == "oracle")]
        elif not gives_embeddings(ctx, system):
            ways = [None, *(n for n in named if known[n].mode in ("global", "communities"))]
        elif (method.objective or {}).get("mask_weight"):
            # A Chimera++ net has masks too.
            ways = [None, *ways]
        made += [Condition(system, way) for way in ways]
    return made


def scored(ctx: Context) -> list[str]:
    """The test sets that are separated into several speakers; the others only tell whether one is taken for more."""
    return [name for name, wanted in ctx.config.mixture.tests.items() if wanted.num_speakers > 1]


def estimates(ctx: Context, condition: Condition) -> bool:
    """Whether a condition is not told how many speakers there are."""
    way = condition.clustering
    return way is not None and ctx.config.separate.clustering[way].count == "estimated"


def applies(ctx: Context, condition: Condition, test: str) -> bool:
    """Whether a condition can separate a test set.

    A net that gives masks has as many as it was trained on speakers, and a dictionary of a speaker needs
    training speech of that speaker.
    """
    method, wanted = method_of(ctx, condition.system), ctx.config.mixture.tests[test]
    if method.tests is not None and test not in method.tests:
        return False
    if wanted.num_speakers == 1 and not estimates(ctx, condition):
        return False
    if method.baseline is not None:
        return method.baseline.get("name") != "nmf" or wanted.speech == "closed"
    clustered = condition.clustering is not None and is_clustered(ctx, condition.system)
    return clustered or method.num_speakers == [wanted.num_speakers]


def rows(ctx: Context, test: str) -> dict[str, list[Condition]]:
    """Row of a table -> its conditions, one for each seed."""
    table: dict[str, list[Condition]] = {}
    for condition in conditions(ctx):
        if applies(ctx, condition, test):
            table.setdefault(condition.row, []).append(condition)
    return table


def cache_files(ctx: Context, *sets: str) -> tuple[Path, ...]:
    """The files that stand for the content of these sets' audio, levels and speakers' sexes."""
    files = tuple(p for s in sets for p in (ctx.dump / s / "cache.json", ctx.dump / "levels" / s / "utt2active_level"))
    return files + tuple(p for s in sets if (p := ctx.data / s / "utt2category").is_file())


def voices(ctx: Context, name: str) -> Any:
    """The speech of a set, with its levels and the speakers' sexes."""
    from pse.data.cache import AudioCache
    from pse.data.speech import Voices
    from pse.io.tables import read_table

    cache = AudioCache(ctx.dump / name)
    levels = {u: float(v) for u, v in read_table(ctx.dump / "levels" / name / "utt2active_level").items()}
    category = ctx.dump / name / "utt2category"
    sexes = read_table(category) if category.is_file() else {}
    known = {cache.speaker[u]: s for u, s in sexes.items() if u in cache.speaker and s in ("F", "M")}
    return Voices(cache, levels, known)


def noises(ctx: Context, conditions: Any, name: str) -> Any:
    """The noises of a set where such conditions ask for noise, else None."""
    from pse.data.cache import AudioCache

    return AudioCache(ctx.dump / name) if conditions.noise_snr_db is not None else None


def noise_files(ctx: Context, conditions: Any, name: str) -> tuple[Path, ...]:
    """The files that stand for the content of those."""
    return (ctx.dump / name / "cache.json",) if conditions.noise_snr_db is not None else ()
