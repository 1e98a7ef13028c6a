"""The class with the call of ESPnet's: a batch in, a list over speakers out, NumPy or torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import pse
from pse.errors import PseError
from pse.inference import builtin
from tests.packages import EMBEDDING, GRU, PREDICTOR, TASNET, pack, pack_builtin

TWO = TASNET | {"num_sources": 2, "sample_rate": 8000}


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.4, 0.4, shape).astype(np.float32)


@pytest.mark.parametrize(("mapping", "count"), [(EMBEDDING, 3), (TWO, 2), (GRU, 1)])
@pytest.mark.parametrize("fs", [8000, 16000])
def test_a_batch_becomes_a_list_over_speakers(mapping: dict, count: int, fs: int, tmp_path: Path) -> None:
    place, batch = pack(tmp_path / "m", mapping), noise(2, 6000)
    speech = pse.SeparateSpeech(model_file=place, num_speakers=count)
    got, model = speech(batch, fs=fs), pse.load_model(place)
    assert len(got) == count and all(type(s) is np.ndarray and s.shape == (2, 6000) for s in got)
    for row, mix in enumerate(batch):
        if mapping is GRU:
            expected = model.enhance(mix, sample_rate=fs)[None]
        else:
            expected = model.separate(mix, sample_rate=fs, num_speakers=count)
        assert all(np.array_equal(s[row], e) for s, e in zip(got, expected, strict=True))
    of_torch = speech(torch.from_numpy(batch), fs)
    assert all(torch.equal(a, torch.from_numpy(b)) for a, b in zip(of_torch, got, strict=True))
    (alone, *_) = speech(batch[0], fs)
    assert alone.shape == (1, 6000) and np.array_equal(alone[0], got[0][0])


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_where_one_example_has_fewer_speakers_it_has_zeros(kind, tmp_path: Path, monkeypatch) -> None:
    speech = pse.SeparateSpeech(model_file=pack(tmp_path / "m", EMBEDDING), normalize_output_wav=True)
    counts = iter([1, 3])
    monkeypatch.setattr(
        speech.model, "separate",
        lambda x, sample_rate, num_speakers: kind(np.stack([0.5 * np.asarray(x)] * next(counts))), raising=False,
    )  # fmt: skip
    got = [np.asarray(s) for s in speech(kind(noise(2, 800)))]
    assert len(got) == 3 and not got[1][0].any() and not got[2][0].any()
    assert np.abs(got[0]).max(1) == pytest.approx([0.9, 0.9]) and np.abs(got[2][1]).max() == pytest.approx(0.9)


def test_a_tag_is_a_name_a_directory_or_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack_builtin(tmp_path / "weights")
    monkeypatch.setattr(builtin, "PLACE", tmp_path / "weights")
    name = builtin.DEFAULTS["separate"]
    for speech in (pse.SeparateSpeech.from_pretrained(), pse.SeparateSpeech.from_pretrained(name, num_speakers=2),
                   pse.SeparateSpeech.from_pretrained(model_tag=str(tmp_path / "weights" / name))):  # fmt: skip
        assert speech.model.name == name
    assert len(pse.SeparateSpeech.from_pretrained(name, num_speakers=2)(noise(1, 900))) == 2


def test_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    places = {m["name"]: pack(tmp_path / m["name"], m) for m in (GRU, EMBEDDING, PREDICTOR)}
    with pytest.raises(PseError, match="gives no sound"):
        pse.SeparateSpeech(model_file=places["snr_predictor"])
    with pytest.raises(PseError, match="enhances one speaker, not 2"):
        pse.SeparateSpeech(model_file=places["gru_mask"], num_speakers=2)
    speech = pse.SeparateSpeech(model_file=places["blstm_embedding"], num_speakers=2)
    for given, told in ((noise(1, 9, 2), r"\[1, 9, 2\] was given"), ([0.1], "list was given"), (noise(0, 9), "of none"),
                        (np.zeros((1, 9), np.int16), "divide 16-bit")):  # fmt: skip
        with pytest.raises(PseError, match=told) as caught:
            speech(given)
        assert "\n" not in str(caught.value)
    with pytest.raises(TypeError):
        pse.SeparateSpeech("config.yaml", "model.pth")
