"""`pse personalize`: from a directory of noisy recordings to a personal model that is checked."""

from __future__ import annotations

import copy
import hashlib
import math
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pse.data.cache import MemoryCache
from pse.errors import PseError
from pse.inference.builtin import DEFAULTS, SIZES, package
from pse.inference.loaded import LoadedModel
from pse.inference.package import load_network, packaged_config, save_package
from pse.io.atomic import target_of
from pse.io.jsonl import read_json, write_json
from pse.personalize.adapt import CLEAN, PSEUDO_SE, train
from pse.personalize.card import Origin, card, digest, licence_of
from pse.personalize.check import Check, compare, quality
from pse.personalize.material import NUM_NOISES, Recordings, own_noises, parts, read_recordings
from pse.personalize.verdict import Verdict, draw, judge_clean, judge_noises, judge_recordings

Tell = Callable[[str], None]
MINUTES = 10.0
# Of the time, where clean speech is given too.
CLEAN_TIME = 0.2
ASKED, PICTURE = "asked.json", "verdict.png"


@dataclass(frozen=True)
class Personalized:
    """What came out. model: its directory; checks: of each step, whose last word is `helped`: where it is not, the
    base model is in the directory."""

    model: Path
    verdict: Verdict
    checks: dict[str, Check]
    helped: bool


def personalize(
    noisy_dir: str | Path, output: str | Path, *, base: str | Path | None = None, size: int | None = None,
    predictor: str | Path = DEFAULTS["snr_predictor"], voice: str | Path | None = DEFAULTS["voice"],
    clean: str | Path | None = None, noise_dir: str | Path | None = None,
    minutes: float = MINUTES, seed: int = 0, ngpu: int = 0, progress: Tell = lambda line: None,
) -> Personalized:  # fmt: skip
    """Make a personal model of noisy recordings of one person, and put it into the directory `output`.

    noisy_dir: recordings of any rate and length, a minute of clear speech in all or more. base, predictor:
    built-in names or packages of the model to start from, and of one that tells frame SNRs. size: of a built-in base
    by its hidden units, 64, 128 or 256; neither base nor size: the one of enhancement. voice: of an encoder of
    voices, which tells whether all is of one person; None: that is not looked at. clean: recordings of the same
    person without noise, where there are some. noise_dir: noises; None takes synthesised ones. minutes: of training.
    The result is compared with the base on recordings that no training has heard; where it is not better for
    sure, the base is what the directory holds. What clean speech adds is kept where it is better on held-out clean
    speech and not worse for sure on the noisy one. Raises PseError where nothing can be learnt from the recordings.
    """
    output, work = Path(output), Path(f"{output}.work")
    if output.exists():
        raise PseError("is there already", output, "choose another name, or remove it")
    _check_work(work)
    _check_given(noisy_dir, clean, noise_dir, minutes, seed)
    if size is not None and (base is not None or size not in SIZES):
        fix = f"give one of {', '.join(map(str, SIZES))}, and no base"
        raise PseError(f"there is no built-in model of size {size}, or a base is named too", "size", fix)
    chosen = {"base": base or (DEFAULTS["enhance"] if size is None else SIZES[size]), "predictor": predictor}
    chosen |= {} if voice is None else {"voice": voice}
    places = {role: package(model) for role, model in chosen.items()}
    networks = {role: load_network(place) for role, place in places.items()}
    models = _Models(config=packaged_config(places["base"]), **networks)
    _check_models(models, chosen)
    sums = {role: digest(place) for role, place in places.items()}
    given = _look(models, Path(noisy_dir), clean, noise_dir, seed, work, progress)
    asked = {"minutes": minutes, "seed": seed, "base": sums["base"], "predictor": sums["predictor"]}
    _same_again(work, asked | given.digests())
    best, checks, checked = _learn(models, given, minutes, seed, ngpu, work, progress)
    helped = best is not models.base
    if not helped:
        progress("personalising did not help for sure: the model is the base, unchanged")
    options = {"noisy": Path(noisy_dir), "output": output} | chosen | {"voice": voice or "none"}
    options |= {"clean": clean and Path(clean), "noise_dir": noise_dir and Path(noise_dir)}
    options |= {"minutes": f"{minutes:g}", "seed": seed, "ngpu": ngpu or None}
    named = {role: (str(model), sums[role]) for role, model in chosen.items()}
    origin = Origin(options, named, licence_of(places["base"]), given.found)
    save_package(output, best, models.config, card(origin, checked, helped))
    shutil.move(work / PICTURE, output / PICTURE)
    shutil.rmtree(work)
    return Personalized(output, given.verdict, checks, helped)


@dataclass(frozen=True)
class _Models:
    base: Any
    predictor: Any
    config: dict[str, Any]
    voice: Any = None


@dataclass(frozen=True)
class _Given:
    """What trains, selects and judges: pieces of noisy and of clean speech and of noise, by these parts.

    found: what is told of each of the three.
    """

    verdict: Verdict
    speech: dict[str, MemoryCache]
    noise: dict[str, MemoryCache]
    clean: dict[str, MemoryCache] | None
    found: dict[str, list[str]]

    def digests(self) -> dict[str, str]:
        """What it is known by when a training goes on."""
        every = {"speech": self.speech, "noise": self.noise, "clean": self.clean or {}}
        return {name: _digest(part.values()) for name, part in every.items()}


def _look(
    models: _Models, noisy: Path, clean: str | Path | None, noise_dir: str | Path | None, seed: int, work: Path,
    tell: Tell,
) -> _Given:  # fmt: skip
    """The verdict, and what there is to train on. Raises PseError where that is nothing."""
    rate = models.base.sample_rate
    recordings = read_recordings(noisy, rate)
    verdict = judge_recordings(recordings, models.predictor, models.voice)
    work.mkdir(parents=True, exist_ok=True)
    draw(verdict, work / PICTURE)
    tell(verdict.text)
    if verdict.refusal:
        raise PseError(f"{verdict.refusal}; the picture {work / PICTURE} shows the worst recordings", noisy)
    found, spoken = {"noisy speech": verdict.text.splitlines()}, None
    if clean is not None:
        quiet = read_recordings(Path(clean), rate)
        of_clean = judge_clean(quiet, verdict, models.predictor, models.voice)
        tell(f"clean speech: {of_clean.text}")
        if of_clean.refusal:
            raise PseError(of_clean.refusal, clean)
        found["clean speech"], spoken = of_clean.text.splitlines(), parts(quiet.samples, rate, seed, str(clean))
    noise, told = _noises(models, recordings, verdict, noise_dir, seed)
    tell(f"noise: {told}")
    found["noise"] = [told]
    return _Given(verdict, parts(recordings.samples, rate, seed, str(noisy)), noise, spoken, found)


def _noises(
    models: _Models, recordings: Recordings, verdict: Verdict, noise_dir: str | Path | None, seed: int
) -> tuple[dict[str, MemoryCache], str]:
    """Noises, and where they are from. Raises PseError for noises that are speech of the person."""
    if noise_dir is None:
        noise, between_s = own_noises(recordings, verdict.frame_snr_db, seed)
        return noise, f"{NUM_NOISES} synthesised ones, and {between_s:.0f} s from between the words"
    given = read_recordings(Path(noise_dir), recordings.sample_rate)
    told, refusal = judge_noises(given, verdict, models.predictor, models.voice)
    if refusal:
        raise PseError(refusal, noise_dir)
    return parts(given.samples, given.sample_rate, seed, str(noise_dir)), told


def _learn(
    models: _Models, given: _Given, minutes: float, seed: int, ngpu: int, work: Path, tell: Tell
) -> tuple[Any, dict[str, Check], list[str]]:
    """The best model, which is the base itself where nothing was gained, the check of each step, and its words."""
    noise, judges = given.noise, given.noise["judge"]
    share = 1.0 if given.clean is None else 1 - CLEAN_TIME
    personal, checks = copy.deepcopy(models.base), {}
    train(personal, models.config, PSEUDO_SE, given.speech, noise, models.predictor, share * minutes, work / "noisy",
          seed, ngpu)  # fmt: skip
    checks["noisy"] = compare(models.base, personal, given.speech["judge"], judges, seed, models.predictor)
    told = [checks["noisy"].text, quality(models.base, personal, given.speech["judge"])]
    for line in told:
        tell(line)
    best = personal if checks["noisy"].helped else models.base
    if given.clean is None:
        return best, checks, told
    tuned = copy.deepcopy(best)
    train(tuned, models.config, CLEAN, given.clean, noise, None, CLEAN_TIME * minutes, work / "clean", seed, ngpu)
    checks["clean"] = compare(best, tuned, given.clean["judge"], judges, seed)
    told.append(f"with clean speech, {checks['clean'].text}")
    tell(told[-1])
    # Of a few seconds too few are left to be sure by; the noisy recordings have a say, too.
    noisy = compare(best, tuned, given.speech["judge"], judges, seed, models.predictor)
    return tuned if checks["clean"].difference.mean > 0 and not noisy.harmed else best, checks, told


def _same_again(work: Path, asked: dict[str, Any]) -> None:
    """Let a training go on only with what it began with. Raises PseError for anything else."""
    place = work / ASKED
    if place.is_file() and (before := read_json(place)) != asked:
        other = ", ".join(sorted(k for k in asked if before.get(k) != asked[k]))
        raise PseError(f"has begun with another {other}", work, "remove it, or choose another --output")
    write_json(place, asked)


def _digest(caches: Iterable[MemoryCache]) -> str:
    made = hashlib.sha256()
    for cache in caches:
        for name in cache.ids:
            made.update(cache.read(name).tobytes())
    return made.hexdigest()


def _check_work(work: Path) -> None:
    """Let a training go on where this command has begun one, and leave alone what somebody else has there."""
    if not work.exists():
        return
    # What was being written when it was stopped counts as written.
    names = {target_of(path).name for path in work.iterdir()} if work.is_dir() else {work.name}
    if ASKED not in names and names - {PICTURE}:
        raise PseError("is needed for the training, and has other files", work, "choose another --output, or move it")


def _check_given(
    noisy: str | Path, clean: str | Path | None, noises: str | Path | None, minutes: float, seed: int
) -> None:
    """What can be told at once, and not after a long look at the recordings."""
    if not 0 < minutes < math.inf:
        raise PseError(f"{minutes:g} minutes are no time", "minutes", "give a number above 0")
    if seed < 0:
        raise PseError(f"a seed of {seed}", "seed", "give 0 or more")
    for place in (noisy, clean, noises):
        if place is not None and not Path(place).exists():
            raise PseError("is not there", place, "check the path")


def _check_models(models: _Models, chosen: dict[str, str | Path]) -> None:
    model, predictor, base, hears = models.base, models.predictor, chosen["base"], chosen["predictor"]
    with torch.inference_mode():
        made, told = (m(torch.zeros(1, m.sample_rate)) for m in (model, predictor))
    if made.wavs is None or made.wavs.shape[1] != 1:
        raise PseError("enhances nobody", base, "choose a model of enhancement as the base")
    if told.frame_snr_db is None:
        raise PseError("tells no frame SNR", hears, "choose a package of an SNR predictor")
    if model.sample_rate != predictor.sample_rate:
        what = f"works at {model.sample_rate} Hz, {hears} at {predictor.sample_rate} Hz"
        raise PseError(what, base, "take two of one rate")
    if models.voice is not None and LoadedModel(models.voice, "", "").task != "voice":
        raise PseError("tells no voices apart", chosen["voice"], "choose a package of an encoder of voices, or none")
