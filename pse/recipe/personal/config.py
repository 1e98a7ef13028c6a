"""Every config key of the personalised enhancement recipe, with its type and default."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pse.training.config import TrainingConfig


@dataclass(frozen=True)
class MiniConfig:
    """The embedded corpus: how much of it to synthesise, and which one."""

    seed: int = 0
    num_speakers: int = 40
    speaker_s: float = 120.0
    target_speaker_s: float = 300.0
    noise_share: float = 1.0


@dataclass(frozen=True)
class CorpusConfig:
    """Where the audio comes from.

    name: mini is synthesised, full is LibriSpeech + FSD50K + MUSAN. A directory that is not given
    is downloaded into downloads_dir. noise_dir is one's own noise in place of FSD50K and MUSAN,
    split by recording; noise_manifest, a TSV with at least a path column, may fix that split.
    """

    name: Literal["mini", "full", "own"] = "mini"
    librispeech_dir: Path | None = None
    fsd50k_dir: Path | None = None
    musan_dir: Path | None = None
    noise_dir: Path | None = None
    noise_manifest: Path | None = None
    downloads_dir: Path = Path("downloads")
    mini: MiniConfig = field(default_factory=MiniConfig)


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


@dataclass(frozen=True)
class PredictorConfig:
    """The SNR predictor (2104.02018): frame SNR in dB of speech with the user's noise."""

    model: dict[str, Any] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    snr_db: tuple[float, float] = (-10.0, 10.0)
    clamp_db: float | None = 30.0
    num_valid: int = 100


@dataclass(frozen=True)
class MethodConfig:
    """One way of pretraining: an objective, and whose speech it is trained on.

    speech: all (the generalist's training speakers, one model) or target (one model a speaker).
    """

    objective: dict[str, Any]
    speech: Literal["all", "target"] = "target"


@dataclass(frozen=True)
class PretrainConfig:
    """Stage pretrain: the model, the methods by name, and their training."""

    model: dict[str, Any]
    methods: dict[str, MethodConfig]
    training: TrainingConfig = field(default_factory=TrainingConfig)
    all_training: TrainingConfig | None = None


@dataclass(frozen=True)
class FinetuneTraining(TrainingConfig):
    """Training with a little clean speech: a smaller step and less patience, as published."""

    lr: float = 1e-4
    min_examples: int = 0
    patience_examples: int = 10_000


@dataclass(frozen=True)
class FinetuneConfig:
    """Stage finetune: seconds of the speaker's clean speech, and the methods to start from."""

    clean_s: list[float] = field(default_factory=list)
    start: list[str] = field(default_factory=list)
    objective: dict[str, Any] = field(default_factory=lambda: {"name": "supervised"})
    training: FinetuneTraining = field(default_factory=FinetuneTraining)


@dataclass(frozen=True)
class ScoreConfig:
    """Stage score."""

    metrics: list[Literal["si_sdr", "sdr", "pesq", "estoi"]] = field(
        default_factory=lambda: ["si_sdr", "sdr", "pesq", "estoi"]
    )

    def __post_init__(self) -> None:
        if "si_sdr" not in self.metrics:
            raise ValueError("metrics needs si_sdr: the systems are put in order by it")


@dataclass(frozen=True)
class ClaimConfig:
    """A statement of a paper as a comparison: condition `higher` gains more SI-SDR than `lower`.

    A condition is a method, or a method with seconds of clean speech, e.g. pseudo_se.5s.
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


@dataclass(frozen=True)
class PersonalConfig:
    """The whole recipe. seed: of first weights and of the mixtures drawn for training."""

    pretrain: PretrainConfig
    snr_predictor: PredictorConfig = field(default_factory=PredictorConfig)
    seed: int = 0
    sample_rate: int = 16000
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    data: DataConfig = field(default_factory=DataConfig)
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
