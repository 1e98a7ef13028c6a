"""A self-contained HTML page to look at and to listen to: one file, no network, every string escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pse.errors import PseError
from pse.io.atomic import write_text
from pse.scoring.markup import data_uri, scrolled, text
from pse.scoring.metrics import Failure, find
from pse.scoring.page_style import SCRIPT, STYLE
from pse.scoring.players import panels, switch
from pse.scoring.tables import ScoreRow, Value
from pse.scoring.tracks import Tracks

# Nothing may be fetched from anywhere: pictures and sounds are in the page.
POLICY = (
    "default-src 'none'; img-src data:; media-src data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
NUMERIC = re.compile(r"[-+\u2212]?[\d.,]+([ \u00a0]?[%a-zA-Z]{0,3})?( ± [\d.,]+)?( \(n = [\d,]+\))?|-|")


@dataclass(frozen=True)
class Highlights:
    """The few numbers to take away: (what it is, its value)."""

    heading: str
    items: Sequence[tuple[str, str]]

    def html(self) -> str:
        """The body of the section."""
        tiles = (f"<div><dt>{text(label)}</dt><dd>{text(value)}</dd></div>" for label, value in self.items)
        return f'<dl class="tiles">{"".join(tiles)}</dl>'


@dataclass(frozen=True)
class Text:
    """Paragraphs, then lines of code (commands) if there are any."""

    heading: str
    paragraphs: Sequence[str] = ()
    code: Sequence[str] = ()

    def html(self) -> str:
        """The body of the section."""
        code = "\n".join(text(line) for line in self.code)
        block = f'<pre tabindex="0"><code>{code}</code></pre>' if self.code else ""
        return "".join(f"<p>{text(p)}</p>" for p in self.paragraphs) + block


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
        head = "".join(f'<th scope="col"{k}>{text(c)}</th>' for k, c in zip(kind, self.columns, strict=True))
        body = "".join(
            f'<tr><th scope="row">{text(row[0])}</th>'
            + "".join(f"<td{k}>{text(cell)}</td>" for k, cell in zip(kind[1:], row[1:], strict=True))
            + "</tr>"
            for row in self.rows
        )
        caption = f'<p class="soft">{text(self.caption)}</p>' if self.caption else ""
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return caption + scrolled(table, self.heading)


@dataclass(frozen=True)
class Picture:
    """A PNG with what it shows in words, for those who do not see it, and a caption for everybody."""

    png: bytes
    alt: str
    caption: str = ""

    def html(self) -> str:
        """The figure element."""
        caption = f"<figcaption>{text(self.caption)}</figcaption>" if self.caption else ""
        return f'<figure><img src="{data_uri("image/png", self.png)}" alt="{text(self.alt)}">{caption}</figure>'


@dataclass(frozen=True)
class Figures:
    """Pictures side by side where there is room."""

    heading: str
    pictures: Sequence[Picture]
    intro: str = ""

    def html(self) -> str:
        """The body of the section."""
        intro = f"<p>{text(self.intro)}</p>" if self.intro else ""
        return f'{intro}<div class="figures">{"".join(p.html() for p in self.pictures)}</div>'


@dataclass(frozen=True)
class Example:
    """One recording to listen to: signals {label: samples [T]} in the order to hear them, and its scores.

    sample_rate: in Hz, of all signals or of each by its label. A signal that is None is missing: its place stays empty.
    """

    title: str
    sample_rate: int | Mapping[str, int]
    signals: Mapping[str, np.ndarray | None]
    scores: ScoreRow | None = None
    note: str = ""
    below: Sequence[Picture | Table | Tracks] = field(default_factory=tuple)

    def html(self) -> str:
        """The article element. Raises PseError for no samples or samples that are not finite."""
        signals = {name: None if s is None else np.asarray(s, np.float64) for name, s in self.signals.items()}
        there = {name: s for name, s in signals.items() if s is not None}
        odd = [name for name, s in there.items() if s.ndim != 1 or not len(s) or not np.isfinite(s).all()]
        if odd or not there:
            raise PseError(f"example {self.title!r} has no sound to play: {', '.join(odd) or 'no signals'}")
        # One gain for all, so that they stay comparable; it is 1 unless something would clip.
        gain = 1 / max(1.0, *(float(np.abs(s).max()) for s in there.values()))
        rate = self.sample_rate
        rates = dict.fromkeys(there, rate) if isinstance(rate, int) else rate
        note = " ".join(filter(None, [self.note, f"Played at {gain:.2f} of its level." if gain < 1 else ""]))
        return (
            f"<article><h3>{text(self.title)}</h3>"
            + (f'<p class="soft">{text(note)}</p>' if note else "")
            + switch(signals)
            + f'<div class="signals">{panels(signals, rates, gain)}</div>'
            + (_score_table(self.scores) if self.scores else "")
            + "".join(part.html() for part in self.below)
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
            "<p>The keys <kbd>1</kbd> to <kbd>9</kbd>, and the buttons, play a signal of the recording that has the "
            "focus, or else of the one that plays; the next one goes on at the same place. The same key again, or the "
            "space bar in a player, stops.</p>"
        )
        intro = f"<p>{text(self.intro)}</p>" if self.intro else ""
        return intro + keys + "".join(example.html() for example in self.examples)


Section = Highlights | Text | Table | Figures | Examples


def _minus(number: str) -> str:
    return number.replace("-", "\u2212")


def _score_cells(before: Value, after: Value, decimals: int) -> str:
    """Input, output and change as table cells; one wide cell where both failed for the same reason."""
    if isinstance(before, Failure) and before == after:
        return f'<td colspan="3" class="soft">failed: {text(before.reason)}</td>'
    cells = "".join(
        f"<td>failed: {text(value.reason)}</td>"
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
        body += f'<tr><th scope="row">{text(metric.heading())}</th>{cells}</tr>'
    names = ("score", "input", "output", "change")
    head = "".join(f'<th scope="col"{" class=number" if i else ""}>{n}</th>' for i, n in enumerate(names))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return scrolled(table, f"Scores of {row.id}")


def page(title: str, sections: Sequence[Section], subtitle: str = "", footer: str = "") -> str:
    """The page as text. Sections come in order, each reachable from the list at the top."""
    links = "".join(f'<li><a href="#s{i}">{text(s.heading)}</a></li>' for i, s in enumerate(sections))
    body = "".join(
        f'<section id="s{i}" aria-labelledby="h{i}"><h2 id="h{i}">{text(s.heading)}</h2>{s.html()}</section>'
        for i, s in enumerate(sections)
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#main">Skip to the content</a>\n'
        f'<header><h1>{text(title)}</h1><p class="soft">{text(subtitle)}</p>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
        f'<main id="main">{body}</main>\n<footer><p>{text(footer)}</p></footer>\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def write(
    path: str | Path, title: str, sections: Sequence[Section], subtitle: str = "", footer: str = ""
) -> None:
    """Write the page to `path` as one file that needs no other and no network.

    Twelve examples of 4 s at 16 kHz with three signals each take about 8 MB.
    """
    write_text(path, page(title, sections, subtitle, footer))
