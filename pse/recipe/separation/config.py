"""Every config key of the separation recipes, with its type and default."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pse.clustering.options import Clustering
from pse.data.conditions import Conditions
from pse.data.pairing import Pairing
from pse.recipe.keys import (
    MAX_SEED,
    METHOD,
    SAMPLE_RATES_HZ,
    MiniConfig,
    ScoreConfig,
    check_speeds,
    method_names,
    one_line,
    positive,
    unique,
    within,
)
from pse.training.config import TrainingConfig

# The lists and levels of WSJ0-mix have two to five speakers.
MOST_SPEAKERS = 5
Quantity = Literal[
    "eer", "si_sdr_i", "count_accuracy", "nmi", "modularity", "conductance", "edge_share", "isolated_share"
]  # fmt: skip


def _speakers(config: Any, *counts: int) -> None:
    if not counts or not all(1 <= c <= MOST_SPEAKERS for c in counts):
        raise ValueError(f"num_speakers must be from 1 to {MOST_SPEAKERS}, got {config.num_speakers}")


@dataclass(frozen=True)
class CorpusConfig:
    """Where the speech comes from.

    name: mini is synthesised and laid out as WSJ0 is; wsj0 is LDC93S6A or LDC93S6B in wsj0_dir, mixed by
    the published lists, which are in lists_dir or downloaded into downloads_dir; librispeech is any part
    of LibriSpeech in librispeech_dir; own is voice_dir, one folder of recordings a speaker. Beside it, for methods
    that ask for them: spoken digits in audiomnist_dir, and noises of any kind in noise_dir (with mini both are
    synthesised too).
    """

    name: Literal["mini", "wsj0", "librispeech", "own"] = "mini"
    wsj0_dir: Path | None = None
    lists_dir: Path | None = None
    librispeech_dir: Path | None = None
    voice_dir: Path | None = None
    audiomnist_dir: Path | None = None
    noise_dir: Path | None = None
    downloads_dir: Path = Path("downloads")
    mini: MiniConfig = field(default_factory=MiniConfig)

    def __post_init__(self) -> None:
        one_line(self)


@dataclass(frozen=True)
class DataConfig:
    """Who is heard in training, and whose speech is kept for tests, where no list says so.

    split: a TSV with the columns id and split (train, dev or valid, test or open) that tells it speaker by
    speaker; null draws so many valid and open speakers with `seed`, as many women as men where the sexes
    are known. closed_share: of the utterances of a training speaker with several, kept for closed tests.
    """

    seed: int = 0
    split: Path | None = None
    valid_speakers: int = 10
    open_speakers: int = 18
    closed_share: float = 0.2
    min_duration_s: float = 2.0

    def __post_init__(self) -> None:
        within(self, 0, MAX_SEED, "seed")
        within(self, 2, math.inf, "valid_speakers", "open_speakers")
        within(self, 0, 0.9, "closed_share")
        positive(self, "min_duration_s")


@dataclass(frozen=True)
class SetConfig:
    """A fixed set of mixtures of closed (heard in training, other utterances) or open speakers.

    speakers: null takes all of them. conditions: overlap, noise and room; none as they come. One speaker is no
    mixture: such a set tells whether one is taken for several.
    """

    speech: Literal["closed", "open"]
    num_speakers: int = 2
    pairing: Pairing = "whole"
    speakers: list[str] | None = None
    num_mixtures: int = 100
    conditions: Conditions = field(default_factory=Conditions)

    def __post_init__(self) -> None:
        _speakers(self, self.num_speakers)
        within(self, 1, math.inf, "num_mixtures")


@dataclass(frozen=True)
class MixtureConfig:
    """How speakers are mixed. seed: of the fixed sets, which all seeds of a training share.

    spread_db: the louder of two speakers is up to this much louder. max_duration_s: of a mixture of a fixed
    set, which is no longer than its shortest utterance. num_valid, num_train: mixtures of validation, and of each
    number of speakers for methods with `mixtures: fixed` (on wsj0 those of the lists). tests: the sets that
    are separated and scored, by name; those of the published lists are closed_2 to closed_5 and open_2 to open_5.
    """

    seed: int = 0
    spread_db: float = 5.0
    max_duration_s: float = 10.0
    valid_duration_s: float = 4.0
    num_valid: int = 64
    num_train: int = 20_000
    tests: dict[str, SetConfig] = field(
        default_factory=lambda: {"closed_2": SetConfig("closed"), "open_2": SetConfig("open")}
    )

    def __post_init__(self) -> None:
        within(self, 0, MAX_SEED, "seed")
        within(self, 0, 100, "spread_db")
        positive(self, "max_duration_s", "valid_duration_s")
        within(self, 1, math.inf, "num_valid", "num_train")
        for name in self.tests:
            if not METHOD.fullmatch(name) or name == "valid" or name.startswith("train"):
                raise ValueError(f"{name!r} cannot name a test set; use letters, digits, _ and -, not valid or train")


@dataclass(frozen=True)
class MethodConfig:
    """One way of separating: a model that is trained here, a baseline that is no model, or a model from elsewhere.

    objective: how the model is trained. baseline: e.g. {name: oracle, mask: ibm}; see pse/baselines. package: a
    directory that stage pack made of a model of embeddings; it can be a start, too. One of the three is given.
    model: in place of pretrain.model. training: keys that differ from those of the section.
    num_speakers, pairing, speakers, conditions: of the mixtures trained on; speakers null takes all of them.
    digits: spoken digits of other people are trained on too, where single speakers are. speeds: the training speech
    is heard at these, too; at each a speaker is another one.
    mixtures: drawn without end, or fixed ones, of which each epoch has another segment.
    segment_s: null takes that of the section.
    start: the method of either stage whose best weights are the first ones (stage finetune).
    tests, clustering: the test sets that it is tried on, and the ways of clustering; null takes all.
    """

    objective: dict[str, Any] | None = None
    baseline: dict[str, Any] | None = None
    package: Path | None = None
    model: dict[str, Any] | None = None
    training: dict[str, Any] = field(default_factory=dict)
    num_speakers: list[int] = field(default_factory=lambda: [2])
    pairing: Pairing = "whole"
    speakers: list[str] | None = None
    conditions: Conditions = field(default_factory=Conditions)
    digits: bool = False
    speeds: list[float] = field(default_factory=lambda: [1.0])
    mixtures: Literal["drawn", "fixed"] = "drawn"
    segment_s: float | None = None
    start: str | None = None
    tests: list[str] | None = None
    clustering: list[str] | None = None

    def __post_init__(self) -> None:
        _speakers(self, *self.num_speakers)
        if self.segment_s is not None:
            positive(self, "segment_s")
        if self.mixtures == "fixed" and (self.pairing != "whole" or self.speakers is not None):
            raise ValueError("fixed mixtures are of any speakers: leave out pairing and speakers, or mixtures: fixed")
        if self.mixtures == "fixed" and self.conditions != Conditions():
            raise ValueError("fixed mixtures are as they are listed: leave out conditions, or mixtures: fixed")
        check_speeds(self.speeds)
        if self.speeds != [1.0] and (self.mixtures == "fixed" or self.speakers is not None):
            raise ValueError("fixed mixtures and named speakers are as recorded: leave out speeds")
        if self.digits and self.num_speakers != [1]:
            raise ValueError("digits are too short to mix: leave them out, or set num_speakers: [1]")
        if sum(x is not None for x in (self.objective, self.baseline, self.package)) != 1:
            raise ValueError("a method has an objective, a baseline or a package, and one of them only")


@dataclass(frozen=True)
class TrainConfig:
    """Stages pretrain and finetune: the methods by name, and what they share.

    segment_s: length of the examples; 0.792 s are 100 frames at 8 kHz. statistics: normalise the log magnitudes by
    their mean and deviation over the first so many training examples; 0 leaves them as they are.
    """

    model: dict[str, Any] = field(default_factory=dict)
    methods: dict[str, MethodConfig] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    segment_s: float = 0.792
    statistics: int = 256

    def __post_init__(self) -> None:
        method_names(self.methods)
        positive(self, "segment_s")
        within(self, 0, math.inf, "statistics")


@dataclass(frozen=True)
class SeparateConfig:
    """Stage enhance: the ways of clustering, each a condition of every embedding model."""

    clustering: dict[str, Clustering] = field(default_factory=lambda: {"global": Clustering()})

    def __post_init__(self) -> None:
        for name in self.clustering:
            if not METHOD.fullmatch(name):
                raise ValueError(f"{name!r} cannot name a way of clustering; use letters, digits, _ and -")


@dataclass(frozen=True)
class CountConfig:
    """How many speakers there are: estimators of pse.clustering.count, tried on so many mixtures of 1 to max_count.

    With them all ways of clustering that estimate the number. spread_db: of the mixtures; null takes that of the
    mixtures of the recipe. tried_db: further ones, on which nothing is chosen. ideal_parts: also of embeddings of which
    so large a part is ideal, which tells whether the embeddings or what counts them falls short.
    """

    estimators: list[Literal["eigenvalues", "eigengap", "silhouette", "bic", "gap"]] = field(default_factory=list)
    max_count: int = 4
    num_mixtures: int = 50
    spread_db: float | None = None
    tried_db: list[float] = field(default_factory=list)
    ideal_parts: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        within(self, 2, MOST_SPEAKERS, "max_count")
        within(self, 1, math.inf, "num_mixtures")
        unique("estimators", self.estimators)
        unique("tried_db", self.tried_db)
        unique("ideal_parts", self.ideal_parts)
        if outside := [p for p in self.ideal_parts if not 0 <= p <= 1]:
            raise ValueError(f"ideal_parts are from 0 to 1, got {outside[0]:g}")


@dataclass(frozen=True)
class ProsodyConfig:
    """How steady pitch, timbre, energy and rate of the corpus' speakers are, see pse.scoring.prosody.

    num_utterances: so many of each speaker, spread over all; 0 leaves the study out.
    """

    num_utterances: int = 0

    def __post_init__(self) -> None:
        within(self, 0, math.inf, "num_utterances")


@dataclass(frozen=True)
class PaperConfig:
    """A number of the paper to set beside ours: improvement in SDR, in dB, of a condition on a set."""

    table: str
    condition: str
    test: str
    sexes: str
    sdr_i_db: float


@dataclass(frozen=True)
class ReportConfig:
    """Stage report: examples on the listening page, the paper's numbers, and quantities to draw by system.

    study: see pse.recipe.separation.study; eer is of training, all others of each test set.
    """

    num_examples: int = 4
    study: list[Quantity] = field(default_factory=list)
    paper: list[PaperConfig] = field(default_factory=list)

    def __post_init__(self) -> None:
        within(self, 0, math.inf, "num_examples")
        unique("study", self.study)


@dataclass(frozen=True)
class SeparationConfig:
    """The whole recipe. seed: of first weights and of the mixtures drawn for training."""

    pretrain: TrainConfig
    seed: int = 0
    num_seeds: int = 1
    sample_rate: int = 8000
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    data: DataConfig = field(default_factory=DataConfig)
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    finetune: TrainConfig = field(default_factory=TrainConfig)
    separate: SeparateConfig = field(default_factory=SeparateConfig)
    count: CountConfig = field(default_factory=CountConfig)
    prosody: ProsodyConfig = field(default_factory=ProsodyConfig)
    score: ScoreConfig = field(default_factory=lambda: ScoreConfig(["si_sdr", "sdr"]))
    report: ReportConfig = field(default_factory=ReportConfig)

    def __post_init__(self) -> None:
        within(self, 1, 1000, "num_seeds")
        within(self, 0, MAX_SEED - self.num_seeds, "seed")
        within(self, *SAMPLE_RATES_HZ, "sample_rate")
        if twice := sorted(set(self.count.estimators) & set(self.separate.clustering)):
            raise ValueError(f"separate.clustering.{twice[0]} has the name of an estimator of count; give it another")
        for name, method in (self.pretrain.methods | self.finetune.methods).items():
            for key, known in (("tests", self.mixture.tests), ("clustering", self.separate.clustering)):
                if unknown := sorted(set(getattr(method, key) or ()) - set(known)):
                    where = {"tests": "mixture.tests", "clustering": "separate.clustering"}[key]
                    raise ValueError(f"method {name} is to be tried on {unknown[0]!r}, which is not in {where}")
