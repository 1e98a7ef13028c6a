"""Stage data: who is heard, who is spoken to, and which noises serve what.

Speech: the 20 published target speakers, each cut by cumulated duration; 20 speakers to validate
generalists; all others to train them. Noise: FSD50K surrounds the user, MUSAN is injected.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from pse.cli import guarded
from pse.corpora.base import Recording, write_data_dir
from pse.errors import PseError, first_three
from pse.io.jsonl import read_json
from pse.recipe.options import Context
from pse.recipe.personal.layout import NOISE_SETS, SPEECH_SETS, TARGET_PARTS
from pse.recipe.runner import main
from pse.recipe.stage import Task

REMAKE = "run ./run.sh --stage corpus --stop_stage corpus --force"
CORPORA = {"librispeech", "fsd50k", "musan"}
LISTS = ("wav.scp", "utt2spk", "spk2utt", "utt2dur")


def tasks(ctx: Context) -> list[Task]:
    """Speech and noise are listed apart, so that a change to one leaves the other alone."""
    corpora = ctx.data / "corpus.json"
    lists = {sets: tuple(ctx.data / s / f for s in sets for f in LISTS) for sets in (SPEECH_SETS, NOISE_SETS)}

    if ctx.config.corpus.name == "mini":
        # It has eight of the published target speakers by design; that the others are missing is no news.
        logging.getLogger("pse.corpora").setLevel(logging.ERROR)

    def speech(config: Any) -> None:
        write_sets(ctx, speech_sets(read_corpora(corpora), config.data))

    def noise(config: Any) -> None:
        write_sets(ctx, noise_sets(read_corpora(corpora), config))

    cuts = [f"data.{key}" for key in ("speakers", "min_duration_s", "test_s", "val_s", "train_s", "preval_s")]
    filters = ("data.min_noise_duration_s", "data.num_valid_noises", "corpus.noise_manifest", "data.seed")
    manifest = ctx.config.corpus.noise_manifest
    # One that is not there is told by its reader: no stage makes it.
    given = (manifest,) if manifest is not None and manifest.is_file() else ()
    return [
        Task("speech", "data", tuple(cuts), (corpora,), lists[SPEECH_SETS], ctx.data, speech, "corpus"),
        Task("noise", "data", filters, (corpora, *given), lists[NOISE_SETS], ctx.data, noise, "corpus"),
    ]


def read_corpora(path: Path) -> dict[str, str]:
    """The directory of every corpus. Raises PseError when stage corpus did not write the file like this."""
    try:
        found = read_json(path)
    except PseError as error:
        raise PseError(error.what, error.where, REMAKE) from error
    needed = {"librispeech", "noise"} if isinstance(found, dict) and "noise" in found else CORPORA
    whole = isinstance(found, dict) and set(found) - {"voice"} == needed
    if not whole or not all(isinstance(v, str) for v in found.values()):
        raise PseError(f"does not name the directories of {', '.join(sorted(CORPORA))}", path, REMAKE)
    return found


def write_sets(ctx: Context, sets: dict[str, list[Recording]]) -> None:
    """Write one data directory a set, and say what is in it."""
    for name, recordings in sets.items():
        write_data_dir(ctx.data / name, recordings)
        speakers = len({r.speaker for r in recordings})
        minutes = sum(r.duration_s for r in recordings) / 60
        who = f"{speakers} speakers, " if name in SPEECH_SETS else ""
        print(f"{ctx.data / name}: {who}{len(recordings)} recordings, {minutes:.1f} min", flush=True)


def speech_sets(corpora: dict[str, str], data: Any) -> dict[str, list[Recording]]:
    """LibriSpeech by role; the target speakers cut into test, val, train, preval, pretrain."""
    from pse.corpora import folder, librispeech
    from pse.corpora.splits import split_speakers

    everything = librispeech.scan(Path(corpora["librispeech"]))
    targets = [r for r in everything if r.split == "test"]
    if "voice" in corpora:
        targets = folder.scan(Path(corpora["voice"]), min_duration_s=data.min_duration_s, skip_bad=True)
        if twice := sorted({r.speaker for r in targets} & {r.speaker for r in everything if r.split != "test"}):
            raise PseError(f"{first_three(twice)} speaks in LibriSpeech too", corpora["voice"], "rename the folder")
    if data.speakers is not None:
        missing = sorted(set(data.speakers) - {r.speaker for r in targets})
        if missing:
            raise PseError(
                f"{len(missing)} are no target speakers of this corpus: {first_three(missing)}", "data.speakers",
                f"choose among {' '.join(sorted({r.speaker for r in targets}))}",
            )
        targets = [r for r in targets if r.speaker in data.speakers]
    seconds = {part: getattr(data, f"{part}_s") for part in TARGET_PARTS[:-1]}
    splits = split_speakers(targets, seconds, data.min_duration_s, skip_poor=data.speakers is None)
    for split in splits:
        print(split.describe(), flush=True)
    long_enough = [r for r in everything if r.duration_s >= data.min_duration_s]
    sets = {role: [r for r in long_enough if r.split == role] for role in ("train", "valid")}
    return sets | {f"target_{p}": [r for s in splits for r in s.parts[p]] for p in TARGET_PARTS}


def noise_sets(corpora: dict[str, str], config: Any) -> dict[str, list[Recording]]:
    """The user's surroundings (premix_*) and the injected noises (noise_*), never the same recording."""
    least = config.data.min_noise_duration_s
    if "noise" in corpora:
        return own_noise_sets(Path(corpora["noise"]), config)
    from pse.corpora import fsd50k, musan

    around = fsd50k.scan(Path(corpora["fsd50k"]), min_duration_s=least)
    injected = musan.scan(Path(corpora["musan"]), config.data.num_valid_noises, least)
    sets = {f"premix_{s}": [r for r in around if r.split == s] for s in ("train", "valid", "eval")}
    return sets | {f"noise_{s}": [r for r in injected if r.split == s] for s in ("train", "valid", "test")}


def own_noise_sets(directory: Path, config: Any) -> dict[str, list[Recording]]:
    """One directory of noises in place of both corpora, cut by recording into disjoint parts."""
    from pse.corpora import folder

    found = folder.scan(
        directory, manifest=config.corpus.noise_manifest, min_duration_s=config.data.min_noise_duration_s,
        skip_bad=True, seed=config.data.seed,
    )
    by_split = {s: [r for r in found if r.split == s] for s in ("train", "valid", "test")}
    heard, surroundings, injected = folder.halves(by_split["train"], 3, config.data.seed)
    valid_around, valid_injected = folder.halves(by_split["valid"], 2, config.data.seed)
    return {
        "premix_train": heard, "premix_eval": surroundings, "premix_valid": valid_around,
        "noise_train": injected, "noise_valid": valid_injected, "noise_test": by_split["test"],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(guarded(lambda: main("data", tasks, sys.argv[1:], [sys.executable, __file__])))
