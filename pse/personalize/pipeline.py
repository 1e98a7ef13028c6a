"""`pse personalize`: from a directory of noisy recordings to a personal model that is checked."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pse.errors import PseError
from pse.inference.package import load_model, packaged_config, save_package
from pse.personalize.adapt import CLEAN, PSEUDO_SE, train
from pse.personalize.check import Check, compare
from pse.personalize.material import own_noises, parts, read_noises, read_recordings
from pse.personalize.verdict import Verdict, draw, judge_clean, judge_recordings

Tell = Callable[[str], None]
MINUTES = 10.0
# Of the time, where clean speech is given too.
CLEAN_SHARE = 0.2


@dataclass(frozen=True)
class Personalized:
    """What came out. model: its directory; checks: of each step, whose last word is `helped`: where it is not, the
    base model is in the directory."""

    model: Path
    verdict: Verdict
    checks: dict[str, Check]
    helped: bool


def personalize(
    noisy_dir: str | Path, output: str | Path, *, base: str | Path, predictor: str | Path,
    voice: str | Path | None = None, clean: str | Path | None = None, noise_dir: str | Path | None = None,
    minutes: float = MINUTES, seed: int = 0, ngpu: int = 0, progress: Tell = lambda line: None,
) -> Personalized:  # fmt: skip
    """Make a personal model of noisy recordings of one person, and put it into the directory `output`.

    noisy_dir: recordings of any rate and length, a minute of clear speech in all or more. base, predictor: packages of
    the model to start from, and of one that tells frame SNRs. voice: one of an encoder of voices, which tells whether
    all is of one person; None: that is not looked at. clean: recordings of the same person without noise, where
    there are some. noise_dir: noises; None takes synthesised ones. minutes: of training.
    The result is compared with the base on recordings that no training has heard; where it is not better for
    sure, the base is what the directory holds. What clean speech adds is kept where it is better on held-out clean
    speech and not worse for sure on the noisy one. Raises PseError where nothing can be learnt from the recordings.
    """
    output, work = Path(output), Path(f"{output}.work")
    if output.exists():
        raise PseError("is there already", output, "choose another name, or remove it")
    if not minutes > 0:
        raise PseError(f"{minutes:g} minutes are no time", "minutes", "give more")
    first, hears, knows = load_model(base), load_model(predictor), None if voice is None else load_model(voice)
    _check_models(first, hears, base, predictor)
    recordings = read_recordings(Path(noisy_dir), first.sample_rate)
    verdict = judge_recordings(recordings, hears, knows)
    work.mkdir(parents=True, exist_ok=True)
    draw(verdict, work / "verdict.png")
    progress(verdict.text)
    if verdict.refusal:
        told = f"{verdict.refusal}; the picture {work / 'verdict.png'} shows each recording"
        raise PseError(told, noisy_dir)
    if clean is not None:
        # Before anything is trained.
        given = read_recordings(Path(clean), first.sample_rate)
        of_clean = judge_clean(given, verdict, hears, knows)
        progress(f"clean speech: {of_clean.text}")
        if of_clean.refusal:
            raise PseError(of_clean.refusal, clean)
        given = parts(given.samples, first.sample_rate, seed, str(clean))
    speech = parts(recordings.samples, first.sample_rate, seed, str(noisy_dir))
    if noise_dir is None:
        noise = own_noises(recordings, verdict.frame_snr_db, seed)
    else:
        noise = read_noises(Path(noise_dir), first.sample_rate, seed)
    config = packaged_config(base)
    share = 1.0 if clean is None else 1 - CLEAN_SHARE
    personal, checks = copy.deepcopy(first), {}
    train(personal, config, PSEUDO_SE, speech, noise, hears, share * minutes, work / "noisy", seed, ngpu)
    checks["noisy"] = compare(first, personal, speech["judge"], noise["judge"], seed, hears)
    progress(checks["noisy"].text)
    best = personal if checks["noisy"].helped else first
    if clean is not None:
        tuned = copy.deepcopy(best)
        train(tuned, config, CLEAN, given, noise, None, CLEAN_SHARE * minutes, work / "clean", seed, ngpu)
        checks["clean"] = compare(best, tuned, given["judge"], noise["judge"], seed)
        progress(f"with clean speech, {checks['clean'].text}")
        # Of a few seconds too few are left to be sure by; the noisy recordings have a say, too.
        noisy = compare(best, tuned, speech["judge"], noise["judge"], seed, hears)
        if checks["clean"].difference.mean > 0 and not noisy.harmed:
            best = tuned
    helped = best is not first
    if not helped:
        progress("personalising did not help for sure: the model is the base, unchanged")
    save_package(output, best, config, _card(verdict, checks, helped, base, minutes, seed))
    shutil.move(work / "verdict.png", output / "verdict.png")
    shutil.rmtree(work)
    return Personalized(output, verdict, checks, helped)


def _check_models(model: Any, predictor: Any, base: str | Path, hears: str | Path) -> None:
    import torch

    with torch.inference_mode():
        made, told = (m(torch.zeros(1, m.sample_rate)) for m in (model, predictor))
    if made.wavs is None or made.wavs.shape[1] != 1:
        raise PseError("enhances nobody", base, "choose a model of enhancement as the base")
    if told.frame_snr_db is None:
        raise PseError("tells no frame SNR", hears, "choose a package of an SNR predictor")
    if model.sample_rate != predictor.sample_rate:
        what = f"works at {model.sample_rate} Hz, {hears} at {predictor.sample_rate} Hz"
        raise PseError(what, base, "take two of one rate")


def _card(verdict: Verdict, checks: dict[str, Check], helped: bool, base: Any, minutes: float, seed: int) -> str:
    from pse import __version__

    told = "A personal model" if helped else "The base model as it was: personalising it did not help for sure"
    by = f"Made by `pse personalize` (pse {__version__}) from {base}, {minutes:g} min, seed {seed}."
    limits = "It knows one voice, and additive noise at -5 to 5 dB. Its licence follows that of the base."
    lines = [f"# {told}", "", by, "", "## The recordings", ""]
    lines += [*(f"- {line}" for line in verdict.text.splitlines()), "", "## The check", ""]
    lines += [f"- {name} recordings: {check.text}" for name, check in checks.items()]
    lines += ["", "## Limits", "", limits, ""]
    return "\n".join(lines)
