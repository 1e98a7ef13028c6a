"""The embedded corpus as a WSJ0 tree: what is read of it is what it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pse.corpora import librispeech, mini_wsj0, wsj0
from pse.io import audio, sound


def _librispeech(root: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = []
    # 19 and 26 are target speakers, 32 and 60 are not.
    for speaker, sex in (("19", "F"), ("26", "M"), ("32", "F"), ("60", "M")):
        lines.append(f"{speaker} | {sex} | train-clean-100 | 1 | somebody")
        for n in range(2):
            path = root / "train-clean-100" / speaker / "1" / f"{speaker}-1-{n:04d}.flac"
            audio.write(path, 0.1 * rng.standard_normal(16000).astype(np.float32), 16000)
    (root / "SPEAKERS.TXT").write_text("\n".join(lines) + "\n")
    return root


def test_the_tree_is_read_as_wsj0_with_sexes_sets_and_samples(tmp_path: Path) -> None:
    source = _librispeech(tmp_path / "LibriSpeech")
    tree = mini_wsj0.lay_out(source, tmp_path / "wsj0")
    found = wsj0.scan(tree)
    assert [(r.speaker, r.category, r.split) for r in found[::2]] == [
        ("000", "F", "si_dt_05"), ("001", "M", "si_et_05"), ("002", "F", "si_tr_s"), ("003", "M", "si_tr_s")
    ]  # fmt: skip
    originals = librispeech.scan(source, need_targets=False)
    for recording, original in zip(found, originals, strict=True):
        samples, rate = sound.read(recording.path)
        assert rate == sound.probe(recording.path).sample_rate == 16000
        assert np.array_equal(samples, audio.read(original.path)[0])


def test_a_tree_that_is_there_is_left_alone_and_one_of_other_speech_made_anew(tmp_path: Path) -> None:
    source = _librispeech(tmp_path / "LibriSpeech")
    tree = mini_wsj0.lay_out(source, tmp_path / "wsj0")
    before = (tree / "si_tr_s").stat().st_mtime_ns
    assert mini_wsj0.lay_out(source, tree) == tree and (tree / "si_tr_s").stat().st_mtime_ns == before
    (source / "train-clean-100" / "60" / "1" / "60-1-0001.flac").unlink()
    assert len(wsj0.scan(mini_wsj0.lay_out(source, tree))) == 7


def test_a_recording_of_another_rate_is_resampled(tmp_path: Path) -> None:
    source = _librispeech(tmp_path / "LibriSpeech")
    path = next(mini_wsj0.lay_out(source, tmp_path / "wsj0").rglob("*.wv1"))
    assert len(sound.read(path, 8000)[0]) == 8000
