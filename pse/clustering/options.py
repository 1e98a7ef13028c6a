"""How bins become masks, as keys of a config. Imports nothing that takes time: stages that only list read it too."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from pse.clustering.calibration import Calibration

Silent = Literal["nearest", "none", "all", "split"]
# About the best: recipe wsj0_2mix_dc's dc_blstm_400 gains 7.0 dB of two validation speakers (n = 48) with binary masks,
# 6.0 with 1, 7.2 with 1.5, 7.7 with 2.5 and 3, 7.6 with 5; of three open ones (n = 20) 0.6, 2.7, 3.0, 3.1 and 2.6.
HARDNESS = 2.5
Mode = Literal["global", "oracle", "oracle_spectral", "spectral", "online", "communities"]

# Of one recording; as many as `pse report` tells apart.
MOST_SPEAKERS = 99


@dataclass(frozen=True)
class GraphOptions:
    """Which embeddings are joined.

    kind: knn joins each with its num_neighbours most similar ones (mutual: where both have each other),
    threshold those whose cosine is above `threshold`, quantile the most similar pairs, a part edge_share
    of all, and complete every pair, by (1 + cosine) / 2. approximate: neighbours by a search that may miss
    some (needs faiss-cpu). max_edges: more than so many are refused, not made.
    """

    kind: Literal["knn", "threshold", "quantile", "complete"] = "knn"
    num_neighbours: int = 20
    threshold: float = 0.5
    edge_share: float = 0.05
    mutual: bool = False
    approximate: bool = False
    max_edges: int = 20_000_000

    def __post_init__(self) -> None:
        if self.num_neighbours < 1 or self.max_edges < 1:
            raise ValueError("num_neighbours and max_edges must be at least 1")
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold must be from 0 to below 1, got {self.threshold}")
        if not 0 < self.edge_share <= 1:
            raise ValueError(f"edge_share must be above 0 and at most 1, got {self.edge_share}")


@dataclass(frozen=True)
class Communities:
    """How nodes of a graph become communities, and how many.

    method: modularity trains a small network to cut the graph where modularity is best (DMoN), leiden
    searches for that (needs igraph), spectral takes the eigenvectors of the normalised graph (nme: of neighbours,
    whose number the normalised largest gap tells), and kmeans looks at no graph. The first max_clusters are joined,
    and there are as many as are apart: the two nearest have min_apart fewer edges than chance would give, as a
    part of these, and each has min_share of the nodes. calibration: tells the number from that part for all numbers and
    from what is read off the embeddings; where both are null and num_nulls is 0, stage enhance makes one on
    validation speech. num_nulls: without a calibration, so many sets of nodes are drawn from one Gaussian of the nodes'
    mean and covariance and cut alike; communities count only where they are farther apart than those of all but a part
    `significance` of the sets. 0: no such test. leiden has as many first clusters as it finds, whatever max_clusters.
    num_nodes: so many are drawn to find communities, which all nodes then join: by their distance to the means of
    these, or (assign: network) as the network of modularity says, whose masks are harder.
    null_weight, collapse_weight: of the null model, and of the term that keeps clusters alike; the reference
    code of DMoN is null_weight 0.5 with twice the collapse_weight.
    hidden_size, num_layers, dropout, steps, lr: of that network. features: what it is given of a node, its embedding or
    (graph_convolution, as DMoN has it) also the mean of its neighbours'.
    """

    method: Literal["modularity", "leiden", "spectral", "nme", "kmeans"] = "modularity"
    graph: GraphOptions = field(default_factory=lambda: GraphOptions("threshold"))
    max_clusters: int = 8
    min_apart: float | None = None
    calibration: Calibration | None = None
    min_share: float = 0.05
    num_nulls: int = 0
    significance: float = 0.05
    num_nodes: int = 1500
    assign: Literal["distance", "network"] = "distance"
    null_weight: float = 1.0
    collapse_weight: float = 0.1
    hidden_size: int = 64
    num_layers: int = 1
    features: Literal["embedding", "graph_convolution"] = "embedding"
    dropout: float = 0.3
    steps: int = 120
    lr: float = 5e-3

    def __post_init__(self) -> None:
        for name in ("max_clusters", "num_nodes", "hidden_size", "num_layers", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1 or not self.lr > 0 or self.null_weight < 0 or self.collapse_weight < 0:
            raise ValueError("dropout must be from 0 to below 1, lr above 0, and no weight below 0")
        if not 0 < self.significance < 1:
            raise ValueError(f"significance must be above 0 and below 1, got {self.significance}")
        # Of fewer sets none is rare enough: the largest of 18 is passed by chance in one of 19.
        least = math.ceil(1 / self.significance - 1e-9) - 1
        if self.num_nulls < 0 or 0 < self.num_nulls < least:
            told = f"0 or at least {least} with a significance of {self.significance:g}"
            raise ValueError(f"num_nulls must be {told}, got {self.num_nulls}")
        if self.num_nulls and self.calibration is not None:
            raise ValueError("a calibration tells the number, and so does a test against chance: leave out num_nulls")
        if self.method == "leiden" and self.graph.kind == "complete":
            raise ValueError("leiden needs a graph of edges: set graph.kind: threshold, quantile or knn")


@dataclass(frozen=True)
class Clustering:
    """How bins become masks.

    mode: global clusters all frames of a recording; oracle clusters segments, and the true sources say
    which cluster is whose (a bound: it shows what is lost by tracking); spectral takes the eigenvectors
    of the affinities first, of all frames or (oracle_spectral) of segments; online goes from segment to
    segment, and no later one is known to its clusters; communities makes a graph of the embeddings and finds
    its communities, as many as speakers are known or (count: estimated) as many as there are.
    segment_frames: of segments.
    threshold_db: bins quieter than this below the mixture's maximum are not clustered; silent says
    where they go. soft: masks by distance, hardness the factor in their softmax, or by the probabilities of
    communities; ratio: the squares of these over their sum, the gains of a Wiener filter where they are parts of the
    amplitude (by distance that is twice the hardness). restarts: of k-means.
    """

    mode: Mode = "global"
    silent: Silent = "nearest"
    soft: bool = False
    ratio: bool = False
    hardness: float = HARDNESS
    segment_frames: int = 100
    threshold_db: float = -40.0
    restarts: int = 10
    count: Literal["known", "estimated"] = "known"
    communities: Communities = field(default_factory=Communities)

    def __post_init__(self) -> None:
        if self.count == "estimated" and self.mode != "communities":
            raise ValueError(f"count: estimated needs mode: communities, got {self.mode}")
        if self.segment_frames < 1 or self.restarts < 1:
            raise ValueError("segment_frames and restarts must be at least 1")
        if self.soft and self.mode not in ("global", "oracle", "communities"):
            raise ValueError(f"soft masks need the mode global, oracle or communities, got {self.mode}")
        if self.ratio and not self.soft:
            raise ValueError("ratio masks are made of soft ones: set soft: true, or leave ratio out")
        if not self.threshold_db < 0:
            raise ValueError(f"threshold_db must be below 0, got {self.threshold_db}")

    @property
    def needs_sources(self) -> bool:
        """Whether the true sources are asked: no real recording can be separated so."""
        return self.mode.startswith("oracle")
