"""How bins become masks, as keys of a config. Imports nothing that takes time: stages that only list read it too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Silent = Literal["nearest", "none", "all", "split"]
HARDNESS = 5.0
Mode = Literal["global", "oracle", "oracle_spectral", "spectral", "online"]


@dataclass(frozen=True)
class Clustering:
    """How bins become masks.

    mode: global clusters all frames of a recording; oracle clusters segments, and the true sources say
    which cluster is whose (a bound: it shows what is lost by tracking); spectral takes the eigenvectors
    of the affinities first, of all frames or (oracle_spectral) of segments; online goes from segment to
    segment, and no later one is known to its clusters. segment_frames: of those.
    threshold_db: bins quieter than this below the mixture's maximum are not clustered; silent says
    where they go. soft: masks by distance, hardness the factor in their softmax. restarts: of k-means.
    """

    mode: Mode = "global"
    silent: Silent = "nearest"
    soft: bool = False
    hardness: float = HARDNESS
    segment_frames: int = 100
    threshold_db: float = -40.0
    restarts: int = 10

    def __post_init__(self) -> None:
        if self.segment_frames < 1 or self.restarts < 1:
            raise ValueError("segment_frames and restarts must be at least 1")
        if self.soft and self.mode not in ("global", "oracle"):
            raise ValueError(f"soft masks need the mode global or oracle, got {self.mode}")
        if not self.threshold_db < 0:
            raise ValueError(f"threshold_db must be below 0, got {self.threshold_db}")

    @property
    def needs_sources(self) -> bool:
        """Whether the true sources are asked: no real recording can be separated so."""
        return self.mode.startswith("oracle")
