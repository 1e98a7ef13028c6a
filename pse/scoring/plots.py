"""Figures: learning curves, spectrograms, the SNR predictor at work, the gain of each system.

Each returns a PNG and, given a path, also writes it there, whole or not at all. The same input gives the
same bytes.
"""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pse.errors import EnvironmentFault, PseError
from pse.io.atomic import writing
from pse.scoring.spectrogram import level_db, shared_range
from pse.scoring.statistics import mean_ci

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's colours: told apart with any colour vision, and in grey.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"
DPI = 130
LABEL_WIDTH = 30
# Of a track of frame SNRs: what is drawn side by side, and from where to where.
MOST_COLUMNS, TRACK_DB, MARK, LABEL_LENGTH = 900, (-20.0, 20.0), "#f5c6a5", 90
STYLE = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,
}


def _styled(draw: Callable[..., Figure]) -> Callable[..., bytes]:
    """Give a drawing function the house style, and turn its figure into a PNG (and a file, if asked)."""

    @functools.wraps(draw)
    def drawn(*args: Any, path: str | Path | None = None, **options: Any) -> bytes:
        try:
            from matplotlib import style
        except ImportError as error:
            raise EnvironmentFault("matplotlib is not installed", None, "pip install matplotlib") from error
        buffer = io.BytesIO()
        with style.context(["default", STYLE]):
            figure = draw(*args, **options)
            # A version in the file would make the same figure differ from one machine to the next.
            figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        if path is not None:
            with writing(path, "wb") as file:
                file.write(buffer.getvalue())
        return buffer.getvalue()

    return drawn


def _figure(width: float, height: float) -> Figure:
    """An empty figure of width x height inches, without pyplot: no display, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def curves(
    records: Iterable[Mapping[str, Any]], keys: Mapping[str, str], x: str = "examples"
) -> dict[str, list[tuple[float, float]]]:
    """Curves {label: [(x, value), ...]} out of the records of metrics.jsonl, for keys {label: key}."""
    found: dict[str, list[tuple[float, float]]] = {label: [] for label in keys}
    for record in records:
        for label, key in keys.items():
            if isinstance(record.get(key), int | float) and x in record:
                found[label].append((float(record[x]), float(record[key])))
    return found


def _short(value: float) -> str:
    """Three digits at the most: 0.5, 22, 169k, 1.12M."""
    unit, sign = (1e6, "M") if value >= 999_500 else (1e3, "k") if value >= 1000 else (1, "")
    return f"{float(f'{value / unit:.3g}'):g}{sign}"


def _thousands(value: float, _position: int) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


@_styled
def learning_curve(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    y_label: str,
    title: str = "",
    best: Literal["min", "max"] | None = None,
) -> Figure:
    """Value over examples seen, one line per label; `best` marks the last line's lowest or highest point.

    Points that are not finite are left out. Raises PseError when no point is left.
    """
    figure = _figure(6.4, 3.6)
    axes = figure.add_subplot()
    points = {k: np.array([p for p in v if np.isfinite(p).all()]).reshape(-1, 2) for k, v in lines.items()}
    if not any(len(p) for p in points.values()):
        raise PseError("a learning curve needs at least one finite value")
    colours = (GREY, BLUE, ORANGE, GREEN)
    for (label, line), colour in zip(points.items(), colours * len(points), strict=False):
        # Few points are shown one by one: a single one would have no line.
        axes.plot(
            line[:, 0], line[:, 1], color=colour, label=label, lw=1.4, marker="o" if len(line) < 30 else ""
        )
        axes.lines[-1].set_markersize(3)
    line = list(points.values())[-1]
    if best and len(line):
        at = line[line[:, 1].argmin() if best == "min" else line[:, 1].argmax()]
        axes.plot(
            *at,
            "D",
            color=ORANGE,
            markersize=6,
            label=f"best: {at[1]:.2f} at {at[0]:,.0f}".replace("-", "\N{MINUS SIGN}"),
        )
    axes.set(xlabel="examples seen", ylabel=y_label, title=title)
    axes.xaxis.set_major_formatter(_thousands)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="best")
    return figure


def _waveform(axes: Axes, samples: np.ndarray, sample_rate: int, num_columns: int = 2000) -> None:
    """Draw samples [T]; where there are more than the eye can part, the envelope of each column."""
    block = -(-len(samples) // num_columns)
    if block <= 4:
        axes.plot(np.arange(len(samples)) / sample_rate, samples, color=GREY, lw=0.5)
    else:
        blocks = np.pad(samples, (0, -len(samples) % block), mode="edge").reshape(-1, block)
        time = np.arange(len(blocks)) * block / sample_rate
        axes.fill_between(time, blocks.min(1), blocks.max(1), color=GREY, lw=0.3)
    peak = max(1.05 * float(np.abs(samples).max(initial=0.0)), 1e-3)
    axes.set(ylim=(-peak, peak), ylabel="amplitude")


@_styled
def spectrograms(signals: Mapping[str, np.ndarray], sample_rate: int, title: str = "") -> Figure:
    """Spectrograms of signals [T] one below the other, on one colour scale. Raises PseError for none."""
    if not signals or not all(len(samples) for samples in signals.values()):
        raise PseError("a spectrogram needs samples")
    figure = _figure(7.2, 0.7 + 1.7 * len(signals))
    levels = {name: level_db(samples, sample_rate) for name, samples in signals.items()}
    low, high = shared_range(list(levels.values()))
    look = {"cmap": "magma", "interpolation_stage": "data", "origin": "lower", "aspect": "auto"}
    panels = figure.subplots(len(levels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (name, level) in zip(panels, levels.items(), strict=True):
        extent = (0, len(signals[name]) / sample_rate, 0, sample_rate / 2000)
        shown = axes.imshow(level, extent=extent, vmin=low, vmax=high, **look)
        axes.set(title=name, ylabel="frequency (kHz)")
        axes.grid(False)
    panels[-1].set_xlabel("time (s)")
    figure.colorbar(shown, ax=list(panels), label="level (dB re full scale)", aspect=30, pad=0.02)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


@_styled
def embeddings(
    levels: np.ndarray, ideal: np.ndarray, found: np.ndarray, vectors: np.ndarray, seconds: float, top_hz: float,
    title: str = "",
) -> Figure:  # fmt: skip
    """A mixture, whose each bin ideally is, whose it was found to be, and the embeddings as colours.

    levels: [K, F] in dB; ideal, found: speaker of each bin [K, F], from 0, and -1 for bins too quiet to
    count; vectors: [K, F, D], shown by their three principal components over the bins that count.
    Raises PseError when the shapes differ.
    """
    if not levels.shape == ideal.shape == found.shape == vectors.shape[:2]:
        raise PseError(f"a figure of embeddings needs one shape, got {levels.shape} and {vectors.shape}")
    figure = _figure(7.2, 5.0)
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    area = (0.0, seconds, 0.0, top_hz / 1000)
    low, high = shared_range([levels])
    shown = {
        "mixture": {"X": levels, "cmap": "magma", "vmin": low, "vmax": high},
        "embeddings (three principal components)": {"X": _as_colours(vectors, ideal >= 0)},
        "ideal mask": {"X": _by_speaker(ideal)},
        "clusters": {"X": _by_speaker(found)},
    }
    for axes, (name, picture) in zip(panels.flat, shown.items(), strict=True):
        axes.imshow(**picture, origin="lower", aspect="auto", extent=area, interpolation="nearest")
        axes.grid(visible=False)
        axes.set_title(name)
    for axes in panels[:, 0]:
        axes.set_ylabel("frequency (kHz)")
    for axes in panels[1]:
        axes.set_xlabel("time (s)")
    figure.suptitle(title, fontsize=10)
    return figure


@_styled
def masks(
    rows: Mapping[str, np.ndarray], levels: np.ndarray, seconds: float, top_hz: float, range_db: float = 60.0
) -> Figure:
    """What part of a mixture each speaker has: a row of pictures a label, one for each speaker.

    rows: label -> magnitudes [S, K, F] of the speakers; a bin shows the part of one in the sum of all.
    levels: [K, F] of the mixture in dB; bins more than `range_db` below the loudest are left white.
    Raises PseError when the shapes differ.
    """
    if not rows or any(m.ndim != 3 or m.shape != (len(m), *levels.shape) for m in rows.values()):
        raise PseError(f"a figure of masks needs magnitudes of each speaker for {levels.shape} bins")
    count = max(len(m) for m in rows.values())
    figure = _figure(3.4 * count + 0.8, 0.6 + 1.9 * len(rows))
    panels = figure.subplots(len(rows), count, sharex=True, sharey=True, squeeze=False)
    quiet = levels < levels.max() - range_db
    for line, (label, magnitudes) in zip(panels, rows.items(), strict=True):
        parts = magnitudes / np.maximum(magnitudes.sum(0), 1e-12)
        for number, (axes, part) in enumerate(zip(line, parts, strict=False), 1):
            shown = axes.imshow(
                np.where(quiet, np.nan, part), cmap="cividis", vmin=0, vmax=1, origin="lower", aspect="auto",
                extent=(0.0, seconds, 0.0, top_hz / 1000), interpolation="nearest",
            )  # fmt: skip
            axes.grid(visible=False)
            axes.set_title(f"speaker {number}, {label}")
        line[0].set_ylabel("frequency (kHz)")
    for axes in panels[-1]:
        axes.set_xlabel("time (s)")
    figure.colorbar(shown, ax=list(panels.flat), label="part of the mixture", aspect=30, pad=0.02)
    return figure


def _by_speaker(labels: np.ndarray) -> np.ndarray:
    """Colours [K, F, 3] of speakers [K, F]; white where none counts."""
    from matplotlib.colors import to_rgb

    colours = np.array([to_rgb(c) for c in (BLUE, ORANGE, GREEN, "#CC79A7", "#F0E442", "#ffffff")])
    return colours[np.where(labels < 0, -1, labels % (len(colours) - 1))]


def _as_colours(vectors: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Principal components of vectors [K, F, D] as colours [K, F, 3]; white where a bin does not count."""
    kept = vectors[counts]
    if len(kept) < 3:
        return np.ones((*vectors.shape[:2], 3))
    mean = kept.mean(0)
    _, axes = np.linalg.eigh(np.cov((kept - mean).T))
    along = np.zeros((*vectors.shape[:2], 3))
    size = min(3, axes.shape[1])
    along[..., :size] = (vectors - mean) @ axes[:, ::-1][:, :size]
    low, high = np.quantile(along[counts], (0.02, 0.98), axis=0)
    scaled = np.clip((along - low) / np.maximum(high - low, 1e-9), 0, 1)
    return np.where(counts[..., None], scaled, 1.0)


@_styled
def snr_track(
    samples: np.ndarray,
    sample_rate: int,
    predicted_db: Sequence[float],
    weights: Mapping[str, Sequence[float]],
    hop_samples: int,
    true_db: Sequence[float] | None = None,
    title: str = "",
) -> Figure:
    """What the SNR predictor makes of a recording [T]: waveform, frame SNR [F] and weights [F] by their names.

    Frame f is centred on sample f * hop_samples. `true_db` [F] where it is known.
    """
    figure = _figure(7.2, 5.4)
    wave, snr, weight = figure.subplots(3, 1, sharex=True, height_ratios=(1, 1.6, 1))
    time = np.arange(len(predicted_db)) * hop_samples / sample_rate
    _waveform(wave, np.asarray(samples), sample_rate)
    wave.set_title("recording")
    if true_db is not None:
        snr.plot(time, true_db, color=GREY, lw=1.2, label="true")
    snr.plot(time, predicted_db, color=BLUE, lw=1.4, label="predicted")
    snr.axhline(0, color=ORANGE, lw=0.8, ls="--", label="0 dB")
    snr.set(ylabel="frame SNR (dB)", title="signal-to-noise ratio")
    snr.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.1, handlelength=1.6)
    for (label, values), colour in zip(weights.items(), (BLUE, ORANGE, GREEN), strict=False):
        weight.step(time, values, color=colour, lw=1.2, where="mid", label=label)
    weight.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.1, handlelength=1.6)
    weight.set(ylim=(-0.03, 1.05), ylabel="weight", xlabel="time (s)", title="weight in training")
    weight.set_xlim(0, len(samples) / sample_rate)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.align_ylabels()
    return figure


@_styled
def usable_speech(speakers: Mapping[str, Sequence[float]], title: str = "Frame SNR of the noisy recordings") -> Figure:
    """The predicted frame SNR in dB [N] of each speaker's recordings: what share lies above each value.

    Raises PseError for no speaker or one without values.
    """
    if not speakers or not all(len(values) for values in speakers.values()):
        raise PseError("a figure of usable speech needs frames of every speaker")
    figure = _figure(7.2, 3.4)
    axes = figure.add_subplot()
    for number, (name, values) in enumerate(speakers.items()):
        ordered = np.sort(np.asarray(values))
        share = 100 * (1 - np.arange(len(ordered)) / len(ordered))
        # Of many speakers the lines only show how far they lie apart.
        colour = (BLUE, ORANGE, GREEN, GREY)[number % 4] if len(speakers) <= 4 else BLUE
        axes.plot(ordered, share, color=colour, lw=1.4 if len(speakers) <= 4 else 0.7, label=name)
    axes.axvline(0, color=GREY, lw=0.8, ls="--")
    axes.set(xlabel="predicted frame SNR (dB)", ylabel="share of the frames above it (%)", ylim=(0, 101), title=title)
    if len(speakers) <= 4:
        axes.legend(loc="upper right")
    return figure


@_styled
def recording_tracks(
    tracks: Mapping[str, Sequence[float]], seconds: Mapping[str, float],
    marks: Mapping[str, Sequence[tuple[float, float]]], marked_as: str, title: str = "",
) -> Figure:  # fmt: skip
    """The frame SNR in dB [F] of recordings over time, a row for each label, with marks from one second to another.

    seconds, marks: of each label; marked_as: what the marks say, where there are some. Raises PseError for no
    recording or one without values.
    """
    if not tracks or not all(len(track) for track in tracks.values()):
        raise PseError("a figure of recordings needs frames of every one")
    figure = _figure(7.2, 0.9 + 1.05 * len(tracks))
    panels = figure.subplots(len(tracks), 1, sharey=True, squeeze=False)[:, 0]
    for axes, (label, track) in zip(panels, tracks.items(), strict=True):
        # Where there are more frames than the eye can part, their mean.
        starts = np.linspace(0, len(track), min(len(track), MOST_COLUMNS), endpoint=False).astype(int)
        shown = np.add.reduceat(np.asarray(track, float), starts) / np.diff([*starts, len(track)])
        time = (starts + 0.5 * np.diff([*starts, len(track)])) * seconds[label] / len(track)
        axes.fill_between(time, shown, 0, where=shown > 0, interpolate=True, color=BLUE, lw=0)
        axes.fill_between(time, shown, 0, where=shown <= 0, interpolate=True, color="#bbbbbb", lw=0)
        axes.axhline(0, color=GREY, lw=0.8)
        for start, end in marks.get(label, ()):
            axes.axvspan(start, end, color=MARK, lw=0, zorder=0)
        axes.set(ylim=TRACK_DB, yticks=(-20, 0, 20), ylabel="dB", xlim=(0, seconds[label]))
        axes.set_title(label if len(label) <= LABEL_LENGTH else f"..{label[-LABEL_LENGTH:]}", fontsize=9)
    panels[-1].set_xlabel("time (s); frame SNR above 0 dB: speech that stands out")
    if any(marks.get(label) for label in tracks):
        from matplotlib.patches import Patch

        figure.legend(handles=[Patch(color=MARK, lw=0, label=marked_as)], loc="outside lower right")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


@_styled
def gains(
    systems: Mapping[str, Sequence[float]], x_label: str = "SI-SDR improvement (dB)", title: str = ""
) -> Figure:
    """One box per system (median, quartiles, whiskers at 1.5 IQR), with mean and 95 % confidence interval.

    Systems come from top to bottom in the order given. Raises PseError for no system or one without values.
    """
    if not systems or not all(len(values) for values in systems.values()):
        raise PseError("a gain figure needs at least one value for every system")
    figure = _figure(7.2, 1.2 + 0.45 * len(systems))
    axes = figure.add_subplot()
    rows = np.arange(len(systems))
    axes.boxplot(
        [np.asarray(values) for values in systems.values()],
        positions=rows,
        orientation="horizontal",
        widths=0.55,
        patch_artist=True,
        boxprops={"facecolor": "#cfe3f1", "edgecolor": BLUE},
        medianprops={"color": BLUE, "linewidth": 1.6},
        whiskerprops={"color": BLUE},
        capprops={"color": BLUE},
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": GREY},
    )
    means = [mean_ci(list(values)) for values in systems.values()]
    centre, half = [m.mean for m in means], [m.half_width or 0.0 for m in means]
    axes.errorbar(
        centre, rows, xerr=half, fmt="D", color=ORANGE, ms=4, capsize=3, label="mean, 95 % interval"
    )
    counts = {len(values) for values in systems.values()}
    each = {k: f"{k} (n = {len(v)})" if len(counts) > 1 else k for k, v in systems.items()}
    labels = [textwrap.fill(label, LABEL_WIDTH) for label in each.values()]
    if len(counts) == 1:
        x_label += f"; n = {counts.pop()} for each"
    axes.set(yticks=rows, yticklabels=labels, xlabel=x_label, ylim=(len(rows) - 0.4, -0.6))
    axes.axvline(0, color=GREY, lw=0.8)
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
    axes.set_title(title)
    return figure


@_styled
def means(series: Mapping[str, Mapping[str, Sequence[float]]], x_label: str, title: str = "") -> Figure:
    """The mean of each system on each test set, and its 95 % confidence interval where there are several values.

    series: test set -> system -> values; systems come from top to bottom. Raises PseError for no system or one
    without values.
    """
    names = list(dict.fromkeys(name for systems in series.values() for name in systems))
    if not names or not all(len(values) for systems in series.values() for values in systems.values()):
        raise PseError("a figure of means needs at least one value for every system")
    figure = _figure(7.2, 1.2 + 0.45 * len(names))
    axes = figure.add_subplot()
    for number, (label, systems) in enumerate(series.items()):
        found = [mean_ci(list(values)) for values in systems.values()]
        # Those of one system beside each other, in the order of the sets.
        beside = 0.14 * (number - (len(series) - 1) / 2)
        axes.errorbar(
            [m.mean for m in found], [names.index(name) + beside for name in systems],
            xerr=[m.half_width or 0.0 for m in found], label=label, ms=4, capsize=2.5, ls="none",
            color=(BLUE, ORANGE, GREEN, GREY)[number % 4], marker="osD^v"[number % 5],
        )  # fmt: skip
    labels = [textwrap.fill(name, LABEL_WIDTH) for name in names]
    axes.set(yticks=range(len(names)), yticklabels=labels, xlabel=x_label, ylim=(len(names) - 0.4, -0.6), title=title)
    axes.grid(axis="y", visible=False)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@_styled
def trends(
    series: Mapping[str, Sequence[tuple[float, float, float | None]]],
    x_label: str,
    y_label: str = "SI-SDR improvement (dB)",
    log_x: bool = False,
    title: str = "",
) -> Figure:
    """A line for each series of (x, mean, half-width of the interval or None). Raises PseError for none."""
    if not series or not all(len(points) for points in series.values()):
        raise PseError("a figure of trends needs at least one point for every line")
    figure = _figure(7.2, 4.0)
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(series.items()):
        x, mean, half = zip(*points, strict=True)
        axes.errorbar(
            x, mean, yerr=[h or 0.0 for h in half], label=name, lw=1.4, capsize=2.5, ms=4,
            color=(BLUE, ORANGE, GREEN, GREY)[number % 4], marker="osD^v"[number // 4 % 5],
            ls=("-", "--", ":")[number // 4 % 3],
        )  # fmt: skip
    if log_x:
        # Where the points are: few lie at a power of ten, and its formula would not be typeset.
        places = sorted({x for points in series.values() for x, _, _ in points})
        axes.set_xscale("log")
        axes.set_xticks(places, [_short(x) for x in places])
        axes.set_xticks([], minor=True)
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure
