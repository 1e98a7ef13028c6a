"""How steady the voices of the corpus are: a part of stage report, with tables and figures; see pse.scoring.prosody."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pse.io.jsonl import read_json
from pse.recipe.options import Context
from pse.recipe.separation.layout import cache_files, speech_sets
from pse.recipe.stage import Task
from pse.scoring.results_md import Extra

LAGS_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
ONE, OTHER = "one recording", "other recording"
QUANTITIES = {"pitch": "pitch", "timbre": "timbre (12 mel cepstra)", "energy": "energy", "rate": "syllables a second"}
DURATIONS_S = (0.032, 0.064, 0.128, 0.256, 0.512)
# Pairs of two recordings, and vectors that verification compares: as many as a second or two are enough for.
PAIRS, VECTORS = 200, 2048
ABOUT = (
    "ICC(1) of two measurements of one speaker so far apart, 1 where they are the same and 0 where they are no more "
    "alike than anybody's, with 95 % intervals over speakers; frames less than 32 ms (pitch: 64 ms) apart share "
    "samples. Equal error rates are those of telling speakers by the mean timbre of two stretches, of one recording "
    "and at least 1 s apart, or of two."
)


def tasks(ctx: Context) -> list[Task]:
    """The study, where a number of utterances is given."""
    if not ctx.config.prosody.num_utterances:
        return []

    def run(config: Any) -> None:
        from pse.io.jsonl import write_json

        write_json(_target(ctx), study(ctx, config.prosody.num_utterances))

    inputs = cache_files(ctx, *_sets(ctx))
    reads = ("prosody", "sample_rate")
    return [Task("prosody", "report", reads, inputs, (_target(ctx),), ctx.exp, run, made_by="features")]


def _target(ctx: Context) -> Path:
    return ctx.exp / "prosody.json"


def _sets(ctx: Context) -> list[str]:
    return [name for name in ("train", "open") if name in speech_sets(ctx)]


def study(ctx: Context, num_utterances: int) -> dict[str, Any]:
    """Agreement of each quantity by lag, equal error rates by duration, and of how many speakers and recordings."""
    from pse.scoring.prosody import Measured, across, agreement, averages, lagged

    pairs: dict[tuple[str, str], list[Any]] = defaultdict(list)
    stretches: dict[float, list[tuple[int, int, Any, Any]]] = defaultdict(list)
    recordings = 0
    for speaker, heard in enumerate(_measured(ctx, num_utterances)):
        by_name: dict[str, list[Measured]] = {name: [one[name] for one in heard] for name in QUANTITIES}
        for name, found in by_name.items():
            for lag in LAGS_S:
                # Windows of the rate that overlap would count the same syllables.
                if name != "rate" or lag >= 1:
                    pairs[name, f"{lag:g}"].append(lagged(found, lag))
            pairs[name, OTHER].append(across(found, PAIRS, seed=speaker))
        for one in by_name["timbre"]:
            for duration in DURATIONS_S:
                stretches[duration].append((speaker, recordings, *averages(one, duration)))
            recordings += 1
        if speaker % 50 == 49:
            print(f"prosody: {speaker + 1} speakers", flush=True)
    steady: dict[str, dict[str, Any]] = {name: {} for name in QUANTITIES}
    for (name, lag), speakers in pairs.items():
        told = agreement(speakers)
        if told is not None:
            steady[name][lag] = told._asdict()
    rates = {f"{1000 * duration:g}": _rates(found) for duration, found in stretches.items()}
    return {"speakers": speaker + 1, "recordings": recordings, "steady": steady, "eer": rates}


def _measured(ctx: Context, num_utterances: int) -> Iterator[list[Any]]:
    """What is measured of each speaker's recordings, speaker by speaker."""
    from pse.data.cache import AudioCache
    from pse.scoring.prosody import measure

    for name in _sets(ctx):
        cache = AudioCache(ctx.dump / name)
        of: dict[str, list[str]] = defaultdict(list)
        for utt in cache.ids:
            of[cache.speaker[utt]].append(utt)
        for speaker in sorted(of):
            yield [measure(cache.read(utt), cache.sample_rate) for utt in spread(of[speaker], num_utterances)]


def spread(utts: Sequence[str], count: int) -> list[str]:
    """So many of the utterances, from the first to the last: in LibriSpeech those are of different books."""
    if len(utts) <= count:
        return list(utts)
    return [utts[round(i * (len(utts) - 1) / max(1, count - 1))] for i in range(count)]


def _rates(found: list[tuple[int, int, Any, Any]]) -> dict[str, float | None]:
    """Of stretches in one recording and in two, as many of each as there is room for; None where there is no pair."""
    import numpy as np

    from pse.scoring.prosody import verification_eer

    random, each = np.random.default_rng(0), max(1, VECTORS // len(found))
    vectors, starts, speakers, recordings = [], [], [], []
    # Where there are more recordings than room, whole speakers are left out, or hardly a pair of one would be left.
    for speaker, recording, values, starts_s in found[:VECTORS]:
        chosen = random.permutation(len(values))[:each]
        vectors.append(values[chosen])
        starts.append(starts_s[chosen])
        speakers += [speaker] * len(chosen)
        recordings += [recording] * len(chosen)
    about = np.concatenate(vectors), np.array(speakers), np.array(recordings)
    made = {ONE: verification_eer(*about, np.concatenate(starts)), OTHER: verification_eer(*about)}
    return {k: None if np.isnan(rate) else rate for k, rate in made.items()}


def tables(ctx: Context) -> list[Extra]:
    """Agreement by lag, and equal error rates by duration."""
    if not tasks(ctx):
        return []
    found = read_json(_target(ctx))
    about = f"{found['speakers']} speakers and {found['recordings']} recordings of {ctx.config.corpus.name}"
    lines = []
    for name, lag, x in _steady(found):
        if x is not None:
            icc = f"{x['icc']:.2f} ({x['icc_low']:.2f} to {x['icc_high']:.2f})"
            ratio = f"{x['f_ratio']:.1f} ({x['f_low']:.1f} to {x['f_high']:.1f})"
            lines.append([QUANTITIES[name], lag if lag == OTHER else f"{lag} s", icc, ratio, str(x["n"])])
    headings = ["quantity", "apart", "ICC(1) (95 % interval)", "F between/within", "speakers"]
    rates = [
        [f"{ms} ms", *("-" if of[k] is None else f"{of[k]:.1f}" for k in (ONE, OTHER))] for ms, of in _durations(found)
    ]
    return [
        Extra(f"How steady a voice is, {about}", headings, lines),
        Extra(f"Telling speakers by mean timbre, equal error rate in %, {about}", ["stretch", ONE, OTHER], rates),
    ]


def _steady(found: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """Quantity, lag and agreement, in the order of the constants: a file of JSON has its keys in its own."""
    for name in QUANTITIES:
        for lag in (*(f"{lag:g}" for lag in LAGS_S), OTHER):
            yield name, lag, found["steady"][name].get(lag)


def _durations(found: dict[str, Any]) -> list[tuple[str, dict[str, float | None]]]:
    """Milliseconds and equal error rates, the shortest first."""
    return sorted(found["eer"].items(), key=lambda x: float(x[0]))


def pictures(ctx: Context) -> list[Any]:
    """Agreement against the lag, and equal error rates against the duration."""
    from pse.scoring.plots import trends
    from pse.scoring.report import Picture

    if not tasks(ctx):
        return []
    found, place = read_json(_target(ctx)), ctx.exp / "images"
    lines = {}
    for wanted in QUANTITIES:
        by_lag = {lag: x for name, lag, x in _steady(found) if name == wanted and x is not None}
        rest = f"\n({by_lag[OTHER]['icc']:.2f} in another)" if OTHER in by_lag else ""
        points = [(float(k), x["icc"], (x["icc_high"] - x["icc_low"]) / 2) for k, x in by_lag.items() if k != OTHER]
        if points:
            lines[f"{wanted}{rest}"] = points
    made = []
    if lines:
        png = trends(lines, "seconds apart, in one recording", "ICC(1)", log_x=True, path=place / "prosody.png")
        made.append(Picture(png, "Agreement of two measurements of one speaker against the seconds between them"))
    rates = {k: [(float(ms), of[k], None) for ms, of in _durations(found) if of[k] is not None] for k in (ONE, OTHER)}
    if any(rates.values()):
        axes = "milliseconds averaged over", "equal error rate (%)"
        png = trends({k: v for k, v in rates.items() if v}, *axes, log_x=True, path=place / "prosody_eer.png")
        made.append(Picture(png, "Equal error rate of mean timbre against the length of the stretch"))
    return made
