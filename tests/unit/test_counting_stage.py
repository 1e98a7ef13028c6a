"""How many speak, in the recipe: which speech it needs, which nodes it looks at, and what is told of it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from pse.clustering import communities
from pse.clustering.options import Clustering, Communities, GraphOptions
from pse.data.scene import Scene
from pse.errors import PseError
from pse.inference import clustering
from pse.inference.clustering import masked
from pse.models.base import Model, Output, build
from pse.recipe import fitting
from pse.recipe.options import Context, add_arguments, context
from pse.recipe.separation import count, features, separators, training
from pse.recipe.separation.layout import System, conditions, speech_sets
from tests.recipe_place import ROOT
from tests.speech_toy import RATE, toy_voices

NET = {"name": "blstm_embedding", "hidden_size": 8, "num_layers": 1, "embedding_size": 8}
REFINER = {
    "name": "cluster_refiner", "net": NET, "num_filters": 8, "bottleneck_channels": 4, "hidden_channels": 4,
    "skip_channels": 4, "num_blocks": 1, "num_repeats": 1,
}  # fmt: skip
# Voices of toy_voices have bands of their own, 450 Hz wide.
CONFIG = """
mixture:
  max_duration_s: 2
  tests: {closed_2: {speech: closed}}
pretrain:
  model: {name: blstm_embedding, hidden_size: 8, num_layers: 1, embedding_size: 8}
  methods:
    bins: {objective: {name: deep_clustering}}
separate:
  clustering:
    loud: {mode: communities, count: COUNT, threshold_db: -15, communities: {method: kmeans, num_nodes: 150NULLS}}
count: {max_count: 2, num_mixtures: 2}
"""


def made(tmp_path: Path, how: str = "estimated", nulls: str = "") -> Context:
    """The context of that config."""
    path = tmp_path / "closed.yaml"
    path.write_text(CONFIG.replace("COUNT", how).replace("NULLS", nulls))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    roots = [x for d in ("data", "dump", "exp") for x in (f"--{d}dir", str(tmp_path / d))]
    recipe = ROOT / "egs" / "wsj0_mix_cl_modularity"
    argv = ["--recipe", "separation", "--recipe_dir", str(recipe), "--config", str(path), "--tag", "t", *roots]
    return context(parser.parse_args(argv), argv)


class Bands(torch.nn.Module):
    """Embeddings by the band of a bin: those of ideal clusters."""

    def __init__(self) -> None:
        super().__init__()
        inner = build(NET, "test")
        self.transform, self.sample_rate, self.normalize = inner.transform, RATE, "rms"
        hz = torch.arange(129) * RATE / 256
        self.own = torch.eye(8)[((hz - 75) / 450).long().clamp(0, 7)]

    def forward(self, mix: Tensor) -> Output:
        frames = self.transform.num_frames(mix.shape[1])
        return Output(embeddings=self.own[None, :, None].expand(len(mix), -1, frames, -1))


def scene(*speakers: int) -> tuple[Any, Scene]:
    """A mixture of such toy speakers, and what stands for its description."""
    cache = toy_voices().cache
    sources = np.stack([cache.read(f"s{s}u0")[: 2 * RATE] for s in speakers])
    return SimpleNamespace(id="a"), Scene(sources.sum(0), sources)


@pytest.mark.parametrize("how", ["estimated", "known"])
def test_speech_that_counting_reads_is_prepared_where_only_closed_speakers_are_tested(how: str, tmp_path: Path) -> None:
    ctx = made(tmp_path, how)
    tasks = count.tasks(ctx)
    assert len(tasks) == (how == "estimated")
    assert ("open" in speech_sets(ctx)) == (how == "estimated")
    prepared = {path for task in features.tasks(ctx) for path in task.outputs}
    read = {path for task in tasks for path in task.inputs if ctx.dump in path.parents}
    assert read <= prepared


def test_a_test_against_chance_needs_no_calibration(tmp_path: Path) -> None:
    decided = [count.decides(made(tmp_path, nulls=nulls), c) for nulls in ("", ", num_nulls: 19")
               for c in conditions(made(tmp_path))]  # fmt: skip
    assert decided == [True, False]


def test_numbers_are_told_from_the_nodes_that_are_clustered_in_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx, heard, mixes, net = made(tmp_path), [], [], Bands()
    find = communities.find

    def spy(vectors: Tensor, weights: Tensor, how: Communities, **more: Any) -> Any:
        heard.append(weights)
        return find(vectors, weights, how, **more)

    def hearing(mix: Tensor) -> Output:
        mixes.append(mix)
        return net(mix)

    listening = SimpleNamespace(transform=net.transform, normalize=net.normalize)
    monkeypatch.setattr(fitting, "load", lambda *_: _Called(listening, hearing))
    monkeypatch.setattr(count, "voices", lambda *_: toy_voices())
    monkeypatch.setattr(communities, "find", spy)
    monkeypatch.setattr(clustering, "find", spy)
    told = list(count._counted(ctx, ctx.config, System("bins"), "open", 0.0))
    assert [number for number, _ in told] == [1, 1, 2, 2] and len(heard) == len(mixes) == 4
    counted = list(heard)
    for mix, before in zip(mixes, counted, strict=True):
        spectrum = net.transform.stft(mix / mix.square().mean().sqrt())
        clustering.clustered(net(mix).embeddings, spectrum, None, ctx.config.separate.clustering["loud"], ["a"])
        assert torch.equal(heard[-1], before) and 0 < before.sum() < before.numel()


class _Called:
    """A net by its parts."""

    def __init__(self, parts: SimpleNamespace, call: Any) -> None:
        self.__dict__.update(vars(parts))
        self.call = call

    def __call__(self, mix: Tensor) -> Output:
        return self.call(mix)


def _refiner() -> Model:
    torch.manual_seed(0)
    return build(REFINER, "test").eval()


@pytest.mark.parametrize("mode", ["global", "communities"])
@pytest.mark.parametrize("more", [{"soft": True, "hardness": 9.0}, {"soft": True, "ratio": True}, {"silent": "none"}])
def test_a_refiner_hears_what_it_was_trained_on(
    mode: str, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, heard, (spec, mixed) = _refiner(), [], scene(0, 5)
    ctx, options = SimpleNamespace(ngpu=0), Communities("kmeans", num_nodes=150)

    def spy(spectrum: Tensor, masks: Tensor, *rest: Any) -> Tensor:
        heard.append(masks)
        return masked(spectrum, masks, *rest)

    monkeypatch.setattr(separators, "masked", spy)
    with torch.no_grad():
        for keys in ({}, more):
            how = Clustering(mode, communities=options, **keys)
            separators.model_separator(ctx, model, how, True)(spec, mixed, 2)
    # In training they are soft masks of all bins.
    assert torch.equal(*heard) and len(heard[1].unique()) > 2
    assert torch.allclose(heard[1].sum(1), torch.ones_like(heard[1][:, 0]))


def test_a_mixture_of_more_speakers_than_are_looked_for_has_a_note() -> None:
    ctx, (spec, mixed) = SimpleNamespace(ngpu=0), scene(0, 2, 5)
    told = []
    for bound in (2, 6):
        options = Communities("kmeans", GraphOptions("knn"), max_clusters=bound, num_nodes=300, min_apart=0.3)
        how = Clustering("communities", count="estimated", communities=options)
        told.append(separators.model_separator(ctx, Bands(), how, True)(spec, mixed, 3)[1])
    assert told[0]["count"] == 2 and told[0]["note"] == "at least 2 speakers: raise max_clusters"
    assert told[1]["count"] > 2


@given(st.integers(0, 99), st.floats(0, 1))
def test_embeddings_that_are_ideal_to_a_part_keep_length_and_join_their_speakers(seed: int, part: float) -> None:
    random = torch.Generator().manual_seed(seed)
    vectors = functional.normalize(torch.randn(1, 60, 6, generator=random), dim=-1)
    whose = functional.one_hot(torch.arange(60) % 3, 3)[None].float()
    purer = count._purified(vectors, whose, part)
    assert torch.allclose(purer.norm(dim=-1), torch.ones(1, 60), atol=1e-5)
    if part == 1:
        assert torch.equal(purer, functional.pad(whose, (0, 3)))
        assert count._purity(purer, torch.ones(1, 60), whose[0]) == pytest.approx(1)
    if part == 0:
        assert torch.allclose(purer, vectors, atol=1e-6)


def test_purer_embeddings_are_purer() -> None:
    random = torch.Generator().manual_seed(0)
    vectors = functional.normalize(torch.randn(1, 900, 8, generator=random), dim=-1)
    whose = functional.one_hot(torch.arange(900) % 3, 3)[None].float()
    found = [count._purity(count._purified(vectors, whose, p), torch.ones(1, 900), whose[0]) for p in (0, 0.3, 0.6)]
    assert found[0] < 0.1 < found[1] < found[2] and found[2] > 0.9


def test_ideal_embeddings_need_an_axis_for_each_speaker() -> None:
    with pytest.raises(PseError, match="4 speakers have no axis each in 3 dimensions"):
        count._purified(torch.ones(1, 4, 3), torch.eye(4)[None], 0.5)


def test_methods_of_a_kind_are_validated_on_the_same_mixtures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = made(tmp_path)
    monkeypatch.setattr(training, "voices", lambda *_: toy_voices())
    one, other, alone = (
        replace(ctx.config.pretrain.methods["bins"], num_speakers=n) for n in ([1, 2, 3], [1, 2, 3], [1])
    )
    monkeypatch.setattr(training, "method_of", lambda _, system: {"a": one, "b": other, "c": alone}[system.method])
    heard = {n: [spec.id for spec, _ in training._valid(ctx, ctx.config, System(n))] for n in "abc"}
    sounds = {n: [s.mix.sum() for _, s in training._valid(ctx, ctx.config, System(n))] for n in "abc"}
    assert heard["a"] == heard["b"] and sounds["a"] == sounds["b"] != sounds["c"]
