"""The report: one file, nothing fetched, every string escaped, every sound and picture named."""

from __future__ import annotations

import base64
import io
import wave
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pse.errors import PseError
from pse.scoring import report
from pse.scoring.metrics import Failure
from pse.scoring.players import shared_levels
from pse.scoring.spectrogram import image
from pse.scoring.tables import ScoreRow
from pse.scoring.tracks import MOST_POINTS, Curve, Tracks

RATE = 16_000
VOID = {"meta", "img"}
MARKUP = ['<script>alert("1")</script>', "'><img src=x onerror=y>", '"/><b>', "</style>", "&lt;i>", "\x00<p>"]
# A picture of one pixel is enough where only the page around it is looked at.
PNG = image(np.zeros((1, 1)), -70, 0)


class Page(HTMLParser):
    """Collects the elements of a page; fails on one that is closed out of order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._open = "", []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def sections(text: str = "x") -> list[report.Section]:
    """A page with every kind of section, and `text` in every place that takes text."""
    signal = 0.1 * np.sin(np.arange(800) / 5)
    scores = ScoreRow(text, text, 0.0, {"si_sdr": 1.0}, {"si_sdr": Failure(text)})
    picture = report.Picture(PNG, text, text)
    example = report.Example(text, RATE, {text: signal}, scores, text, [picture])
    return [
        report.Highlights(text, [(text, text)]),
        report.Text(text, [text], [text]),
        report.Table(text, [text, text], [[text, text]], text),
        report.Figures(text, [picture], text),
        report.Examples(text, [example], text),
    ]


@settings(max_examples=30)
@given(text=st.one_of(st.text(), st.sampled_from(MARKUP)).map(lambda text: f"x{text}"))
def test_no_text_can_become_markup(text: str) -> None:
    plain, found = Page(report.page("x", sections("x"))), Page(report.page(text, sections(text), text, text))
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in plain.elements]
    assert [set(a) for _, a in found.elements] == [set(a) for _, a in plain.elements]


def test_the_page_fetches_nothing_and_forbids_to() -> None:
    page = Page(report.page("x", sections()))
    links = [value for _, a in page.elements for name, value in a.items() if name in ("src", "href")]
    assert links and all(link.startswith(("data:image/png;", "data:audio/wav;", "#")) for link in links)
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'") and "http" not in policy
    assert "url(" not in report.STYLE and "@import" not in report.STYLE


def test_every_sound_and_picture_has_a_name_and_every_link_a_target() -> None:
    page = Page(report.page("x", sections()))
    assert page.all("img") and all(a["alt"] for a in page.all("img"))
    assert page.all("audio") and all(a["aria-label"] and "controls" in a for a in page.all("audio"))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"] for a in page.all("a")} <= {f"#{name}" for name in ids}
    assert page.all("html") == [{"lang": "en"}]
    assert all(a["scope"] in ("row", "col") for a in page.all("th"))


def sounds(page: Page) -> list[np.ndarray]:
    found = []
    for attributes in page.all("audio"):
        with wave.open(io.BytesIO(base64.b64decode(attributes["src"].partition(",")[2]))) as file:
            assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (1, RATE, 2)
            found.append(np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767)
    return found


def listen(signals: dict[str, np.ndarray | None]) -> Page:
    return Page(report.page("x", [report.Examples("x", [report.Example("x", RATE, signals)])]))


def test_a_sound_in_the_page_is_the_signal_within_half_a_step_of_16_bits() -> None:
    signals = {"a": np.random.default_rng(0).uniform(-1, 1, 999), "b": np.zeros(5, np.float32)}
    for signal, sound in zip(signals.values(), sounds(listen(signals)), strict=True):
        assert np.abs(signal - sound).max() <= 0.51 / 32767


def test_one_gain_keeps_all_signals_of_an_example_from_clipping_and_is_told() -> None:
    signals = {"loud": np.array([0.0, -2.0, 1.0]), "soft": np.array([0.5, 0.0, 0.0])}
    page = listen(signals)
    for signal, sound in zip(signals.values(), sounds(page), strict=True):
        assert sound == pytest.approx(signal / 2, abs=1 / 32767)
    assert "0.50 of its level" in page.text


@pytest.mark.parametrize("bad", [{}, {"a": np.zeros(0)}, {"a": np.array([np.nan])}, {"a": np.zeros((2, 9))}])
def test_an_example_without_a_playable_sound_is_refused(bad: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(PseError, match="no sound to play"):
        report.write(tmp_path / "x.html", "x", [report.Examples("x", [report.Example("x", RATE, bad)])])
    assert not list(tmp_path.iterdir())


def test_a_table_needs_one_cell_for_each_column() -> None:
    with pytest.raises(PseError, match="one cell for each column"):
        report.page("x", [report.Table("x", ["a", "b"], [["1"]])])


def test_columns_of_numbers_are_set_flush_right_and_others_are_not() -> None:
    rows = [["a", "−1.20 ± 0.30", "12,345", "x1"], ["b", "-", "", "2"]]
    page = Page(report.page("x", [report.Table("x", list("ABCD"), rows)]))
    assert [a.get("class") for a in page.all("td")] == ["number", "number", None] * 2


def test_scores_of_an_example_show_the_change_and_the_reason_of_a_failure() -> None:
    scores = ScoreRow(
        "u1",
        "s",
        0.0,
        {"si_sdr": -1.0, "sdr": 2.0, "pesq": Failure("no pesq"), "estoi": 0.5},
        {"si_sdr": 3.5, "sdr": 1.0, "pesq": Failure("no pesq"), "estoi": Failure("too short")},
    )
    page = report.page("x", [report.Examples("x", [report.Example("x", RATE, {"a": np.ones(9)}, scores)])])
    assert '<td class="number better">+4.50</td>' in page
    assert '<td class="number worse">\u22121.00</td>' in page
    assert page.count("failed: no pesq") == 1 and "<td>failed: too short</td>" in page


def test_twelve_examples_of_4_s_fit_in_10_megabytes_and_are_written_alike_each_time(tmp_path: Path) -> None:
    # White noise is the worst case: nothing else makes a spectrogram that compresses as badly.
    random = np.random.default_rng(0)
    signals = {name: 0.1 * random.standard_normal(4 * RATE) for name in ("input", "output", "reference")}
    examples = [report.Example(f"x{i}", RATE, signals) for i in range(12)]
    for name in ("a.html", "b.html"):
        report.write(tmp_path / name, "x", [report.Examples("x", examples)])
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.html").stat().st_size < 10e6


def test_pictures_of_an_example_share_their_axes_whatever_the_rates_and_lengths() -> None:
    rates = {"a": 8000, "b": 16_000}
    tones = {n: np.sin(2 * np.pi * 1000 * np.arange(r if n == "a" else 2 * r) / r) for n, r in rates.items()}
    levels, seconds, top_hz = shared_levels(tones, rates)
    assert levels["a"].shape == levels["b"].shape and (seconds, top_hz) == (2.0, 8000)
    for level in levels.values():
        assert level[:, 20].argmax() == pytest.approx(1000 / top_hz * (len(level) - 1), abs=0.5)
    ended = levels["a"].shape[1] // 2 + 2
    assert (levels["a"][:, ended:] == -200).all() and levels["b"][:, ended:-2].max(0).min() > -10


def test_a_missing_signal_keeps_its_number_and_has_no_player() -> None:
    page = listen({"a": np.ones(9), "b": None, "c": np.ones(9)})
    assert [a["aria-label"] for a in page.all("audio")] == ["a", "c"]
    assert [("disabled" in a) for a in page.all("button")] == [False, True, False]
    assert page.text.count("no such file") == 1


def test_a_track_stays_on_its_axes_and_has_few_points() -> None:
    values = {"a": np.linspace(-500, 500, 90_001), "b": None}
    (line,) = [
        a["points"] for a in Page(Tracks([Curve("x", "dB", -20, 40, values, 0)], 0.01, 900.0).html()).all("polyline")
        if a["class"].startswith("line")
    ]  # fmt: skip
    points = np.array([[float(v) for v in p.split(",")] for p in line.split()])
    assert len(points) <= MOST_POINTS and (np.diff(points[:, 0]) > 0).all()
    assert points[:, 0].min() >= 0 and points[:, 0].max() <= 1000 and points[[0, -1], 1].tolist() == [100, 0]
