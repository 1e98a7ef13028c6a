"""Figures of the papers' kind: the gain against clean seconds, size, minutes of noisy speech, premixture SNR."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from pse.config import plain
from pse.recipe.options import Context
from pse.recipe.personal import results
from pse.recipe.personal.layout import conditions
from pse.scoring.results_md import Row

# Label -> [(x, mean, half-width of the interval or None)].
Series = dict[str, list[tuple[float, float, float | None]]]


def make(ctx: Context, rows: list[Row]) -> list[Any]:
    """The figures that this experiment has at least two points for, as pictures of the listening page."""
    from pse.scoring.plots import trends
    from pse.scoring.report import Picture

    found = {r.tag: r for r in rows}
    middle = ctx.config.mixture.premixture_snr_db
    wanted = [
        ("clean_s", "clean speech (s); 0: none", False, _against_clean_speech(ctx, found)),
        ("size", "parameters", True, _against(ctx, found, "model", lambda m, r: r.params)),
        ("minutes", "noisy speech (min)", True, _against(ctx, found, "minutes", lambda m, r: m.minutes or _most(ctx))),
        (
            "premixture_snr", "middle of the premixture SNR (dB)", False,
            _against(ctx, found, "premixture_snr_db", lambda m, r: sum(m.premixture_snr_db or middle) / 2),
        ),
    ]  # fmt: skip
    pictures = []
    for name, label, log_x, series in wanted:
        if series:
            path = ctx.exp / "images" / f"gain_by_{name}.png"
            alt = f"Mean SI-SDR improvement against {label}"
            pictures.append(Picture(trends(series, label, log_x=log_x, path=path), alt, alt + ", with 95 % intervals."))
    return pictures


def _most(ctx: Context) -> float:
    """Minutes of noisy speech of the speaker who has most."""
    from pse.data.cache import AudioCache

    cache = AudioCache(ctx.dump / "target_pretrain")
    total: dict[str, int] = {}
    for utt, samples in cache.num_samples.items():
        total[cache.speaker[utt]] = total.get(cache.speaker[utt], 0) + samples
    return max(total.values()) / cache.sample_rate / 60


def _point(x: float | None, row: Row) -> tuple[float, float, float | None] | None:
    gain = row.values.get("si_sdr_i")
    return None if x is None or gain is None else (float(x), gain.mean, gain.half_width)


def _against_clean_speech(ctx: Context, rows: dict[str, Row]) -> Series:
    series: Series = {}
    for condition, found in conditions(ctx).items():
        system = next(iter(next(iter(found.values())).values()))
        if system.method in ctx.config.finetune.start and (p := _point(system.clean_s or 0.0, rows[condition])):
            series.setdefault(system.method, []).append(p)
    return {name: sorted(points) for name, points in series.items() if len(points) > 1}


def _against(ctx: Context, rows: dict[str, Row], key: str, x: Callable[[Any, Row], float | None]) -> Series:
    """Methods that agree in all but `key`, as a line each."""
    groups: dict[str, list[str]] = {}
    for name, method in ctx.config.pretrain.methods.items():
        told = plain(method)
        told.pop(key)
        groups.setdefault(json.dumps(told, sort_keys=True), []).append(name)
    series: Series = {}
    for names in groups.values():
        points = [p for n in names if (p := _point(x(ctx.config.pretrain.methods[n], rows[n]), rows[n]))]
        if len({p[0] for p in points}) > 1:
            series[os.path.commonprefix(names).rstrip("-_") or names[0]] = sorted(points)
    return series


def boxes(ctx: Context, order: list[str]) -> Any:
    """A box a condition, best first."""
    from pse.scoring.metrics import Failure
    from pse.scoring.plots import gains
    from pse.scoring.report import Picture
    from pse.scoring.tables import column

    values = {
        c: [v for v in column(results.scores_of(ctx, c), "si_sdr_i").values() if not isinstance(v, Failure)]
        for c in order
    }
    png = gains({c: v for c, v in values.items() if v}, path=ctx.exp / "images" / "gains.png")
    return Picture(
        png, "Box plot of the SI-SDR improvement of every system", "Box: quartiles; point: mean and its interval."
    )
