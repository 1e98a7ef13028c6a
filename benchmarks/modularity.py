"""Communities of embeddings against other people's code: neighbours, a step of modularity, Leiden, and a whole mixture.

Peers, where they are installed: scikit-learn (NearestNeighbors, brute) and faiss (exact, and HNSW) for the graph of
nearest neighbours; torch_geometric (DMoNPooling, which needs the N x N matrix) for loss and gradient; leidenalg for
communities. Run with the Python that has them, from the root:
PYTHONPATH=. python benchmarks/modularity.py [--rounds 3] [--threads 1] [--most 20000]
"""

from __future__ import annotations

import argparse
import os
import platform
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from versus import imported, versus

from pse.clustering.cuts import by_leiden
from pse.clustering.graph import CompleteGraph, SparseGraph, similarity_graph
from pse.clustering.kmeans import generator
from pse.clustering.modularity import dmon_loss, modularity
from pse.clustering.options import Clustering, Communities, GraphOptions
from pse.inference.clustering import clustered, masked
from pse.models.base import build

WIDTH, NEIGHBOURS, CLUSTERS = 20, 20, 8


def speakers(size: int) -> torch.Tensor:
    """Unit vectors [N, D] around three centres."""
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(size, WIDTH, generator=random)
    return functional.normalize(torch.eye(WIDTH)[torch.arange(size) % 3] + 0.6 * noise / WIDTH**0.5, dim=1)


def joined(values: np.ndarray, others: np.ndarray) -> SparseGraph:
    """The graph of neighbours [N, k + 1] as a peer gives them, each node among its own: as ours is made."""
    from scipy import sparse

    size = len(others)
    rows = np.repeat(np.arange(size, dtype=np.int32), others.shape[1])
    kept = (others.ravel() != rows) & (others.ravel() >= 0) & (values.ravel() > 0)
    places = (rows[kept], others.ravel()[kept].astype(np.int32))
    one_way = sparse.csr_array((values.ravel()[kept], places), shape=(size, size))
    return SparseGraph(one_way.maximum(sparse.csr_array(one_way.T)))


def graphs(rounds: int, most: int) -> None:
    """The symmetric graph of the 20 nearest of N unit vectors, with everything that makes it a graph."""
    sklearn = imported("sklearn.neighbors", "NearestNeighbors")
    flat, hnsw = imported("faiss", "IndexFlatIP"), imported("faiss", "IndexHNSWFlat")
    for size in (n for n in (1500, 5000, 20_000) if n <= most):
        points, how = speakers(size), GraphOptions("knn", num_neighbours=NEIGHBOURS)
        vectors = points.numpy()

        def ours(points: torch.Tensor = points, how: GraphOptions = how) -> SparseGraph:
            return similarity_graph(points, how)

        def brute(vectors: np.ndarray = vectors) -> SparseGraph:
            found = sklearn(n_neighbors=NEIGHBOURS + 1, algorithm="brute", metric="cosine").fit(vectors)
            apart, others = found.kneighbors(vectors)
            return joined(1 - apart, others)

        def exact(vectors: np.ndarray = vectors) -> SparseGraph:
            index = flat(WIDTH)
            index.add(vectors)
            return joined(*index.search(vectors, NEIGHBOURS + 1))

        def walked(vectors: np.ndarray = vectors) -> SparseGraph:
            # The second number is faiss's for the inner product.
            index = hnsw(WIDTH, 16, 0)
            index.hnsw.efSearch = 2 * NEIGHBOURS
            index.add(vectors)
            return joined(*index.search(vectors, NEIGHBOURS + 1))

        peers = {"scikit-learn": sklearn and brute, "faiss exact": flat and exact, "faiss HNSW": hnsw and walked}
        for name, theirs in peers.items():
            note = ""
            if theirs:
                mine, other = ours().matrix, theirs().matrix
                same = mine.astype(bool).multiply(other.astype(bool)).nnz / mine.nnz
                assert same > (0.999 if theirs is not walked else 0.5)
                note = f" ({100 * same:.0f} % of our edges)" if theirs is walked else ""
            versus(f"neighbours, N = {size}", ours, name + note, theirs, rounds)


def steps(rounds: int, most: int) -> None:
    """Loss and gradient of deep modularity: one linear layer D -> k, softmax, Q and the collapse term."""
    pooling = imported("torch_geometric.nn.dense", "DMoNPooling")
    for size in (n for n in (1500, 5000) if n <= most):
        points = speakers(size)
        kinds = {
            "20 neighbours": similarity_graph(points, GraphOptions("knn", num_neighbours=NEIGHBOURS)),
            "complete": CompleteGraph(points),
        }
        for kind, graph in kinds.items():
            layer = nn.Linear(WIDTH, CLUSTERS)

            def ours(layer: nn.Linear = layer, graph: Any = graph, points: torch.Tensor = points) -> float:
                layer.zero_grad()
                loss = dmon_loss(layer(points).softmax(1), graph)
                loss.backward()
                return loss.item()

            theirs = None
            if pooling:
                matrix = graph.times(torch.eye(size))
                peer = pooling(WIDTH, CLUSTERS)
                with torch.no_grad():
                    inner = peer.mlp.lins[0]
                    inner.weight.copy_(layer.weight)
                    inner.bias.copy_(layer.bias)

                def theirs(peer: Any = peer, matrix: torch.Tensor = matrix, points: torch.Tensor = points) -> float:
                    peer.zero_grad()
                    _, _, _, spectral, _, cluster = peer(points, matrix)
                    loss = spectral + cluster
                    loss.backward()
                    return loss.item()

                assert abs(ours() - theirs()) < 1e-3
            versus(f"step of modularity, N = {size}, {kind}", ours, "torch_geometric", theirs, rounds)


def leiden(rounds: int, most: int) -> None:
    """Communities of the graph of neighbours by Leiden's search, each until nothing changes."""
    find, quality = imported("leidenalg", "find_partition"), imported("leidenalg", "ModularityVertexPartition")
    igraph = imported("igraph", "Graph")
    if igraph is None:
        print("Leiden: igraph is not installed")
        return
    for size in (n for n in (1500, 5000) if n <= most):
        points, how = speakers(size), Communities("leiden")
        graph = similarity_graph(points, GraphOptions("knn", num_neighbours=NEIGHBOURS))

        def ours(points: torch.Tensor = points, graph: Any = graph, how: Communities = how) -> torch.Tensor:
            return by_leiden(points, graph, how, None, generator(0, "benchmark")).assign

        def theirs(graph: Any = graph) -> torch.Tensor:
            from scipy import sparse

            edges = sparse.triu(graph.matrix).tocoo()
            peer = igraph(n=graph.num_nodes, edges=np.stack([edges.row, edges.col], 1))
            found = find(peer, quality, weights=edges.data.tolist(), n_iterations=-1, seed=0)
            return functional.one_hot(torch.tensor(found.membership)).float()

        if find:
            gap = float(modularity(ours().float(), graph) - modularity(theirs(), graph))
            assert abs(gap) < 0.02
        versus(f"Leiden, N = {size}", ours, "leidenalg", find and theirs, rounds)


def whole(rounds: int) -> None:
    """A mixture of 6 s at 8 kHz from samples to separated samples, by a BLSTM of 2 x 300 with D = 20."""
    torch.manual_seed(0)
    mix = torch.randn(1, 48_000)
    net = build({"name": "blstm_embedding", "hidden_size": 300, "embedding_size": WIDTH}, "net").eval()
    ways = {
        "20 neighbours": Communities(graph=GraphOptions("knn")),
        "threshold 0.5": Communities(),
        "complete": Communities(graph=GraphOptions("complete")),
    }

    @torch.inference_mode()
    def heard() -> tuple[torch.Tensor, torch.Tensor]:
        return net(mix).embeddings, net.transform.stft(mix)

    @torch.inference_mode()
    def separated(how: Clustering) -> torch.Tensor:
        embeddings, spectrum = heard()
        return masked(spectrum, clustered(embeddings, spectrum, 2, how)[0], net.transform, mix.shape[1])

    for name, communities in ways.items():
        how = Clustering("communities", communities=communities)
        assert (separated(how).sum(1) - mix).abs().max() < 1e-4
        title = f"6 s: network, deep modularity ({name}), masks"
        versus(title, lambda how=how: separated(how), "the network alone", heard, rounds)
    kmeans = Clustering()
    versus("6 s: network, k-means, masks", lambda: separated(kmeans), "the network alone", heard, rounds)


def main() -> None:
    """Compare what can be compared here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--most", type=int, default=20_000, help="nodes of the largest graph")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if limit := imported("faiss", "omp_set_num_threads"):
        limit(options.threads)
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, load {load:.1f};")
    print(f"torch {torch.__version__}, {options.threads} threads, medians of {options.rounds} alternating rounds")
    graphs(options.rounds, options.most)
    steps(options.rounds, options.most)
    leiden(options.rounds, options.most)
    whole(options.rounds)


if __name__ == "__main__":
    main()
