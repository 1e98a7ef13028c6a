"""From embeddings to masks: ideal embeddings give ideal masks, and segments are put together by the oracle alone."""

from __future__ import annotations

import pytest
import torch

from pse.clustering.options import Clustering
from pse.dsp.stft import STFT
from pse.errors import PseError
from pse.inference.clustering import Nodes, cluster_masks, clustered, in_oracle_order, masked
from pse.losses.activity import dominant_source
from pse.models.nodes import expanded

SEGMENT = 20


@pytest.fixture
def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mixture [1, K, F], sources [1, 2, K, F] and their ideal masks."""
    random = torch.Generator().manual_seed(0)
    sources = torch.randn(1, 2, 33, 70, generator=random, dtype=torch.complex64)
    return sources.sum(1), sources, dominant_source(sources.abs())


def _agree(masks: torch.Tensor, ideal: torch.Tensor) -> float:
    """Share of bins that are the ideal masks', for the better order."""
    return max((masks == ideal).float().mean().item(), (masks.flip(1) == ideal).float().mean().item())


@pytest.mark.parametrize("mode", ["global", "spectral", "oracle", "oracle_spectral", "online"])
def test_ideal_embeddings_give_the_ideal_masks(scene, mode: str) -> None:
    mixture, sources, ideal = scene
    how = Clustering(mode=mode, segment_frames=SEGMENT)
    assert _agree(cluster_masks(ideal.permute(0, 2, 3, 1), mixture, 2, how, ["a"], sources), ideal) == 1


def test_only_the_oracle_follows_embeddings_that_change_sides_between_segments(scene) -> None:
    mixture, sources, ideal = scene
    swapped = ideal.clone()
    swapped[..., SEGMENT : 2 * SEGMENT] = ideal.flip(1)[..., SEGMENT : 2 * SEGMENT]
    points = swapped.permute(0, 2, 3, 1)
    assert _agree(cluster_masks(points, mixture, 2, Clustering(), ["a"]), ideal) < 0.8
    how = Clustering(mode="oracle", segment_frames=SEGMENT)
    # Whole segments: of a rest the last one would reach back, and be of two minds.
    end = 3 * SEGMENT
    found = cluster_masks(points[:, :, :end], mixture[..., :end], 2, how, ["a"], sources[..., :end])
    assert torch.equal(found, ideal[..., :end])


@pytest.mark.parametrize("soft", [False, True])
def test_masks_that_add_up_to_one_rebuild_the_mixture(soft: bool) -> None:
    random = torch.Generator().manual_seed(1)
    transform, mix = STFT(256, 64, "sqrt_hann"), torch.randn(1, 5000, generator=random)
    spectrum = transform.stft(mix)
    points = torch.nn.functional.normalize(torch.randn(1, *spectrum.shape[1:], 5, generator=random), dim=3)
    masks = cluster_masks(points, spectrum, 3, Clustering(soft=soft), ["a"])
    assert (masked(spectrum, masks, transform, 5000).sum(1) - mix).abs().max() < 2e-6


@pytest.mark.parametrize("mode", ["global", "spectral", "oracle", "online"])
def test_silence_and_very_short_recordings_have_masks(mode: str) -> None:
    for frames in (1, 3, 50):
        nothing = torch.zeros(1, 33, frames, dtype=torch.complex64)
        points = torch.nn.functional.normalize(torch.randn(1, 33, frames, 4), dim=3)
        found = cluster_masks(points, nothing, 2, Clustering(mode=mode), ["a"], torch.stack([nothing, nothing], 1))
        assert torch.equal(found.sum(1), torch.ones(1, 33, frames))


def test_clusters_of_a_recording_do_not_depend_on_the_others(scene) -> None:
    mixture, _, _ = scene
    random = torch.Generator().manual_seed(2)
    points = torch.nn.functional.normalize(torch.randn(3, 33, 70, 6, generator=random), dim=3)
    mixtures = torch.cat([mixture, 2 * mixture.flip(2), mixture.roll(5, 2)])
    ids = ["a", "b", "c"]
    together = cluster_masks(points, mixtures, 2, Clustering(), ids)
    alone = cluster_masks(points[1:2], mixtures[1:2], 2, Clustering(), ["b"])
    assert torch.equal(together[1:2], alone)


def test_online_masks_do_not_change_with_what_comes_later(scene) -> None:
    mixture, _, _ = scene
    points = torch.nn.functional.normalize(torch.randn(1, 33, 70, 6, generator=torch.Generator().manual_seed(3)), dim=3)
    how = Clustering(mode="online", segment_frames=SEGMENT, silent="none")
    whole, later = mixture.clone(), mixture.clone()
    later[..., 3 * SEGMENT :] *= 1000
    first, second = (cluster_masks(points, x, 2, how, ["a"])[..., : 3 * SEGMENT] for x in (whole, later))
    assert torch.equal(first, second)
    # All bins of the mixture are random and above its threshold, so that something is clustered.
    assert first.sum(1).mean() > 0.9


def test_an_option_that_a_mode_cannot_follow_is_refused() -> None:
    for mode in ("online", "spectral", "oracle_spectral"):
        with pytest.raises(ValueError, match="soft masks need"):
            Clustering(mode=mode, soft=True)


def test_masks_that_change_order_between_segments_are_put_in_that_of_the_sources(scene) -> None:
    mixture, sources, ideal = scene
    end = 3 * SEGMENT
    changed = ideal[0, ..., :end].clone()
    changed[..., SEGMENT : 2 * SEGMENT] = ideal[0].flip(0)[..., SEGMENT : 2 * SEGMENT]
    found = in_oracle_order(changed, mixture[0, :, :end], sources[0, ..., :end], SEGMENT)
    assert torch.equal(found, ideal[0, ..., :end])


def test_the_oracle_needs_the_sources(scene) -> None:
    mixture, _, ideal = scene
    with pytest.raises(PseError, match="needs the true sources"):
        cluster_masks(ideal.permute(0, 2, 3, 1), mixture, 2, Clustering(mode="oracle"))


def _ideal_nodes(shape: tuple[int, int], frames: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings of nodes of such a shape, the mixture's spectrum, and the ideal masks of bins."""
    bins = 12
    labels = (torch.arange(-(-bins // shape[0]))[:, None] + torch.arange(-(-frames // shape[1]))) % 2
    embeddings = torch.eye(6)[labels][None]
    masks = torch.stack([labels == n for n in range(2)])[None].float()
    spectrum = torch.randn(1, bins, frames, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)) + 3
    return embeddings, spectrum, expanded(masks, shape, bins, frames)


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (12, 1), (4, 4), (5, 3)])
@pytest.mark.parametrize("mode", ["global", "communities"])
@pytest.mark.parametrize("soft", [False, True])
def test_nodes_of_any_shape_are_clustered_and_their_bins_follow(shape: tuple[int, int], mode: str, soft: bool) -> None:
    how = Clustering(mode=mode, soft=soft)
    embeddings, spectrum, ideal = _ideal_nodes(shape)
    masks = cluster_masks(embeddings, spectrum, 2, how, ["a"], nodes=Nodes(shape))
    assert masks.shape == ideal.shape
    assert _agree(masks.round(), ideal) == 1
    assert torch.allclose(masks.sum(1), torch.ones_like(masks[:, 0]), atol=1e-6)


@pytest.mark.parametrize("mode", ["global", "communities"])
def test_ratio_masks_are_the_squares_of_soft_ones(mode: str) -> None:
    embeddings, spectrum, _ = _ideal_nodes((1, 1))
    random = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(1))
    embeddings = torch.nn.functional.normalize(embeddings + 0.5 * random, dim=-1)
    soft, ratio = (
        cluster_masks(embeddings, spectrum, 2, Clustering(mode=mode, soft=True, ratio=r), ["a"]) for r in (False, True)
    )
    assert torch.allclose(ratio, soft.square() / soft.square().sum(1, keepdim=True), atol=1e-5)
    assert (ratio - soft).abs().max() > 0.05
    with pytest.raises(ValueError, match="set soft: true"):
        Clustering(mode=mode, ratio=True)


def test_slots_of_a_frame_give_a_speaker_what_they_have() -> None:
    slots = torch.rand(1, 3, 12, 30).softmax(1)
    labels = torch.stack([torch.zeros(30), torch.ones(30), torch.ones(30)]).long()
    spectrum = torch.ones(1, 12, 30, dtype=torch.complex64)
    masks = cluster_masks(torch.eye(6)[labels][None], spectrum, 2, Clustering(), ["a"], nodes=Nodes(slots=slots))
    assert torch.allclose(masks.sum(1), torch.ones(1, 12, 30), atol=1e-6)
    alone = slots[0, 0]
    assert min((m - alone).abs().max() for m in masks[0]) < 1e-6


def test_communities_tell_the_number_and_others_end_in_silence() -> None:
    embeddings, spectrum, _ = _ideal_nodes((1, 1))
    one = torch.eye(6)[torch.zeros(12, 40, dtype=torch.int64)][None]
    both, how = torch.cat([embeddings, one]), Clustering(mode="communities", count="estimated")
    masks, found = clustered(both, spectrum.repeat(2, 1, 1), 2, how)
    assert [f.count for f in found] == [2, 1]
    assert masks.shape == (2, 2, 12, 40)
    assert (masks[1, 1] == 0).all() and (masks[1, 0] == 1).all()


def test_segments_need_bins_and_other_modes_a_number() -> None:
    embeddings, spectrum, _ = _ideal_nodes((4, 1))
    with pytest.raises(PseError, match="needs embeddings of bins"):
        cluster_masks(embeddings, spectrum, 2, Clustering(mode="online"), nodes=Nodes((4, 1)))
    with pytest.raises(PseError, match="needs the number of speakers"):
        cluster_masks(embeddings, spectrum, None, Clustering(), nodes=Nodes((4, 1)))
