"""Every config key of the personalised enhancement recipe, with its type and default."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pse.recipe.keys import (
    EXPERIMENT,
    MAX_SEED,
    SAMPLE_RATES_HZ,
    MiniConfig,
    ScoreConfig,
    check_speeds,
    method_names,
    one_line,
    positive,
    range_db,
    unique,
    within,
)
from pse.training.config import TrainingConfig


@dataclass(frozen=True)
class CorpusConfig:
    """Where the audio comes from.

    name: mini is synthesised, full is LibriSpeech + FSD50K + MUSAN. A directory that is not given
    is downloaded into downloads_dir. noise_dir is one's own noise in place of FSD50K and MUSAN,
    split by recording; noise_manifest, a TSV with at least a path column, may fix that split.
    voice_dir is one's own recordings of the target speakers, one folder a speaker, in place of the
    published ones.
    """

    name: Literal["mini", "full", "own"] = "mini"
    librispeech_dir: Path | None = None
    fsd50k_dir: Path | None = None
    musan_dir: Path | None = None
    noise_dir: Path | None = None
    noise_manifest: Path | None = None
    voice_dir: Path | None = None
    downloads_dir: Path = Path("downloads")
    mini: MiniConfig = field(default_factory=MiniConfig)

    def __post_init__(self) -> None:
        one_line(self)


@dataclass(frozen=True)
class DataConfig:
    """Which recordings serve what.

    speakers: target speakers; null takes all of the published twenty that are there. The split of
    a target speaker is cut by cumulated duration. user_noise: the FSD50K split that plays the
    user's own surroundings; eval keeps it apart from what the SNR predictor has heard. seed: of
    the split of one's own noises.
    """

    seed: int = 0
    speakers: list[str] | None = None
    min_duration_s: float = 4.0
    min_noise_duration_s: float = 4.0
    test_s: float = 30.0
    val_s: float = 30.0
    train_s: float = 60.0
    preval_s: float = 30.0
    num_valid_noises: int = 60
    user_noise: Literal["eval", "train"] = "eval"

    def __post_init__(self) -> None:
        within(self, 0, MAX_SEED, "seed")
        positive(self, "min_duration_s", "min_noise_duration_s", "test_s", "val_s", "train_s", "preval_s")
        within(self, 1, math.inf, "num_valid_noises")
        if self.speakers is not None:
            if not self.speakers:
                raise ValueError("speakers is empty; null takes all that are there")
            unique("speakers", self.speakers)


@dataclass(frozen=True)
class MixtureConfig:
    """How signals are mixed: lengths, ranges of signal-to-noise ratios, and the fixed sets.

    seed: of the fixed sets. It is not that of the trainings, so that experiments with several seeds
    are validated and tested on the same mixtures.
    """

    seed: int = 0
    duration_s: float = 4.0
    premixture_snr_db: tuple[float, float] = (0.0, 15.0)
    snr_db: tuple[float, float] = (-5.0, 5.0)
    num_test: int = 100
    num_valid: int = 64

    def __post_init__(self) -> None:
        within(self, 0, MAX_SEED, "seed")
        within(self, 0.1, math.inf, "duration_s")
        range_db(self, "premixture_snr_db", "snr_db")
        within(self, 1, math.inf, "num_test", "num_valid")


@dataclass(frozen=True)
class PredictorConfig:
    """The SNR predictor (2104.02018): frame SNR in dB of speech with the user's noise.

    trained_in: the tag of another experiment whose predictor of the same model is taken; null trains one.
    """

    model: dict[str, Any] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    snr_db: tuple[float, float] = (-10.0, 10.0)
    clamp_db: float | None = 15.0
    num_valid: int = 100
    trained_in: str | None = None

    def __post_init__(self) -> None:
        range_db(self, "snr_db")
        within(self, 1, math.inf, "num_valid")
        if self.trained_in is not None and not EXPERIMENT.fullmatch(self.trained_in):
            raise ValueError(f"trained_in must be the tag of an experiment, got {self.trained_in!r}")
        if self.clamp_db is not None:
            positive(self, "clamp_db")


@dataclass(frozen=True)
class MethodConfig:
    """One way of pretraining: an objective, and whose speech it is trained on.

    objective: null takes the model as it is (a peer's, with weights of its own).
    speech: all (the generalist's training speakers, one model) or target (one model a speaker).
    model: in place of pretrain.model. training: keys that differ from those of pretrain.
    minutes: how much of the speaker's noisy speech is used; null: all of it.
    premixture_snr_db: how noisy the speaker's recordings are, in place of mixture.premixture_snr_db.
    speeds: the generalist's training speech is heard at these, too; at each a speaker is another one.
    """

    objective: dict[str, Any] | None
    speech: Literal["all", "target"] = "target"
    model: dict[str, Any] | None = None
    training: dict[str, Any] = field(default_factory=dict)
    minutes: float | None = None
    premixture_snr_db: tuple[float, float] | None = None
    speeds: list[float] = field(default_factory=lambda: [1.0])

    def __post_init__(self) -> None:
        check_speeds(self.speeds)
        if self.speeds != [1.0] and self.speech == "target":
            raise ValueError("a target speaker has one voice: leave out speeds, or set speech: all")
        if self.minutes is not None:
            positive(self, "minutes")
        if self.premixture_snr_db is not None:
            range_db(self, "premixture_snr_db")


@dataclass(frozen=True)
class PretrainConfig:
    """Stage pretrain: the model, the methods by name, and their training."""

    model: dict[str, Any]
    methods: dict[str, MethodConfig]
    training: TrainingConfig = field(default_factory=TrainingConfig)
    all_training: TrainingConfig | None = None

    def __post_init__(self) -> None:
        method_names(self.methods)


@dataclass(frozen=True)
class FinetuneTraining(TrainingConfig):
    """Training with a little clean speech: a smaller step and less patience, as published."""

    lr: float = 1e-4
    min_examples: int = 0
    patience_examples: int = 10_000


@dataclass(frozen=True)
class FinetuneConfig:
    """Stage finetune: seconds of the speaker's clean speech, and the methods to start from.

    start: methods of pretrain, and random for first weights that nothing trained.
    """

    clean_s: list[float] = field(default_factory=list)
    start: list[str] = field(default_factory=list)
    objective: dict[str, Any] = field(default_factory=lambda: {"name": "supervised"})
    training: FinetuneTraining = field(default_factory=FinetuneTraining)

    def __post_init__(self) -> None:
        for seconds in self.clean_s:
            if not (seconds > 0 and math.isfinite(seconds)):
                raise ValueError(f"clean_s must hold seconds above 0, got {seconds}")
        # As they stand in the names of systems.
        unique("clean_s", [f"{seconds:g}" for seconds in self.clean_s])
        unique("start", self.start)


@dataclass(frozen=True)
class ClaimConfig:
    """A statement of a paper as a comparison: condition `higher` gains more SI-SDR than `lower`.

    A condition is a method, or a method with seconds of clean speech, e.g. pseudo_se.5s. Gains can be
    compared too: `a minus b`.
    """

    claim: str
    source: str
    higher: str
    lower: str


@dataclass(frozen=True)
class ReportConfig:
    """Stage report: examples on the listening page, and the papers' claims to set our evidence beside."""

    num_examples: int = 4
    claims: list[ClaimConfig] = field(default_factory=list)

    def __post_init__(self) -> None:
        within(self, 0, math.inf, "num_examples")


@dataclass(frozen=True)
class PersonalConfig:
    """The whole recipe. seed: of first weights and of the mixtures drawn for training.

    num_seeds: how often every training is done, with seed, seed + 1, ...; results are means over them.
    sweep: lists of values by key of a method, e.g. model or objective.loss; every method is run with
    every combination.
    """

    pretrain: PretrainConfig
    snr_predictor: PredictorConfig = field(default_factory=PredictorConfig)
    seed: int = 0
    num_seeds: int = 1
    sample_rate: int = 16000
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    data: DataConfig = field(default_factory=DataConfig)
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    sweep: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        within(self, 1, 1000, "num_seeds")
        within(self, 0, MAX_SEED - self.num_seeds, "seed")
        within(self, *SAMPLE_RATES_HZ, "sample_rate")
