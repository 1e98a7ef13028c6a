"""Separating recordings of any length: one speaker stays the same one, whatever the chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pse.commands.separate import separate_file
from pse.errors import PseError
from pse.inference import separation
from pse.inference.package import load_network, save_package
from pse.io import audio
from pse.models.base import Output, build
from pse.scoring.metrics import si_sdr
from tests.speech_toy import RATE, ToySpeech

NET = {"name": "blstm_embedding", "hidden_size": 8, "num_layers": 1, "embedding_size": 4}


def separate(*args: Any, **options: Any) -> np.ndarray:
    """The signals alone."""
    return separation.separate(*args, **options).wavs


class ByPitch(torch.nn.Module):
    """Embeddings that tell bins below 1 kHz from those above: ideal for a low and a high voice."""

    def __init__(self) -> None:
        super().__init__()
        made = build(NET, "test")
        self.sample_rate, self.normalize, self.transform = RATE, "rms", made.transform

    def forward(self, mix: torch.Tensor) -> Output:
        low = torch.arange(129) < 32
        own = torch.stack([low, ~low], 1).float()
        return Output(embeddings=own[None, :, None].expand(len(mix), -1, self.transform.num_frames(mix.shape[1]), -1))


@pytest.fixture
def voices() -> np.ndarray:
    """A voice at 300 Hz and one at 2550 Hz, for 9 s."""
    toy = ToySpeech(6, 4)
    return np.stack([np.concatenate([toy.read(f"s{s}u{u}")[:18000] for u in range(4)]) for s in (0, 5)])


def _gains(wavs: np.ndarray, voices: np.ndarray) -> list[float]:
    order = (0, 1) if si_sdr(voices[0], wavs[0]) > si_sdr(voices[0], wavs[1]) else (1, 0)
    return [si_sdr(v, wavs[o]) for v, o in zip(voices, order, strict=True)]


@pytest.mark.parametrize("chunk_s", [30.0, 2.0])
@pytest.mark.parametrize("asked", [2, None])
def test_two_voices_come_apart_in_one_piece_or_in_many(
    voices, chunk_s: float, asked: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(separation, "CHUNK_S", chunk_s)
    wavs = separate(ByPitch(), voices.sum(0), RATE, asked)
    assert wavs.shape == voices.shape
    assert min(_gains(wavs, voices)) > 12


def test_chunks_of_a_mask_net_go_on_in_one_order(voices, monkeypatch: pytest.MonkeyPatch) -> None:
    class Swapping(ByPitch):
        """Gives the two voices, in another order at every call."""

        calls = 0

        def forward(self, mix: torch.Tensor) -> Output:
            spectrum = self.transform.stft(mix)
            low = (torch.arange(129) < 32)[None, :, None]
            wavs = [self.transform.istft(spectrum * mask, mix.shape[1]) for mask in (low, ~low)]
            self.calls += 1
            return Output(wavs=torch.stack(wavs[:: (-1) ** self.calls], 1))

    monkeypatch.setattr(separation, "CHUNK_S", 2.0)
    assert min(_gains(separate(Swapping(), voices.sum(0), RATE), voices)) > 12
    with pytest.raises(PseError, match="3 speakers are asked of a model of 2"):
        separate(Swapping(), voices.sum(0), RATE, 3)


def test_what_comes_out_adds_up_to_the_recording_at_its_rate_length_and_level(voices) -> None:
    torch.manual_seed(0)
    model, samples = build(NET, "test").eval(), audio.resample(voices.sum(0), RATE, 11025)
    wavs = separate(model, samples, 11025, 3)
    assert wavs.shape == (3, len(samples))
    # Above 4 kHz the model hears nothing.
    kept = audio.resample(audio.resample(samples, 11025, RATE), RATE, 11025)[: len(samples)]
    assert np.abs(wavs.sum(0) - kept).max() < 1e-4
    assert np.allclose(separate(model, 0.01 * samples, 11025, 3), 0.01 * wavs, atol=1e-5)


@pytest.mark.parametrize("num_samples", [0, 1, 100])
def test_silence_and_scraps_are_separated_into_themselves(num_samples: int) -> None:
    model = build(NET, "test").eval()
    for samples in (np.zeros(num_samples, np.float32), np.full(num_samples, 0.1, np.float32)):
        wavs = separate(model, samples, RATE, 2)
        assert wavs.shape == (2, num_samples) and np.isfinite(wavs).all()


@pytest.mark.parametrize("masks", [0, 2])
def test_what_is_done_of_a_long_recording_is_told(voices, masks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(separation, "CHUNK_S", 2.0)
    told: list[float] = []
    separate(build(NET | {"num_masks": masks}, "test").eval(), voices.sum(0), RATE, 2, progress=told.append)
    assert len(told) == (5 if masks else 10) and told == sorted(told) and told[-1] == 1


def test_masks_of_a_net_are_used_where_it_has_as_many_and_its_clusters_otherwise(voices) -> None:
    torch.manual_seed(0)
    model = build(NET | {"num_masks": 2}, "test").eval()
    with torch.no_grad():
        masked = model(torch.from_numpy(voices.sum(0))[None]).wavs[0].numpy()
    for asked in (None, 2):
        assert np.abs(separate(model, voices.sum(0), RATE, asked) - masked).max() < 1e-5
    assert len(separate(model, voices.sum(0), RATE, 3)) == 3
    assert separate(model, np.zeros(8000), RATE, 6).shape == (6, 8000)


def test_speakers_are_counted_as_the_package_says(tmp_path: Path, voices) -> None:
    model = build(NET, "test").eval()
    for count in (4, 1):
        # Whatever the eigenvalues are.
        reading = {"weights": [[0.0]] * 5, "biases": [float(c == count) for c in range(1, 6)]}
        counting = {"estimator": "eigenvalues", "calibration": reading}
        save_package(tmp_path / "m", model, NET, "card", counting)
        assert load_network(tmp_path / "m").counting == counting
        assert len(separate(load_network(tmp_path / "m"), voices.sum(0), RATE)) == count


def test_bad_input_is_one_line() -> None:
    model = build(NET, "test").eval()
    for samples, count, told in (
        (np.zeros((2, 9)), 2, "mix it to mono"), (np.full(9, np.nan), 2, "NaN"), (np.zeros(9), 1, "give 2 to 99")
    ):  # fmt: skip
        with pytest.raises(PseError, match=told):
            separate(model, samples, RATE, count)


def test_speakers_of_an_earlier_run_are_gone_where_results_may_be_replaced(tmp_path: Path, voices) -> None:
    audio.write(tmp_path / "in.wav", voices.sum(0) / 2, RATE)
    out = tmp_path / "out"
    for number in (3, 4, 6):
        audio.write(out / f"in_{number}.wav", voices[0], RATE)
    separate_file(ByPitch(), tmp_path / "in.wav", out / "in.wav", 2)
    assert sorted(p.name for p in out.iterdir()) == [*(f"in_{n}.wav" for n in (1, 2, 3, 4, 6)), "in_residual.wav"]
    separate_file(ByPitch(), tmp_path / "in.wav", out / "in.wav", 2, overwrite=True)
    assert sorted(p.name for p in out.iterdir()) == [*(f"in_{n}.wav" for n in (1, 2, 6)), "in_residual.wav"]


def test_a_file_becomes_one_file_a_speaker(tmp_path: Path, voices) -> None:
    audio.write(tmp_path / "in.wav", voices.sum(0) / 2, RATE)
    told, seconds, _ = separate_file(ByPitch(), tmp_path / "in.wav", tmp_path / "out" / "in.wav", 2)
    assert seconds == 9.0 and told.endswith("in_1.wav .. _2.wav")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["in_1.wav", "in_2.wav", "in_residual.wav"]
    assert {len(audio.read(p)[0]) for p in (tmp_path / "out").iterdir()} == {72000}
