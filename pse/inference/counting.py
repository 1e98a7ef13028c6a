"""How speakers are counted, as a package says it: checked before anything is done with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pse.clustering.calibration import Calibration
from pse.clustering.options import Communities
from pse.config import bind
from pse.losses.activity import THRESHOLD_DB

Estimator = Literal["eigenvalues", "eigengap", "silhouette", "bic", "gap", "communities"]
# A package is somebody else's: no useful setting comes near these, and beyond them a machine would be busy for days.
LIMITS = {
    "num_nodes": 200_000, "max_clusters": 1000, "num_nulls": 1000, "hidden_size": 10_000, "num_layers": 100,
    "steps": 100_000,
}  # fmt: skip
MOST_EDGES = 1_000_000_000


@dataclass(frozen=True)
class Counting:
    """What tells the number of speakers: an estimator of pse.clustering.count, or communities of the nodes.

    calibration: reads the estimator's curve; None: its own rule does. options, soft, ratio: of communities, which give
    the masks too and have a calibration among these; None: their defaults. threshold_db: of communities, too; what is
    quieter than this below the loudest node is not clustered. Raises ValueError for what does not belong to the
    estimator, and for sizes that only a package made to do harm has.
    """

    estimator: Estimator = "silhouette"
    calibration: Calibration | None = None
    options: Communities | None = None
    soft: bool = False
    ratio: bool = False
    threshold_db: float = THRESHOLD_DB

    def __post_init__(self) -> None:
        if self.estimator == "communities" and self.calibration is not None:
            raise ValueError("the calibration of communities is one of its options")
        of_communities = self.options is not None or self.soft or self.ratio or self.threshold_db != THRESHOLD_DB
        if self.estimator != "communities" and of_communities:
            raise ValueError(f"options, soft, ratio and threshold_db are of communities, not of {self.estimator}")
        if not self.threshold_db < 0:
            raise ValueError(f"threshold_db must be below 0, got {self.threshold_db}")
        for name, most in LIMITS.items():
            if getattr(self.how, name) > most:
                raise ValueError(f"{name} must be at most {most:,}, got {getattr(self.how, name):.3g}")
        if self.how.graph.max_edges > MOST_EDGES:
            raise ValueError(f"max_edges must be at most {MOST_EDGES:,}, got {self.how.graph.max_edges:.3g}")

    @property
    def how(self) -> Communities:
        """How communities are made."""
        return self.options or Communities()

    @property
    def name(self) -> str:
        """What a user is told: the estimator, of communities with their method."""
        return f"communities ({self.how.method})" if self.estimator == "communities" else self.estimator


def counting_of(mapping: Any, where: str | Path) -> Counting:
    """That of a package's mapping. Raises PseError for unknown names and keys, and values that make no sense."""
    return bind(Counting, mapping, where)
