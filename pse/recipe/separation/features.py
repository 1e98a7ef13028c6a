"""Stage features: audio caches at one rate, active levels, and the descriptions of the fixed mixtures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pse.data.conditions import Conditions
from pse.errors import PseError, first_three
from pse.recipe.material import cache_task
from pse.recipe.options import Context
from pse.recipe.separation.config import SetConfig
from pse.recipe.separation.data import LISTED
from pse.recipe.separation.layout import (
    DIGITS,
    NOISE_SETS,
    TRAIN,
    VALID,
    cache_files,
    digits_heard,
    noise_files,
    noise_heard,
    noises,
    speech_sets,
    train_sets,
    valid_speech,
    voices,
)
from pse.recipe.stage import Task

# Utterances whose level is measured to see that the audio is that of the published levels.
CHECKED = 20
# The noises of the fixed test sets, and what is cut off the ends of spoken digits.
NOISE = "noise_test"
TRIM_DB = 40.0


def tasks(ctx: Context) -> list[Task]:
    """A cache and the levels of every set of speech; every fixed set of mixtures."""
    made = [t for name in speech_sets(ctx) for t in (cache_task(ctx, name, as_wsj0_mix=True), _levels(ctx, name))]
    if digits_heard(ctx):
        made += [cache_task(ctx, DIGITS, trim_db=TRIM_DB), _levels(ctx, DIGITS)]
    if noise_heard(ctx):
        made += [cache_task(ctx, name) for name in NOISE_SETS]
    return [*made, *(_mixtures(ctx, name) for name in (VALID, *train_sets(ctx), *ctx.config.mixture.tests))]


def _levels(ctx: Context, name: str) -> Task:
    target = ctx.dump / "levels" / name / "utt2active_level"
    published = ctx.data / "lists" / "utt2active_level"
    listed = (published,) if ctx.config.corpus.name == "wsj0" and name != DIGITS else ()

    def run(config: Any) -> None:
        from pse.data.cache import AudioCache
        from pse.io.atomic import write_text
        from pse.io.tables import render

        cache = AudioCache(ctx.dump / name)
        levels = _published(published, cache) if listed else dict(_measured(cache, cache.ids, ctx.nj))
        write_text(target, render(target.name, levels))
        print(f"{name}: active level of {len(levels)} utterances", flush=True)

    inputs = (ctx.dump / name / "cache.json", *listed)
    return Task(f"levels_{name}", "features", (), inputs, (target,), ctx.dump, run, "features", wave=1)


def _published(path: Path, cache: Any) -> dict[str, str]:
    """Published levels of a cache's utterances; measured ones of some tell whether it is the same audio."""
    from pse.data.wsj0_mix import level_fault
    from pse.io.tables import read_table

    told = read_table(path)
    some = cache.ids[:: max(1, len(cache.ids) // CHECKED)]
    measured = {u: 10 ** (float(db) / 10) for u, db in _measured(cache, some, 1)}
    if fault := level_fault(measured, {u: 10 ** (float(told[u]) / 10) for u in some if u in told}):
        raise PseError(fault, cache.directory, "copy the .wv1 files from the discs")
    others = [u for u in cache.ids if u not in told]
    return {u: told[u] for u in cache.ids if u in told} | dict(_measured(cache, others, 1))


def _measured(cache: Any, utts: Sequence[str], nj: int) -> Iterator[tuple[str, str]]:
    """Active level of utterances (ITU-T P.56) in dB re full scale."""
    from concurrent.futures import ThreadPoolExecutor

    from pse.dsp.active_level import active_level

    with ThreadPoolExecutor(max(1, nj)) as pool:
        levels = pool.map(lambda u: active_level(cache.read(u), cache.sample_rate).level_db, utts)
        yield from ((u, f"{level:.4f}") for u, level in zip(utts, levels, strict=True))


def _mixtures(ctx: Context, name: str) -> Task:
    directory = ctx.dump / "mixtures" / name
    wanted = ctx.config.mixture.tests.get(name)
    if wanted is not None:
        speech = wanted.speech
    else:
        speech = valid_speech(ctx) if name == VALID else "train"
    published = ctx.data / "lists" / f"{name}.txt"
    # By name, not by what lies there: nothing else may be drawn under the name of a list.
    listed = (published,) if ctx.config.corpus.name == "wsj0" and name in LISTED else ()

    def run(config: Any) -> None:
        from pse.data.fixed import write_fixed

        if listed:
            specs = list(_described(ctx, config, name, speech, published))
        else:
            specs = list(_drawn(ctx, config, name, speech, wanted))
        noise = NOISE if wanted is not None and wanted.conditions.noise_snr_db is not None else None
        write_fixed(directory, specs, {"speech": speech, "noise": noise})
        seconds = sum(s.num_samples for s in specs) / config.sample_rate
        print(f"{name}: {len(specs)} mixtures, {seconds / 60:.1f} min", flush=True)

    outputs = (directory / "specs.jsonl", directory / "sources.json")
    heard = () if wanted is None else noise_files(ctx, wanted.conditions, NOISE)
    inputs = (*cache_files(ctx, speech), *listed, *heard)
    reads = ("sample_rate", "mixture")
    made_by = "data" if listed else "features"
    return Task(f"mixtures_{name}", "features", reads, inputs, outputs, ctx.dump, run, made_by, wave=2)


def _drawn(ctx: Context, config: Any, name: str, speech: str, wanted: SetConfig | None) -> Iterator[Any]:
    """Descriptions of a set that no list describes."""
    from pse.data.scene import peak_scaled
    from pse.data.speech_mixture import SpeakerSampler

    mixture, spoken = config.mixture, voices(ctx, speech)
    longest = mixture.valid_duration_s if name == VALID else mixture.max_duration_s
    if wanted is None:
        training = name.startswith(TRAIN)
        num_speakers = int(name.removeprefix(TRAIN)) if training else 2
        wanted = SetConfig("closed", num_speakers, num_mixtures=mixture.num_train if training else mixture.num_valid)
    conditions, noise = wanted.conditions, noises(ctx, wanted.conditions, NOISE)
    sampler = SpeakerSampler(
        spoken, round(longest * config.sample_rate), mixture.seed, name, (wanted.num_speakers,), wanted.pairing,
        mixture.spread_db, whole=True, speakers=wanted.speakers, conditions=conditions, noise=noise,
    )  # fmt: skip
    for number in range(wanted.num_mixtures):
        yield peak_scaled(sampler.spec(number), spoken.cache, noise, conditions.reference)


def _described(ctx: Context, config: Any, name: str, speech: str, published: Path) -> Iterator[Any]:
    """Descriptions of the mixtures of a published list; validation takes its first ones.

    Raises PseError when the config asks for other mixtures under the name of the list.
    """
    from pse.data import wsj0_mix
    from pse.data.speech_mixture import listed

    entries, wanted = wsj0_mix.parse(published.read_text(encoding="ascii"), published), config.mixture.tests.get(name)
    if name == VALID:
        entries = entries[: config.mixture.num_valid]
    count = len(entries[0].paths)
    asked = wanted and (wanted.num_speakers, wanted.pairing, wanted.speakers, wanted.conditions)
    if asked and asked != (count, "whole", None, Conditions()):
        what = f"is a published list of {count} speakers each, and other mixtures are asked for"
        raise PseError(what, f"mixture.tests.{name}", "give the set another name")
    spoken = voices(ctx, speech)
    if unknown := [u for e in entries for u in e.utts if u not in spoken.level_db]:
        what = f"is a list of others than {speech} speakers ({first_three(unknown)} are not there)"
        raise PseError(what, f"mixture.tests.{name}", "correct speech:, or give the set another name")
    yield from (listed(e, spoken) for e in entries)
