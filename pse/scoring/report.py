"""A self-contained HTML page to look at and to listen to: one file, no network, every string escaped."""

from __future__ import annotations

import base64
import html
import io
import re
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pse.errors import PseError, printable
from pse.io.atomic import write_text
from pse.scoring.metrics import Failure, find
from pse.scoring.page_style import SCRIPT, STYLE
from pse.scoring.spectrogram import image, level_db, shared_range
from pse.scoring.tables import ScoreRow, Value

# Nothing may be fetched from anywhere: pictures and sounds are in the page.
POLICY = (
    "default-src 'none'; img-src data:; media-src data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
SPECTROGRAM_HOP_S = 0.016
NUMERIC = re.compile(r"[-+\u2212]?[\d.,]+([ \u00a0]?[%a-zA-Z]{0,3})?( ± [\d.,]+)?|-|")


def _text(value: object) -> str:
    return html.escape(printable(" ".join(str(value).split())), quote=True)


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _scrolled(table: str, label: str) -> str:
    """A table that scrolls by itself where it is wider than the screen, by keyboard too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(label)}">{table}</div>'


@dataclass(frozen=True)
class Highlights:
    """The few numbers to take away: (what it is, its value)."""

    heading: str
    items: Sequence[tuple[str, str]]

    def html(self) -> str:
        """The body of the section."""
        tiles = (f"<div><dt>{_text(label)}</dt><dd>{_text(value)}</dd></div>" for label, value in self.items)
        return f'<dl class="tiles">{"".join(tiles)}</dl>'


@dataclass(frozen=True)
class Text:
    """Paragraphs, then lines of code (commands) if there are any."""

    heading: str
    paragraphs: Sequence[str] = ()
    code: Sequence[str] = ()

    def html(self) -> str:
        """The body of the section."""
        code = "\n".join(_text(line) for line in self.code)
        block = f'<pre tabindex="0"><code>{code}</code></pre>' if self.code else ""
        return "".join(f"<p>{_text(p)}</p>" for p in self.paragraphs) + block


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row is its heading, columns of numbers are set flush right."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def html(self) -> str:
        """The body of the section. Raises PseError when a row has not one cell for each column."""
        if any(len(row) != len(self.columns) for row in self.rows):
            raise PseError(f"table {self.heading!r}: a row has not one cell for each column")
        numeric = [all(NUMERIC.fullmatch(str(row[i])) for row in self.rows) for i in range(len(self.columns))]
        kind = [' class="number"' if n and i else "" for i, n in enumerate(numeric)]
        head = "".join(f'<th scope="col"{k}>{_text(c)}</th>' for k, c in zip(kind, self.columns, strict=True))
        body = "".join(
            f'<tr><th scope="row">{_text(row[0])}</th>'
            + "".join(f"<td{k}>{_text(cell)}</td>" for k, cell in zip(kind[1:], row[1:], strict=True))
            + "</tr>"
            for row in self.rows
        )
        caption = f'<p class="soft">{_text(self.caption)}</p>' if self.caption else ""
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return caption + _scrolled(table, self.heading)


@dataclass(frozen=True)
class Picture:
    """A PNG with what it shows in words, for those who do not see it, and a caption for everybody."""

    png: bytes
    alt: str
    caption: str = ""

    def html(self) -> str:
        """The figure element."""
        caption = f"<figcaption>{_text(self.caption)}</figcaption>" if self.caption else ""
        return f'<figure><img src="{_data("image/png", self.png)}" alt="{_text(self.alt)}">{caption}</figure>'


@dataclass(frozen=True)
class Figures:
    """Pictures side by side where there is room."""

    heading: str
    pictures: Sequence[Picture]
    intro: str = ""

    def html(self) -> str:
        """The body of the section."""
        intro = f"<p>{_text(self.intro)}</p>" if self.intro else ""
        return f'{intro}<div class="figures">{"".join(p.html() for p in self.pictures)}</div>'


@dataclass(frozen=True)
class Example:
    """One recording to listen to: signals {label: samples [T]} in the order to hear them, and its scores."""

    title: str
    sample_rate: int
    signals: Mapping[str, np.ndarray]
    scores: ScoreRow | None = None
    note: str = ""
    pictures: Sequence[Picture] = field(default_factory=tuple)

    def html(self) -> str:
        """The article element. Raises PseError for no samples or samples that are not finite."""
        signals = {name: np.asarray(s, np.float64) for name, s in self.signals.items()}
        odd = [name for name, s in signals.items() if s.ndim != 1 or not len(s) or not np.isfinite(s).all()]
        if odd or not signals:
            raise PseError(f"example {self.title!r} has no sound to play: {', '.join(odd) or 'no signals'}")
        # One gain for all, so that they stay comparable; it is 1 unless something would clip.
        gain = 1 / max(1.0, *(float(np.abs(s).max()) for s in signals.values()))
        levels = {name: level_db(s, self.sample_rate, SPECTROGRAM_HOP_S) for name, s in signals.items()}
        low, high = shared_range(list(levels.values()))
        panels = "".join(
            _signal(name, gain * s, self.sample_rate, image(levels[name], low, high))
            for name, s in signals.items()
        )
        note = " ".join(filter(None, [self.note, f"Played at {gain:.2f} of its level." if gain < 1 else ""]))
        return (
            f"<article><h3>{_text(self.title)}</h3>"
            + (f'<p class="soft">{_text(note)}</p>' if note else "")
            + f'<div class="signals">{panels}</div>'
            + (_score_table(self.scores) if self.scores else "")
            + "".join(picture.html() for picture in self.pictures)
            + "</article>"
        )


@dataclass(frozen=True)
class Examples:
    """Recordings before and after, to listen to and to look at."""

    heading: str
    examples: Sequence[Example]
    intro: str = ""

    def html(self) -> str:
        """The body of the section."""
        keys = (
            "<p>Starting another player of the same example goes on at the same place. With the focus in an "
            "example, <kbd>1</kbd> <kbd>2</kbd> <kbd>3</kbd> choose the player.</p>"
        )
        intro = f"<p>{_text(self.intro)}</p>" if self.intro else ""
        return intro + keys + "".join(example.html() for example in self.examples)


Section = Highlights | Text | Table | Figures | Examples


def wav_bytes(samples: np.ndarray, sample_rate: int) -> bytes:
    """Samples [T] in [-1, 1] as a 16-bit mono WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def _signal(name: str, samples: np.ndarray, sample_rate: int, png: bytes) -> str:
    """A player with its spectrogram; the axes are text, so that they follow the reader's size and colours."""
    length_s, top_khz = len(samples) / sample_rate, sample_rate / 2000
    alt = f"Spectrogram of {name}: 0 to {top_khz:g} kHz, {length_s:.1f} s"
    frequency = "".join(f"<span>{f:g}{u}</span>" for f, u in ((top_khz, " kHz"), (top_khz / 2, ""), (0, "")))
    time = "".join(f"<span>{t}</span>" for t in ("0", f"{length_s / 2:.1f}", f"{length_s:.1f} s"))
    return (
        f'<div class="signal"><h4>{_text(name)}</h4><div class="spectrogram">'
        f'<div class="frequency" aria-hidden="true">{frequency}</div>'
        f'<div class="picture"><img src="{_data("image/png", png)}" alt="{_text(alt)}">'
        f'<div class="head"></div></div>'
        f'<div class="time" aria-hidden="true">{time}</div></div>'
        f'<audio controls preload="metadata" aria-label="{_text(name)}" '
        f'src="{_data("audio/wav", wav_bytes(samples, sample_rate))}"></audio></div>'
    )


def _minus(number: str) -> str:
    return number.replace("-", "\u2212")


def _score_cells(before: Value, after: Value, decimals: int) -> str:
    """Input, output and change as table cells; one wide cell where both failed for the same reason."""
    if isinstance(before, Failure) and before == after:
        return f'<td colspan="3" class="soft">failed: {_text(before.reason)}</td>'
    cells = "".join(
        f"<td>failed: {_text(value.reason)}</td>"
        if isinstance(value, Failure)
        else f'<td class="number">{_minus(f"{value:.{decimals}f}")}</td>'
        for value in (before, after)
    )
    if isinstance(before, Failure) or isinstance(after, Failure):
        return f'{cells}<td class="number">-</td>'
    change = f"{after - before:+.{decimals}f}"
    kind = "" if float(change) == 0 else " better" if after > before else " worse"
    return f'{cells}<td class="number{kind}">{_minus(change)}</td>'


def _score_table(row: ScoreRow) -> str:
    body = ""
    for name, before in row.before.items():
        metric = find(name)
        cells = _score_cells(before, row.after[name], metric.decimals)
        body += f'<tr><th scope="row">{_text(metric.heading())}</th>{cells}</tr>'
    names = ("score", "input", "output", "change")
    head = "".join(f'<th scope="col"{" class=number" if i else ""}>{n}</th>' for i, n in enumerate(names))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return _scrolled(table, f"Scores of {row.id}")


def page(title: str, sections: Sequence[Section], subtitle: str = "", footer: str = "") -> str:
    """The page as text. Sections come in order, each reachable from the list at the top."""
    links = "".join(f'<li><a href="#s{i}">{_text(s.heading)}</a></li>' for i, s in enumerate(sections))
    body = "".join(
        f'<section id="s{i}" aria-labelledby="h{i}"><h2 id="h{i}">{_text(s.heading)}</h2>{s.html()}</section>'
        for i, s in enumerate(sections)
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#main">Skip to the content</a>\n'
        f'<header><h1>{_text(title)}</h1><p class="soft">{_text(subtitle)}</p>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
        f'<main id="main">{body}</main>\n<footer><p>{_text(footer)}</p></footer>\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def write(
    path: str | Path, title: str, sections: Sequence[Section], subtitle: str = "", footer: str = ""
) -> None:
    """Write the page to `path` as one file that needs no other and no network.

    Twelve examples of 4 s at 16 kHz with three signals each take about 8 MB.
    """
    write_text(path, page(title, sections, subtitle, footer))
