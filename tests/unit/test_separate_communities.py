"""Separating where communities of the nodes tell how many speak, whatever a node is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pse.clustering.kmeans import kmeans
from pse.clustering.options import Communities, GraphOptions
from pse.commands.separate import separate_file
from pse.config import plain
from pse.errors import PseError
from pse.inference import recording, separation
from pse.inference.counting import Counting
from pse.inference.package import load_network, save_package
from pse.io import audio
from pse.models.base import Output, build
from tests.recipe_place import ROOT

RATE, HZ = 8000, (400, 1500, 3000)
BLSTM = {"name": "blstm_embedding", "hidden_size": 8, "num_layers": 1}
NETS = {
    "bins": BLSTM | {"embedding_size": 4},
    "patches": BLSTM | {"embedding_size": 4, "node_bins": 4, "node_frames": 2},
    "columns": {"name": "frame_encoder", "channels": 4, "embedding_size": 4, "projection_size": 4},
    "slots": {"name": "slot_encoder", "embedding_size": 4, "net": BLSTM},
}
REFINER = {
    "name": "cluster_refiner", "net": NETS["bins"], "num_filters": 8, "bottleneck_channels": 4, "hidden_channels": 4,
    "skip_channels": 4, "num_blocks": 1, "num_repeats": 1,
}  # fmt: skip
HOW = Communities(graph=GraphOptions("knn"), num_nodes=300, steps=40)
COUNTING = {"estimator": "communities", "options": plain(HOW)}


def separate(*args: Any, **options: Any) -> np.ndarray:
    """The signals alone."""
    return separation.separate(*args, **options).wavs


class Ideal(torch.nn.Module):
    """Embeddings by the band of a bin, of the loudest bin of a frame, or of the half of a frame that a slot is."""

    def __init__(self, kind: str, counting: dict | None = COUNTING) -> None:
        super().__init__()
        self.transform = build(NETS["bins"], "test").transform
        self.sample_rate, self.normalize, self.kind, self.counting = RATE, "rms", kind, counting
        self.node_shape = {"bins": (1, 1), "patches": (4, 2)}.get(kind, (129, 1))
        self.slots = 3 if kind == "slots" else 0
        edges = torch.tensor([(a + b) / 2 for a, b in zip(HZ, HZ[1:], strict=False)])
        self.band = torch.bucketize(torch.arange(129) * RATE / 256, edges)

    def forward(self, mix: torch.Tensor) -> Output:
        size = self.transform.stft(mix).abs()
        eye, frames = torch.eye(8), size.shape[2]
        if self.kind in ("bins", "patches"):
            bands, columns = self.band[:: self.node_shape[0]], -(-frames // self.node_shape[1])
            return Output(embeddings=eye[bands][None, :, None].expand(len(mix), -1, columns, -1))
        if self.kind == "columns":
            return Output(embeddings=eye[self.band[size.argmax(1)]].unsqueeze(1))
        # Which slot has which band changes from frame to frame.
        whose = (torch.arange(3)[:, None] + (1e4 * size[0].sum(0)).long()) % 3
        masks = (self.band[None, :, None] == whose[:, None]).float()
        return Output(embeddings=eye[whose][None], masks=masks[None])


@pytest.fixture(scope="module")
def voices() -> np.ndarray:
    """Three tones, each on and off at its own times, for 9 s."""
    time = np.arange(9 * RATE) / RATE
    # Without a step, which would be heard at all frequencies.
    on = [np.clip(1 + 2 * np.sin(2 * np.pi * (0.7 + 0.2 * n) * time + n), 0, 1) ** 2 * fade(9 * RATE) for n in range(3)]
    return np.stack([0.1 * o * np.sin(2 * np.pi * hz * time) for o, hz in zip(on, HZ, strict=True)]).astype(np.float32)


def fade(length: int) -> np.ndarray:
    """In and out in 50 ms."""
    ramp = np.minimum(1, np.minimum(np.arange(length), np.arange(length)[::-1]) / (0.05 * RATE))
    return np.sin(np.pi / 2 * ramp) ** 2


def turns(voices: np.ndarray) -> np.ndarray:
    """One after another, a second each."""
    whose = np.arange(voices.shape[1]) // RATE % len(voices)
    smooth = np.tile(fade(RATE), 9).astype(np.float32)
    return np.stack([v * smooth * (whose == n) for n, v in enumerate(voices)])


def error(wavs: np.ndarray, truth: np.ndarray) -> float:
    """Mean square of what differs in the best order, as a part of that of the truth."""
    order = min(permutations(range(len(wavs))), key=lambda o: np.square(wavs[list(o)] - truth).sum())
    return float(np.square(wavs[list(order)] - truth).sum() / np.square(truth).sum())


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("soft", [False, True])
def test_the_number_is_found_and_the_signals_add_up_in_one_piece_or_in_many(
    kind: str, count: int, soft: bool, voices: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = turns(voices[:count]) if kind == "columns" else voices[:count]
    made = []
    for chunk_s in (30.0, 2.0):
        monkeypatch.setattr(separation, "CHUNK_S", chunk_s)
        wavs, counted_by, _ = separation.separate(Ideal(kind, COUNTING | {"soft": soft}), truth.sum(0), RATE)
        assert counted_by == "communities (modularity)"
        assert wavs.shape == truth.shape
        assert np.abs(wavs.sum(0) - truth.sum(0)).max() < 1e-5
        made.append(wavs)
    if soft:
        # How sure the small network is differs with the nodes that were drawn.
        assert error(made[0], truth) < 0.2
    else:
        assert error(made[0], truth) < 0.02 and error(made[1], made[0]) < 1e-6


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("asked", [2, 3])
def test_a_given_number_is_separated_by_kmeans_of_any_nodes(kind: str, asked: int, voices: np.ndarray) -> None:
    truth = turns(voices[:asked]) if kind == "columns" else voices[:asked]
    wavs, counted_by, _ = separation.separate(Ideal(kind), truth.sum(0), RATE, asked)
    assert counted_by is None and wavs.shape == truth.shape and error(wavs, truth) < 0.02


@pytest.mark.parametrize("kind", NETS)
def test_one_speaker_is_one_file_that_equals_the_recording(kind: str, voices: np.ndarray, tmp_path: Path) -> None:
    assert np.array_equal(separate(Ideal(kind), voices[1], 11025), voices[1:2])
    audio.write(tmp_path / "in.wav", voices[1], RATE)
    told, *_ = separate_file(Ideal(kind), tmp_path / "in.wav", tmp_path / "out" / "in.wav", None)
    counted = "one speaker, counted by communities (modularity); --num_speakers is surer, above all in noise"
    assert told.endswith(f"in_1.wav: {counted}")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["in_1.wav", "in_residual.wav"]
    given, got = (audio.read(p)[0] for p in (tmp_path / "in.wav", tmp_path / "out" / "in_1.wav"))
    assert np.array_equal(given, got)


@pytest.mark.parametrize(
    ("method", "graph"),
    [*((m, "knn") for m in ("leiden", "spectral", "kmeans")),
     *(("modularity", g) for g in ("knn", "threshold", "complete"))],
)  # fmt: skip
def test_every_way_of_finding_communities_can_be_packed(method: str, graph: str, voices: np.ndarray) -> None:
    if method == "leiden":
        pytest.importorskip("igraph")
    options = {"method": method, "graph": {"kind": graph}, "num_nodes": 300, "min_apart": 0.05}
    counting = {"estimator": "communities", "options": options}
    wavs, counted_by, _ = separation.separate(Ideal("bins", counting), voices.sum(0), RATE)
    assert counted_by == f"communities ({method})" and wavs.shape == voices.shape and error(wavs, voices) < 0.02


@pytest.mark.parametrize("counting", [COUNTING, {"estimator": "silhouette"}, {"estimator": "eigenvalues"}])
@pytest.mark.parametrize("kind", NETS)
def test_silence_and_scraps_are_separated_into_themselves(kind: str, counting: dict) -> None:
    model = build(NETS[kind], "test").eval()
    model.counting = counting
    for size in (0, 1, 100, 3000):
        for samples in (np.zeros(size, np.float32), np.full(size, 0.1, np.float32)):
            for asked in (3, None):
                wavs = separate(model, samples, RATE, asked)
                assert wavs.shape[1] == size and np.isfinite(wavs).all() and len(wavs) == (asked or len(wavs))
                assert np.abs(wavs.sum(0) - samples).max(initial=0) < 1e-5
                assert asked or counting is not COUNTING or samples.any() or len(wavs) == 1


@pytest.mark.parametrize(("asked", "count"), [(None, 3), (3, 3), (2, 2)])
def test_a_refiner_hears_the_clusters_of_the_whole_recording_chunk_by_chunk(
    asked: int | None, count: int, voices: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(separation, "CHUNK_S", 2.0)
    model = build(REFINER, "test").eval()
    model.net, model.counting = Ideal("bins"), COUNTING
    refine, heard = model.refine, []

    def spy(mix: torch.Tensor, estimates: torch.Tensor) -> torch.Tensor:
        heard.append((mix.shape[1], estimates.shape[1], float((estimates.sum(1) - mix).abs().max())))
        return refine(mix, estimates)

    monkeypatch.setattr(model, "refine", spy)
    wavs = separate(model, voices.sum(0), RATE, asked)
    assert wavs.shape == (count, voices.shape[1]) and np.isfinite(wavs).all()
    assert [n for n, _, _ in heard] == [3 * RATE, 4 * RATE, 4 * RATE, 4 * RATE, 2 * RATE]
    assert {s for _, s, _ in heard} == {count} and max(e for _, _, e in heard) < 1e-4
    monkeypatch.setattr(model, "refine", lambda mix, estimates: estimates)
    # It has learnt from binary masks, whatever a package says.
    model.counting = COUNTING | {"soft": True}
    soft = separate(model, voices.sum(0), RATE, asked)
    model.counting = COUNTING
    assert np.array_equal(soft, separate(model, voices.sum(0), RATE, asked))
    if asked != 2:
        assert error(separate(model, voices.sum(0), RATE, asked), voices) < 0.02


def test_the_nodes_that_count_are_those_that_the_package_names(
    voices: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, heard = recording.find, []

    def spy(vectors: torch.Tensor, weights: torch.Tensor, how: Communities) -> Any:
        heard.append(int((weights > 0).sum()))
        return found(vectors, weights, how)

    monkeypatch.setattr(recording, "find", spy)
    quiet = voices * np.array([[1.0], [0.03], [1.0]], np.float32)
    counts = []
    for threshold_db in (-60.0, -40.0, -20.0):
        model = Ideal("bins", COUNTING | {"threshold_db": threshold_db})
        counts.append(len(separate(model, quiet.sum(0), RATE)))
    assert heard[0] > heard[1] > heard[2]
    assert counts[-1] == 2


def test_more_speakers_than_are_looked_for_are_told_with_the_number(voices: np.ndarray, tmp_path: Path) -> None:
    counting = {"estimator": "communities", "options": plain(replace(HOW, max_clusters=2))}
    assert separation.separate(Ideal("bins", counting), voices.sum(0), RATE).note == (
        "at least 2 speakers: raise max_clusters"
    )
    assert separation.separate(Ideal("bins"), voices.sum(0), RATE).note is None
    three = {"weights": [[0.0]] * 3, "biases": [0.0, 0.0, 1.0]}
    calibrated = Ideal("bins", {"estimator": "eigenvalues", "calibration": three})
    made = separation.separate(calibrated, voices.sum(0), RATE)
    assert len(made.wavs) == 3 and made.note.startswith("at least 3 speakers: its calibration tells no more")
    assert separation.separate(Ideal("bins", counting), voices.sum(0), RATE, 2).note is None
    audio.write(tmp_path / "in.wav", voices.sum(0), RATE)
    told, *_ = separate_file(Ideal("bins", counting), tmp_path / "in.wav", tmp_path / "out" / "in.wav", None)
    assert told.endswith(
        ".. _2.wav: 2 speakers, counted by communities (modularity); at least 2 speakers: raise max_clusters"
    )


def test_ratio_masks_of_a_package_are_those_of_its_soft_ones() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(200, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    soft, ratio = (
        recording.as_counted(
            vectors, torch.ones(200), Counting("communities", options=replace(HOW, min_apart=-9.0), soft=True, ratio=r),
        ).shares(vectors)
        for r in (False, True)
    )  # fmt: skip
    assert soft.shape[1] > 1 and (soft - ratio).abs().max() > 0.05
    assert torch.allclose(ratio, soft.square() / soft.square().sum(1, keepdim=True), atol=1e-6)


def test_communities_can_be_asked_for_and_are_the_same_every_time(voices: np.ndarray) -> None:
    model = Ideal("bins", None)
    wavs, counted_by, _ = separation.separate(model, voices.sum(0), RATE, estimator="communities")
    assert counted_by == "communities (modularity)"
    assert np.array_equal(wavs, separate(model, voices.sum(0), RATE, estimator="communities"))
    with pytest.raises(PseError, match="is not a choice"):
        separate(model, voices.sum(0), RATE, estimator="magic")


def test_a_package_says_how_and_its_masks_may_be_soft(tmp_path: Path, voices: np.ndarray) -> None:
    torch.manual_seed(0)
    model, made = build(NETS["bins"], "test").eval(), []
    for soft in (False, True):
        options = plain(Communities(num_nodes=300, steps=40, min_apart=-9.0))
        counting = {"estimator": "communities", "options": options, "soft": soft}
        save_package(tmp_path / str(soft), model, NETS["bins"], "card", counting)
        loaded = load_network(tmp_path / str(soft))
        assert loaded.counting == counting
        made.append(separate(loaded, voices.sum(0), RATE))
        assert np.abs(made[-1].sum(0) - voices.sum(0)).max() < 1e-5
    assert made[0].shape == made[1].shape and np.abs(made[0] - made[1]).max() > 1e-3


LONG = """
import resource, sys
import numpy as np, torch
from pse.inference.separation import separate
from pse.models.base import build
torch.set_num_threads(1)
model = build({"name": "blstm_embedding", "hidden_size": 8, "num_layers": 1, "embedding_size": 20}, "test").eval()
model.counting = {"estimator": "communities", "options": {"num_nodes": 300, "steps": 20, "min_apart": -9.0}}
noise = (0.1 * np.random.default_rng(0).standard_normal(600 * 8000)).astype(np.float32)
separate(model, noise[:8000], 8000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
wavs = separate(model, noise, 8000).wavs
assert len(wavs) > 1 and np.abs(wavs.sum(0) - noise).max() < 1e-5
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_ten_minutes_take_less_than_a_gigabyte() -> None:
    done = subprocess.run([sys.executable, "-c", LONG], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1_000_000


def test_of_a_quiet_chunk_no_more_is_kept_than_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(NETS["bins"], "test").eval()
    chunk = recording.Chunk(torch.zeros(RATE), 0, 0, RATE)
    with torch.no_grad():
        vectors, weights = recording.sampled(model, enumerate([chunk]), [chunk], 5)
    assert vectors.shape == (5, 4) and not weights.any()
    assert vectors.untyped_storage().nbytes() == 5 * 4 * 4


def test_shares_of_clusters_are_soft_and_the_largest_is_that_of_the_nearest() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(200, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    soft = recording.as_known(vectors, torch.ones(200), 3).shares(vectors)
    assert torch.equal(soft.argmax(1), kmeans(vectors[None], 3).labels[0])
    assert torch.allclose(soft.sum(1), torch.ones(200)) and 0 < soft.min() and soft.max() < 1
