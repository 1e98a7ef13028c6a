"""One's own voice and noises, as people have them: any rate, two channels, odd names, a file too short."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from pse.data.cache import AudioCache
from pse.io import audio
from tests.recipe_place import Place

pytestmark = pytest.mark.slow


def recordings(finished: Place, root: Path) -> Path:
    """The synthesised reader 19 as a stereo recording at 44.1 kHz, with a clipped and a too short file."""
    voice = root / "my voice's recordings"
    sources = sorted((finished.root / "downloads/mini/LibriSpeech/train-clean-100/19").rglob("*.flac"))
    for number, source in enumerate(sources):
        samples, _ = audio.read(source, 44100)
        gain = 20.0 if number == 0 else 1.0
        both = np.clip(np.stack([samples, 0.5 * samples], axis=1) * gain, -1, 1)
        place = voice / "Ann-Marie" / f"take {number}; $(echo).wav"
        place.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(place, both, 44100)
    soundfile.write(voice / "Ann-Marie" / "hm.wav", 0.1 * np.random.default_rng(0).standard_normal(8000), 16000)
    return voice


def test_own_recordings_take_the_place_of_the_published_speakers(finished: Place, tmp_path: Path) -> None:
    place = Place(tmp_path)
    corpora, voice = finished.root / "downloads" / "mini", recordings(finished, place.root)
    given = ("--corpus", "own", "--librispeech_dir", str(corpora), "--voice_dir", str(voice))
    noise = ("--noise_dir", str(corpora / "musan" / "noise"), "--set", "data.min_noise_duration_s=4.0")
    told = place.run(*given, *noise, "--stop_stage", "features")
    assert "resampled from 44100 to 16000 Hz" in told and "averaged over 2 channels" in told
    assert "hm.wav" in told and "distorted" in told
    own = place.root / "dump" / "own"
    parts = [AudioCache(own / f"target_{p}") for p in ("test", "val", "train", "preval", "pretrain")]
    assert {s for p in parts for s in p.speaker.values()} == {"Ann-Marie"}
    assert sum(len(p.ids) for p in parts) == len(list((voice / "Ann-Marie").glob("take*")))
    assert all(p.sample_rate == 16000 for p in parts)
    # No reader of the generalist is a target speaker.
    assert "19" not in set(AudioCache(own / "train").speaker.values())


def test_recordings_that_are_all_too_short_are_one_line(finished: Place, tmp_path: Path) -> None:
    place = Place(tmp_path)
    voice = recordings(finished, place.root)
    corpora = finished.root / "downloads" / "mini"
    given = ("--corpus", "own", "--librispeech_dir", str(corpora), "--voice_dir", str(voice))
    noise = ("--noise_dir", str(corpora / "musan" / "noise"), "--set", "data.min_duration_s=60")
    told = place.run(*given, *noise, "--stop_stage", "data", expect=1)
    assert len([line for line in told.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in told
