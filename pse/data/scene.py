"""Scenes: speakers at a microphone, with their room and with noise, and what a separator should make of them.

Noise is added as in WHAM! (Wichern et al., 1907.01160): its level is set against that of the louder speaker,
here by their powers (WHAM! measures loudness). It is as it was recorded, in whatever room that was.
Rooms are those of `pse.data.rooms`, as in WHAMR! (Maciejewski et al., 1910.10279).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import oaconvolve

from pse.data.cache import AudioCache
from pse.data.conditions import Reference
from pse.data.mixture import MixtureSpec, Sources, crop, extent
from pse.data.rooms import direct_responses, impulse_responses
from pse.data.wsj0_mix import PEAK
from pse.dsp.snr import gain_for_snr, power
from pse.errors import PseError, first_three


@dataclass(frozen=True)
class Scene:
    """mix [T]; sources [S, T]: what is to be separated; noise [T] or None; all float32; speakers: whose sources.

    The mix is the sum of the speakers as the microphone hears them, which the sources are unless direct sound
    was asked for, plus the noise.
    """

    mix: np.ndarray
    sources: np.ndarray
    noise: np.ndarray | None = None
    speakers: tuple[str, ...] = ()


def render_scene(spec: MixtureSpec, sources: Sources, reference: Reference = "reverberant") -> Scene:
    """Render a description with its room and noise.

    reference: the sources of the scene are the speakers as they are heard in the room, or their direct sound
    alone, delayed as it is there; without a room they are as recorded. Raises PseError naming the mixture for
    a silent noise or none but silent speakers, and for a description that does not fit the caches or has a
    premixture noise; EnvironmentFault when a room needs what is not installed.
    """
    _check(spec, sources)
    dry = np.stack([crop(sources.speech, s, spec.num_samples, loop=False) for s in spec.sources])
    images = references = dry
    if spec.room is not None:
        rate = sources.speech.sample_rate
        images = _heard(dry, impulse_responses(spec.room, rate))
        references = images if reference == "reverberant" else _heard(dry, direct_responses(spec.room, rate))
    mix, noise = images.sum(0), None
    if spec.noise is not None:
        noise = crop(sources.noise, spec.noise, spec.num_samples, loop=True)
        try:
            noise = noise * np.float32(gain_for_snr(_louder(spec, sources, images), noise, spec.snr_db))
        except ValueError as error:
            raise PseError(f"mixture {spec.id} cannot be rendered: {error}", fix="draw another") from error
        mix = mix + noise
    return Scene(mix, references, noise, tuple(sources.speech.speaker[s.utt] for s in spec.sources))


def render_sources(spec: MixtureSpec, cache: AudioCache) -> np.ndarray:
    """The sources [S, T] float32 of a mixture, which is their sum.

    Raises PseError for a description with noise or a room, whose mixture is not: `render_scene` makes that.
    """
    if spec.room is not None or spec.noise is not None or spec.premixture_noise is not None:
        what = f"mixture {spec.id} has noise or a room, and is not the sum of its sources"
        raise PseError(what, fix="render it with render_scene, or ask for no noise_snr_db and no rt60_s")
    return np.stack([crop(cache, s, spec.num_samples, loop=False) for s in spec.sources])


def peak_scaled(
    spec: MixtureSpec, cache: AudioCache, noise: AudioCache | None = None, reference: Reference = "reverberant"
) -> MixtureSpec:
    """The mixture with one gain for all: the largest sample of the sum and of the sources becomes 0.9.

    noise: the cache of a description with noise, which takes the same gain, as its level is relative.
    Raises PseError for a silent source.
    """
    scene = render_scene(spec, Sources(cache, noise), reference)
    silent = [s.utt for s, x in zip(spec.sources, scene.sources, strict=True) if not x.any()]
    if silent:
        raise PseError(f"{first_three(silent)} is silent where it is mixed", spec.id, "leave the recording out")
    scale_db = 20 * math.log10(PEAK / max(float(np.abs(scene.mix).max()), float(np.abs(scene.sources).max())))
    return replace(spec, sources=tuple(replace(s, gain_db=s.gain_db + scale_db) for s in spec.sources))


def _check(spec: MixtureSpec, sources: Sources) -> None:
    """Refuse what would be rendered as something else than is described."""
    what = None
    if spec.premixture_noise is not None:
        what = "has a premixture noise, which a scene has not"
    elif spec.noise is not None and sources.noise is None:
        what = "has noise, and no cache of noises is given"
    elif spec.noise is not None and sources.noise.sample_rate != sources.speech.sample_rate:
        what = f"has speech of {sources.speech.sample_rate} Hz and noise of {sources.noise.sample_rate} Hz"
    elif spec.room is not None and len(spec.room.sources_m) != len(spec.sources):
        what = f"has {len(spec.sources)} speakers and a room for {len(spec.room.sources_m)}"
    if what is not None:
        raise PseError(f"mixture {spec.id} {what}", fix="run the features stage again")


def _heard(dry: np.ndarray, responses: Sequence[np.ndarray]) -> np.ndarray:
    """[S, T] through a response each; what rings on after the mixture's end is cut."""
    heard = [oaconvolve(x.astype(np.float64), h)[: len(x)] for x, h in zip(dry, responses, strict=True)]
    return np.stack(heard).astype(np.float32)


def _louder(spec: MixtureSpec, sources: Sources, images: np.ndarray) -> np.ndarray:
    """The speaker of the most power while he lasts, and only that stretch: pauses around it are no speech."""
    spoken = [x[extent(sources.speech, s, spec.num_samples)] for x, s in zip(images, spec.sources, strict=True)]
    return max(spoken, key=power)
