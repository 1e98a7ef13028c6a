"""What separates one mixture: a net, with clusters where it gives embeddings, or a baseline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pse.baselines.base import Baseline
from pse.baselines.base import Scene as Heard
from pse.clustering.communities import Found
from pse.clustering.modularity import normalised_mutual_information
from pse.clustering.options import HARDNESS, Clustering
from pse.config import bind
from pse.data.cache import AudioCache
from pse.data.mixture import MixtureSpec
from pse.data.scene import Scene
from pse.dsp.stft import STFT, speech_stft
from pse.errors import PseError
from pse.inference.clustering import Nodes, clustered, in_oracle_order, masked
from pse.inference.recording import embedding_net
from pse.losses.activity import activity, bins, dominant_source
from pse.models.base import measure_level
from pse.recipe.options import Context
from pse.registry import find


def model_separator(ctx: Context, net: Any, how: Clustering | None, embeds: bool) -> Any:
    """Separates by a net: its wavs (how: None), clusters of its embeddings, or its masks by segments.

    A net that refines makes the clusters of its own embeddings better.
    """
    device = torch.device("cuda" if ctx.ngpu and torch.cuda.is_available() else "cpu")
    net = net.to(device)
    embedding = embedding_net(net)
    if how is not None and hasattr(net, "refine"):
        # Whatever else a way of clustering gives: it has learnt from soft masks of all bins.
        how = replace(how, soft=True, ratio=False, hardness=HARDNESS, silent="nearest")

    def split(spec: MixtureSpec, scene: Scene, num_speakers: int) -> tuple[np.ndarray, dict[str, Any]]:
        signals = torch.from_numpy(scene.sources).to(device)
        mix = torch.from_numpy(scene.mix).to(device)[None]
        out = (net if how is None else embedding)(mix)
        if how is None:
            return out.wavs[0].float().cpu().numpy(), {}
        level = measure_level(mix, net.normalize)
        spectra = net.transform.stft(torch.cat([mix, signals]) / level)
        told: dict[str, Any] = {}
        if embeds:
            masks, found = clustered(
                out.embeddings, spectra[:1], num_speakers, how, [spec.id], spectra[None, 1:], Nodes.of(embedding, out)
            )  # fmt: skip
            told = _told(masks, spectra, found)
        else:
            masks = in_oracle_order(out.masks[0], spectra[0], spectra[1:], how.segment_frames)[None]
        wavs = masked(spectra[:1], masks, net.transform, mix.shape[1]) * level
        if hasattr(net, "refine"):
            wavs = net.refine(mix, wavs)
        return wavs[0].cpu().numpy(), told

    return split


def _told(masks: torch.Tensor, spectra: torch.Tensor, found: list[Found]) -> dict[str, Any]:
    """What is known of a recording's clusters beside its sound: how many, how pure, how modular."""
    magnitudes = spectra.abs()
    active = bins(activity(magnitudes[None, :1], rule="any_source"))[0]
    whose, truth = (bins(x)[0].argmax(-1)[active] for x in (masks, dominant_source(magnitudes[None, 1:])))
    told: dict[str, Any] = {"count": masks.shape[1]}
    if len(whose):
        told["nmi"] = round(normalised_mutual_information(whose, truth), 4)
    for one in found:
        about = {"modularity": one.modularity, "conductance": one.conductance, "edge_share": one.edge_share}
        told |= {k: round(v, 4) for k, v in (about | {"isolated_share": one.isolated_share}).items()}
        if one.note is not None:
            told["note"] = one.note
    return told


def baseline_separator(ctx: Context, config: Any, mapping: dict[str, Any], speech: str) -> Any:
    """Separates by a baseline of pse.baselines, on the STFT of the nets; speech: the set of the mixtures."""
    rate = config.sample_rate
    plugin, options = bound_baseline(mapping, "baseline")
    own = getattr(options, "n_fft", None)
    transform = speech_stft(rate) if own is None else STFT(own, options.hop, "sqrt_hann")
    baseline = plugin(options, transform, AudioCache(ctx.dump / "train"))
    speaker = AudioCache(ctx.dump / speech).speaker

    def split(spec: MixtureSpec, scene: Scene, num_speakers: int) -> tuple[np.ndarray, dict[str, Any]]:
        spectra = transform.stft(torch.from_numpy(np.concatenate([scene.mix[None], scene.sources])))
        noise = None if scene.noise is None else transform.stft(torch.from_numpy(scene.noise[None]))[0]
        masks = baseline.masks(Heard(spec.id, scene.mix, rate, spectra, [speaker[s.utt] for s in spec.sources], noise))
        return masked(spectra[:1], masks[None], transform, len(scene.mix))[0].numpy(), {}

    return split


def bound_baseline(mapping: dict[str, Any], place: str) -> tuple[type[Baseline], Any]:
    """Class and options of a config's mapping. Raises PseError for unknown names and values."""
    if "name" not in mapping:
        raise PseError("the baseline has no name", place, "write e.g. baseline: {name: oracle, mask: ibm}")
    plugin = find("baseline", mapping["name"], place)
    return plugin, bind(plugin.Options, {k: v for k, v in mapping.items() if k != "name"}, place)
