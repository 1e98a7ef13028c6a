"""What separates one mixture: a net, with clusters where it gives embeddings, or a baseline."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pse.baselines.base import Baseline, Scene
from pse.clustering.options import Clustering
from pse.config import bind
from pse.data.cache import AudioCache
from pse.data.mixture import MixtureSpec
from pse.dsp.stft import STFT, speech_stft
from pse.errors import PseError
from pse.inference.clustering import cluster_masks, in_oracle_order, masked
from pse.models.base import measure_level
from pse.recipe.options import Context
from pse.registry import find


def model_separator(ctx: Context, net: Any, how: Clustering | None, embeds: bool) -> Any:
    """Separates by a net: its wavs (how: None), clusters of its embeddings, or its masks by segments."""
    device = torch.device("cuda" if ctx.ngpu and torch.cuda.is_available() else "cpu")
    net = net.to(device)

    def split(spec: MixtureSpec, sources: np.ndarray, num_speakers: int) -> np.ndarray:
        signals = torch.from_numpy(sources).to(device)
        mix = signals.sum(0, keepdim=True)
        out = net(mix)
        if how is None:
            return out.wavs[0].float().cpu().numpy()
        level = measure_level(mix, net.normalize)
        spectra = net.transform.stft(torch.cat([mix, signals]) / level)
        if embeds:
            masks = cluster_masks(out.embeddings, spectra[:1], num_speakers, how, [spec.id], spectra[None, 1:])
        else:
            masks = in_oracle_order(out.masks[0], spectra[0], spectra[1:], how.segment_frames)[None]
        return (masked(spectra[:1], masks, net.transform, mix.shape[1])[0] * level).cpu().numpy()

    return split


def baseline_separator(ctx: Context, config: Any, mapping: dict[str, Any], speech: str) -> Any:
    """Separates by a baseline of pse.baselines, on the STFT of the nets; speech: the set of the mixtures."""
    rate = config.sample_rate
    transform = speech_stft(rate)
    baseline = make_baseline(mapping, transform, AudioCache(ctx.dump / "train"))
    speaker = AudioCache(ctx.dump / speech).speaker

    def split(spec: MixtureSpec, sources: np.ndarray, num_speakers: int) -> np.ndarray:
        mix = sources.sum(0)
        spectra = transform.stft(torch.from_numpy(np.concatenate([mix[None], sources])))
        masks = baseline.masks(Scene(spec.id, mix, rate, spectra, [speaker[s.utt] for s in spec.sources]))
        return masked(spectra[:1], masks[None], transform, len(mix))[0].numpy()

    return split


def make_baseline(mapping: dict[str, Any], transform: STFT, cache: Any) -> Baseline:
    """The baseline of a config's mapping {name: .., **options}. Raises PseError for unknown ones."""
    plugin, options = bound_baseline(mapping, "baseline")
    return plugin(options, transform, cache)


def bound_baseline(mapping: dict[str, Any], place: str) -> tuple[type[Baseline], Any]:
    """Class and options of a config's mapping. Raises PseError for unknown names and values."""
    if "name" not in mapping:
        raise PseError("the baseline has no name", place, "write e.g. baseline: {name: oracle, mask: ibm}")
    plugin = find("baseline", mapping["name"], place)
    return plugin, bind(plugin.Options, {k: v for k, v in mapping.items() if k != "name"}, place)
