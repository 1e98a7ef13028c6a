"""Deep clustering against other people's code: loss, training step, k-means, and the SDR of BSS Eval.

Peers, where they are installed: asteroid (its deep clustering loss), ESPnet (a whole training step: its STFT,
DPCLSeparator and FrequencyDomainDPCL), scikit-learn (KMeans with 10 restarts), mir_eval and fast_bss_eval (SDR). The
training step is compared, too, with the same network when the unit norm is torch's own and differentiated by autograd.
Run: python benchmarks/separation.py [--rounds 5] [--threads 1]
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from versus import imported, versus

from pse.clustering.kmeans import kmeans
from pse.losses.activity import activity, bins, dominant_source, points
from pse.losses.deep_clustering import deep_clustering_loss
from pse.models import embedding
from pse.models.base import build
from pse.scoring.bss_eval import sdr

BATCH, FRAMES, BINS = 32, 100, 129
SEGMENT = (FRAMES - 1) * 64


def losses(rounds: int) -> None:
    """Forward and backward of the unweighted loss, from unit-norm embeddings."""
    random = torch.Generator().manual_seed(0)
    points = functional.normalize(torch.randn(BATCH, FRAMES * BINS, 20, generator=random), dim=2).requires_grad_()
    labels = functional.one_hot(torch.randint(2, (BATCH, FRAMES * BINS), generator=random), 2).float()
    ones = torch.ones(BATCH, FRAMES * BINS)

    def ours() -> float:
        points.grad = None
        loss = deep_clustering_loss("unweighted", points, labels, ones).mean()
        loss.backward()
        return loss.item()

    asteroid = imported("asteroid.losses", "deep_clustering_loss")
    whose = labels.argmax(2).view(BATCH, BINS, FRAMES)

    def theirs() -> float:
        points.grad = None
        loss = asteroid(points, whose).mean() / (FRAMES * BINS)
        loss.backward()
        return loss.item()

    if asteroid is not None:
        assert abs(ours() - theirs()) < 1e-4
    versus("affinity loss, 32 x 12,900 bins, D = 20", ours, "asteroid", asteroid and theirs, rounds)


def steps(rounds: int) -> None:
    """Forward and backward of two networks and the paper's loss, in float32 and in bf16."""
    nets = {
        "TCN 256": {"name": "tcn_embedding"},
        "BLSTM 2x300": {"name": "blstm_embedding", "hidden_size": 300, "embedding_size": 20},
    }
    mix = torch.randn(BATCH, SEGMENT)
    labels = functional.one_hot(torch.randint(2, (BATCH, FRAMES * BINS)), 2).float()
    ones = torch.ones(BATCH, FRAMES * BINS)
    fused = embedding.unit_vectors

    def plain(values: torch.Tensor, size: int, activation: str) -> torch.Tensor:
        return functional.normalize(values.tanh().unflatten(2, (-1, size)).float(), dim=3, eps=1e-8)

    for name, mapping in nets.items():
        for half in (False, True):
            torch.manual_seed(0)
            net = build(mapping, name)

            def run(norm: Any, net: Any = net, half: bool = half) -> float:
                embedding.unit_vectors = norm
                net.zero_grad()
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    vectors = net(mix).embeddings.transpose(1, 2).flatten(1, 2)
                    loss = deep_clustering_loss("paper", vectors, labels, ones).mean()
                loss.backward()
                return loss.item()

            assert abs(run(fused) - run(plain)) < 1e-3
            title = f"step of {name}, {'bf16' if half else 'float32'}"
            versus(title, lambda run=run: run(fused), "norm by autograd", lambda run=run: run(plain), rounds)
    embedding.unit_vectors = fused


def whole_steps(rounds: int) -> None:
    """Two sources to new weights: mixture, STFT, labels, BLSTM 2x300 with D = 20, loss, gradient, Adam.

    ESPnet's separator has a projection after each layer, and no unit norm.
    """
    signals = 0.1 * torch.randn(BATCH, 2, SEGMENT)
    net = build({"name": "blstm_embedding", "hidden_size": 300, "embedding_size": 20}, "net")
    print(f"our network has {sum(p.numel() for p in net.parameters()):,} parameters")
    optimizer = torch.optim.Adam(net.parameters())

    def ours(half: bool) -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            vectors = net(signals.sum(1)).embeddings
        spectra = net.transform.stft(signals.flatten(0, 1)).unflatten(0, (BATCH, 2)).abs()
        labels, active = bins(dominant_source(spectra)), bins(activity(spectra)).float()
        loss = deep_clustering_loss("unweighted", points(vectors), labels, active).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    separator = imported("espnet2.enh.separator.dpcl_separator", "DPCLSeparator")
    theirs = separator and espnet_step(separator, signals)
    for half in (False, True):
        title = f"training step of BLSTM 2x300, {'bf16' if half else 'float32'}"
        versus(title, lambda half=half: ours(half), "ESPnet", theirs and (lambda half=half: theirs(half)), rounds)


def espnet_step(separator: Any, signals: torch.Tensor) -> Callable[[bool], float]:
    """The same step with ESPnet's parts."""
    encoder = imported("espnet2.enh.encoder.stft_encoder", "STFTEncoder")(256, 256, 64)
    criterion = imported("espnet2.enh.loss.criterions.tf_domain", "FrequencyDomainDPCL")()
    net = separator(BINS, num_spk=2, layer=2, unit=300, emb_D=20).train()
    optimizer = torch.optim.Adam(net.parameters())
    print(f"ESPnet's network has {sum(p.numel() for p in net.parameters()):,} parameters")
    lengths = torch.full((BATCH,), signals.shape[2])

    def step(half: bool) -> float:
        optimizer.zero_grad()
        mixture, frames = encoder(signals.sum(1), lengths)
        references = [encoder(source, lengths)[0] for source in signals.unbind(1)]
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            vectors = net(mixture, frames)[2]["tf_embedding"]
        loss = criterion(references, vectors.float()).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def clusters(rounds: int) -> None:
    """k-means of one utterance of 6 s, 10 restarts, two speakers."""
    random = torch.Generator().manual_seed(0)
    centres = functional.normalize(torch.randn(2, 40, generator=random), dim=1)
    whose = torch.randint(2, (45_000,), generator=random)
    points = functional.normalize(centres[whose] + 0.6 * torch.randn(45_000, 40, generator=random) / 40**0.5, dim=1)
    sklearn = imported("sklearn.cluster", "KMeans")

    def theirs() -> np.ndarray:
        return sklearn(2, n_init=10, random_state=0).fit(points.numpy()).labels_

    def ours() -> np.ndarray:
        return kmeans(points[None], 2).labels[0].numpy()

    if sklearn is not None:
        same = (ours() == theirs()).mean()
        assert max(same, 1 - same) > 0.99
    versus("k-means, 45,000 x 40, 10 restarts", ours, "scikit-learn", sklearn and theirs, rounds)


def scores(rounds: int) -> None:
    """SDR of two estimates of 6 s at 8 kHz."""
    random = np.random.default_rng(0)
    sources = random.standard_normal((2, 48_000))
    estimates = sources + 0.3 * random.standard_normal((2, 48_000))

    def ours() -> list[float]:
        return [sdr(s, e) for s, e in zip(sources, estimates, strict=True)]

    mir_eval = imported("mir_eval.separation", "bss_eval_sources")
    fast = imported("fast_bss_eval", "sdr")
    peers = {
        "mir_eval": mir_eval and (lambda: mir_eval(sources, estimates, compute_permutation=False)[0]),
        "fast_bss_eval": fast and (lambda: fast(sources, estimates)),
    }
    for name, theirs in peers.items():
        if theirs:
            assert np.abs(np.asarray(theirs()) - ours()).max() < 1e-3
        versus("SDR of 2 x 6 s", ours, name, theirs, rounds)


def main() -> None:
    """Compare what can be compared here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, load {load:.1f};")
    print(f"torch {torch.__version__}, {options.threads} threads, medians of {options.rounds} alternating rounds")
    for part in (losses, steps, whole_steps, clusters, scores):
        part(options.rounds)


if __name__ == "__main__":
    main()
