"""The page in a real browser: players load, buttons and keys switch at the same place, nothing overflows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pse.scoring import report
from pse.scoring.metrics import Failure
from pse.scoring.spectrogram import image
from pse.scoring.tables import ScoreRow
from pse.scoring.tracks import Curve, Tracks
from tests.browser import NO_BROWSER, PROGRAM, Browser

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=NO_BROWSER)

RATES = {"noisy": 16000, "enhanced": 8000, "missing": 8000, "by another model": 44100}
SECONDS = {"noisy": 8.0, "enhanced": 6.0, "by another model": 8.0}
PLAYERS = "[...document.querySelectorAll('article')[0].querySelectorAll('audio')]"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of the file."""
    with Browser() as started:
        yield started


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every kind of section, long names, and two recordings to listen to."""
    random = np.random.default_rng(0)
    signals = {n: 0.1 * random.standard_normal(round(s * RATES[n])) for n, s in SECONDS.items()}
    signals = {name: signals.get(name) for name in RATES}
    curve = Curve("Frame SNR", "dB", -20, 40, {n: None if s is None else np.zeros(500) for n, s in signals.items()}, 0)
    scores = ScoreRow("u", "s", 0.0, {"si_sdr": 1.0, "estoi": 0.5}, {"si_sdr": Failure("x " * 99), "estoi": 0.6})
    wide = report.Table("Table", ["column"] * 12, [["cell"] * 12])
    picture = report.Picture(image(np.zeros((9, 2000)), -70, 0), "a picture")
    long = "a_name_without_any_break" * 9
    examples = [
        report.Example(name, RATES, signals, scores, below=[wide, picture, Tracks([curve], 0.016, 8.0)])
        for name in ("first", long)
    ]
    sections = [
        report.Highlights("In short", [("best", "12.3 dB")]), report.Text(long, [long], [long]), wide,
        report.Figures("Figures", [picture]), report.Examples("Listen", examples),
    ]  # fmt: skip
    path = tmp_path_factory.mktemp("page") / "it's a page.html"
    report.write(path, long, sections, long, long)
    return path


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    """The page, freshly loaded, its players ready."""
    browser.open(page)
    browser.until(f"{PLAYERS}.every(a => a.readyState >= 1)")
    return browser


def playing(browser: Browser) -> list[str]:
    return browser.run("[...document.querySelectorAll('audio')].filter(a => !a.paused).map(a => a.ariaLabel)")


def times(browser: Browser) -> list[float]:
    return browser.run(f"{PLAYERS}.map(a => a.currentTime)")


def plays_from(browser: Browser, label: str, start_s: float) -> None:
    """The one player of this name plays, and has gone on at start_s."""
    at = f"{PLAYERS}.find(a => a.ariaLabel === '{label}')"
    browser.until(f"!{at}.paused && {at}.currentTime > {start_s}")
    assert playing(browser) == [label] and browser.run(f"{at}.currentTime") < start_s + 4


def test_every_player_loads_its_sound_and_the_console_is_silent(opened: Browser) -> None:
    found = opened.run("[...document.querySelectorAll('audio')].map(a => [a.ariaLabel, a.readyState, a.duration])")
    assert len(found) == 6
    for name, ready, duration in found:
        assert ready >= 1 and duration == pytest.approx(SECONDS[name], abs=0.01)
    assert opened.run("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert opened.errors == []


def test_the_console_would_be_heard(browser: Browser, tmp_path: Path) -> None:
    text = report.page("x", [report.Text("x")])
    (tmp_path / "x.html").write_text(text.replace("</main>", '<img src="https://example.org/x.png" alt="x"></main>'))
    browser.open(tmp_path / "x.html")
    assert any("Content Security Policy" in error for error in browser.errors)
    (tmp_path / "y.html").write_text(text.replace("</main>", "<script>nobody()</script></main>"))
    browser.open(tmp_path / "y.html")
    assert len(browser.errors) == 1 and "nobody is not defined" in browser.errors[0]


def test_buttons_switch_at_the_same_place_and_stop(opened: Browser) -> None:
    def button(n: int) -> str:
        return f"document.querySelectorAll('.switch button')[{n}]"

    opened.run(f"{PLAYERS}[0].currentTime = 3")
    opened.click(button(0))
    plays_from(opened, "noisy", 3.0)
    opened.click(button(3))
    plays_from(opened, "by another model", 3.0)
    states = "[...document.querySelectorAll('.switch')[0].querySelectorAll('button')].map(b => b.ariaPressed)"
    opened.until(f"String({states}) === 'false,false,,true'")
    opened.click(button(2))
    assert playing(opened) == ["by another model"]
    opened.click(button(3))
    opened.until(f"String({states}) === 'false,false,,false'")
    assert playing(opened) == [] and opened.errors == []


def test_keys_switch_what_plays_wherever_the_focus_is(opened: Browser) -> None:
    opened.key("2")
    assert playing(opened) == []
    opened.run(f"({PLAYERS}[0].focus(), {PLAYERS}[0].currentTime = 3)")
    opened.key(" ")
    plays_from(opened, "noisy", 3.0)
    opened.run("document.activeElement.blur()")
    opened.key("2")
    plays_from(opened, "enhanced", 3.0)
    assert opened.run("document.activeElement.ariaLabel") == "enhanced"
    for key in ("3", "9"):
        opened.key(key)
        assert playing(opened) == ["enhanced"]
    opened.key("2")
    assert playing(opened) == [] and max(times(opened)) < 5


def test_a_recording_with_the_focus_comes_before_the_one_that_plays(opened: Browser) -> None:
    opened.run(f"{PLAYERS}[0].focus()")
    opened.key("1")
    opened.until(f"!{PLAYERS}[0].paused")
    opened.run("document.querySelectorAll('article')[1].querySelector('button').focus()")
    opened.key("4")
    second = "document.querySelectorAll('article')[1].querySelectorAll('audio')[2]"
    opened.until(f"!{second}.paused")
    assert opened.run(f"{PLAYERS}.every(a => a.paused)")


def test_switching_faster_than_sound_starts_is_no_fault(opened: Browser) -> None:
    opened.run(f"{PLAYERS}[0].focus()")
    for key in "121212":
        opened.key(key)
    assert playing(opened) == ["enhanced"] and opened.errors == []


def test_heads_show_the_time_on_the_axis_that_all_share(opened: Browser) -> None:
    # The second signal is shorter than the axis: 3 s are half of it, and three eighths of the axis.
    opened.run(f"({PLAYERS}[1].currentTime = 3)")
    heads = "[...document.querySelectorAll('article')[0].querySelectorAll('.head')].map(h => h.style.left)"
    opened.until(f"String({heads}) === ',37.5%,,37.5%'")
    opened.click("document.querySelectorAll('.tracks .picture')[0]")
    plays_from(opened, "noisy", 3.9)


def test_tab_reaches_every_control_in_the_order_of_the_page(opened: Browser) -> None:
    wanted = "[...document.querySelectorAll('a[href], button:enabled, audio, [tabindex=\"0\"]')]"
    opened.run(f"(window.wanted = {wanted}, window.reached = [])")
    for _ in range(12 * opened.run("wanted.length")):
        opened.key("Tab")
        opened.run("reached.includes(document.activeElement) || reached.push(document.activeElement)")
        if opened.run("wanted.every(e => reached.includes(e))"):
            break
    assert opened.run("wanted.filter(e => !reached.includes(e)).map(e => e.outerHTML.slice(0, 80))") == []
    assert opened.run("reached.filter(e => wanted.includes(e)).every((e, i) => e === wanted[i])")


@pytest.mark.parametrize("width", [400, 320])
@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_window_scrolls_down_only(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width, 700, dark)
    assert browser.run("document.documentElement.scrollWidth") == width
    assert browser.run("getComputedStyle(document.body).backgroundColor") == (
        "rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)"
    )
    small = "[...document.querySelectorAll('button')].filter(b => b.getBoundingClientRect().height < 24).length"
    assert browser.run(small) == 0 and browser.errors == []
