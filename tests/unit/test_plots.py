"""Figures: deterministic PNGs, written whole, of levels that are what they say."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pse.errors import EnvironmentFault, PseError
from pse.scoring import plots
from pse.scoring.spectrogram import MOST_FRAMES, RANGE_DB, image, level_db, palette_png, shared_range

RATE = 8_000
RANDOM = np.random.default_rng(0)
SIGNAL = 0.1 * RANDOM.standard_normal(RATE)
FRAMES = 1 + RATE // 256
TRACK = np.linspace(-20, 20, FRAMES)
BINS, VECTORS = RANDOM.standard_normal((9, 12)), RANDOM.standard_normal((9, 12, 5))
LABELS = RANDOM.integers(-1, 3, (9, 12))

FIGURES: dict[str, Callable[..., bytes]] = {
    "learning_curve": lambda **o: plots.learning_curve(
        {"train": [(1, 2.0), (2, 1.0)]}, "loss", best="min", **o
    ),
    "one point": lambda **o: plots.learning_curve(
        {"train": [(1, 2.0)], "valid": []}, "loss", best="min", **o
    ),
    "spectrograms": lambda **o: plots.spectrograms({"a $_{": SIGNAL, "b": 0 * SIGNAL}, RATE, title="t", **o),
    "snr_track": lambda **o: plots.snr_track(SIGNAL, RATE, TRACK, {"w": TRACK > 0}, 256, true_db=TRACK, **o),
    "snr_track alone": lambda **o: plots.snr_track(SIGNAL[:2000], RATE, TRACK, {"w": TRACK > 0}, 256, **o),
    "snr_track long": lambda **o: plots.snr_track(np.tile(SIGNAL, 3), RATE, TRACK, {"w": TRACK > 0}, 768, **o),
    "usable_speech": lambda **o: plots.usable_speech({"19": TRACK, "26": TRACK + 3}, **o),
    "usable_speech of many": lambda **o: plots.usable_speech({str(i): TRACK + i for i in range(7)}, **o),
    "recording_tracks": lambda **o: plots.recording_tracks(
        {"a $_{": TRACK, "b" * 200: np.tile(TRACK, 90)}, {"a $_{": 1, "b" * 200: 90}, {"a $_{": [(0.1, 0.4)]}, "m", **o
    ),
    "trends": lambda **o: plots.trends({"a": [(0, 1.0, 0.2), (5, 2.0, None)], "b": [(3, 1.0, 0.1)]}, "s", **o),
    "trends in decades": lambda **o: plots.trends({"a": [(1e3, 1.0, 0.2), (1e6, 2.0, 0.1)]}, "n", log_x=True, **o),
    "embeddings": lambda **o: plots.embeddings(BINS, LABELS, -LABELS, VECTORS, 1.0, 4000.0, "t", **o),
    "embeddings of silence": lambda **o: plots.embeddings(BINS, 0 * LABELS - 1, LABELS, VECTORS, 1.0, 4e3, **o),
    "embeddings in a plane": lambda **o: plots.embeddings(BINS, LABELS, LABELS, VECTORS[..., :2], 1.0, 4e3, **o),
    "masks": lambda **o: plots.masks({"a": abs(VECTORS.T[:2].swapaxes(1, 2)), "b": BINS[None]}, BINS, 1.0, 4e3, **o),
    "gains of as many": lambda **o: plots.gains({"a": [1.0, 2.0], "b": [3.0, 4.0]}, **o),
    "means": lambda **o: plots.means({"a": {"x": [1.0, 2.0], "y" * 40: [3.0]}, "b": {"x": [2.0]}}, "dB", **o),
    "gains": lambda **o: plots.gains({"a": [1.0, 2.0, 4.0], "a long name, " * 5: [3.0]}, **o),
}


def pixels(png: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_same_picture_each_time_and_in_its_file(name: str, tmp_path: Path) -> None:
    first = FIGURES[name](path=tmp_path / "figure.png")
    assert FIGURES[name]() == first == (tmp_path / "figure.png").read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["figure.png"]
    shown = pixels(first)
    assert shown.shape[1] > 700 and shown.min() < 100 and shown.max() == 255
    assert b"tEXt" not in first and b"tIME" not in first


def test_numbers_at_a_logarithmic_axis_are_short() -> None:
    assert [plots._short(x) for x in (0.5, 1, 22.7, 1000, 169_473, 999_700, 1_234_567)] == [
        "0.5", "1", "22.7", "1k", "169k", "1M", "1.23M"
    ]  # fmt: skip


def test_values_that_are_not_finite_are_left_out_of_a_learning_curve() -> None:
    line = [(1.0, 2.0), (2.0, 1.0)]
    holes = [(1.0, 2.0), (1.5, float("nan")), (1.7, float("inf")), (2.0, 1.0)]
    assert plots.learning_curve({"a": holes}, "loss") == plots.learning_curve({"a": line}, "loss")


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: plots.learning_curve({"a": [(1, float("nan"))]}, "loss", path=path),
        lambda path: plots.spectrograms({}, RATE, path=path),
        lambda path: plots.spectrograms({"a": np.zeros(0)}, RATE, path=path),
        lambda path: plots.masks({"a": BINS}, BINS, 1.0, 4e3, path=path),
        lambda path: plots.gains({}, path=path),
        lambda path: plots.gains({"a": []}, path=path),
        lambda path: plots.means({"a": {}}, "dB", path=path),
        lambda path: plots.means({"a": {"x": []}}, "dB", path=path),
    ],
)
def test_a_figure_of_nothing_is_refused_and_writes_no_file(
    draw: Callable[[Path], bytes], tmp_path: Path
) -> None:
    with pytest.raises(PseError):
        draw(tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_fault_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(EnvironmentFault, match="pip install matplotlib"):
        plots.gains({"a": [1.0]})


def test_curves_are_collected_by_key_and_other_records_are_passed_over() -> None:
    records = [
        {"examples": 10, "train_loss": 3.0},
        {"examples": 20, "train_loss": 2.0, "valid_loss": 2.5},
        {"examples": 20, "train_loss": None},
        {"train_loss": 1.0},
        {"examples": 30, "note": "resumed"},
    ]
    found = plots.curves(records, {"train": "train_loss", "validation": "valid_loss"})
    assert found == {"train": [(10.0, 3.0), (20.0, 2.0)], "validation": [(20.0, 2.5)]}


@pytest.mark.parametrize("frequency_hz", [500, 1_000, 3_125])
def test_a_full_scale_sine_is_at_0_db_in_its_own_bin(frequency_hz: int) -> None:
    level = level_db(np.sin(2 * np.pi * frequency_hz * np.arange(RATE) / RATE), RATE)
    middle = level[:, level.shape[1] // 2]
    bins_per_hz = (len(middle) - 1) / (RATE / 2)
    assert middle.argmax() == round(frequency_hz * bins_per_hz)
    assert middle.max() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("num_samples", [1, 255, RATE, 10 * RATE])
def test_frames_are_centred_on_multiples_of_the_hop(num_samples: int) -> None:
    assert level_db(np.ones(num_samples), RATE, hop_s=0.016).shape == (129, 1 + num_samples // 128)


def test_a_long_signal_has_no_more_frames_than_a_screen_can_show() -> None:
    assert level_db(np.ones(60 * RATE), RATE).shape[1] == MOST_FRAMES + 1


def test_the_range_ends_at_the_loudest_of_all_and_is_finite_on_silence() -> None:
    quiet, loud = np.full((2, 2), -90.0), np.full((2, 2), -12.0)
    assert shared_range([quiet, loud]) == (-12 - RANGE_DB, -12)
    silent = shared_range([level_db(np.zeros(RATE), RATE)])
    assert silent[1] - silent[0] == pytest.approx(RANGE_DB)


def test_a_palette_png_decodes_to_the_colours_of_its_indices() -> None:
    palette = RANDOM.integers(0, 256, (200, 3)).astype(np.uint8)
    indices = RANDOM.integers(0, 200, (7, 31)).astype(np.uint8)
    assert (pixels(palette_png(indices, palette)) == palette[indices]).all()


def test_an_image_has_low_frequencies_at_the_bottom_and_loud_ones_bright() -> None:
    shown = pixels(image(np.array([[0.0, 0.0], [-90.0, -90.0]]), -70, 0)).astype(int).sum(-1)
    assert shown.shape == (2, 2)
    assert (shown[1] > 600).all() and (shown[0] < 20).all()
