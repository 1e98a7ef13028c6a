"""Stage data: whose speech is mixed for training, validation, closed and open tests; digits and noises beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pse.corpora.base import Recording, write_data_dir
from pse.corpora.speaker_split import check_disjoint
from pse.errors import PseError
from pse.io.jsonl import read_json
from pse.recipe.options import Context
from pse.recipe.separation.layout import DIGITS, NOISE_SETS, digits_heard, noise_heard, speech_sets
from pse.recipe.stage import Task

REMAKE = "run ./run.sh --stage corpus --stop_stage corpus --force"
FILES = ("wav.scp", "utt2spk", "spk2utt", "utt2dur")
# The published sets: validation on the closed speakers' mixtures, tests on both.
PARTS = {"train": "tr", "closed": "cv", "open": "tt"}
LISTED = {"valid": (2, "cv"), "train_2": (2, "tr"), "train_3": (3, "tr")} | {
    f"{speech}_{count}": (count, PARTS[speech]) for count in (2, 3, 4, 5) for speech in ("closed", "open")
}


def tasks(ctx: Context) -> list[Task]:
    """The sets of speech; for WSJ0 also the published lists of the mixtures made of them."""
    corpora, sets = ctx.data / "corpus.json", speech_sets(ctx)
    outputs = tuple(ctx.data / s / f for s in sets for f in FILES)
    split = ctx.config.data.split
    given = (split,) if split is not None and split.is_file() else ()
    given += speaker_tables(corpora)

    def speech(config: Any) -> None:
        found = read_corpora(corpora)
        made = cut(ctx, found, config)
        # Closed speakers are the training ones by design; all others must not have been heard.
        check_disjoint({name: recordings for name, recordings in made.items() if name != "closed"}, found["speech"])
        for name, recordings in made.items():
            if name in sets:
                if name == "closed" and not recordings:
                    told = "no training speaker has a second recording to keep for closed tests"
                    raise PseError(told, found["speech"], "leave the sets of closed speakers out of mixture.tests")
                write(ctx.data / name, recordings)

    made = [Task("speech", "data", ("corpus.name", "data"), (corpora, *given), outputs, ctx.data, speech, "corpus")]
    if ctx.config.corpus.name == "wsj0":
        made.append(_lists(ctx, corpora))
    if digits_heard(ctx):
        made.append(_digits(ctx, corpora))
    if noise_heard(ctx):
        made.append(_noises(ctx, corpora))
    return made


def _digits(ctx: Context, corpora: Path) -> Task:
    """Spoken digits of other people, for training on single speakers."""

    def run(config: Any) -> None:
        from pse.corpora import audiomnist

        write(ctx.data / DIGITS, audiomnist.scan(Path(read_corpora(corpora)["digits"])))

    outputs = tuple(ctx.data / DIGITS / f for f in FILES)
    return Task("digits", "data", (), (corpora,), outputs, ctx.data, run, "corpus")


def _noises(ctx: Context, corpora: Path) -> Task:
    """One directory of noises, cut by recording into those of training, validation and tests."""

    def run(config: Any) -> None:
        from pse.corpora import folder

        found = folder.scan(
            Path(read_corpora(corpora)["noise"]), min_duration_s=config.data.min_duration_s, skip_bad=True,
            seed=config.data.seed,
        )  # fmt: skip
        for name, split in NOISE_SETS.items():
            write(ctx.data / name, [r for r in found if r.split == split])

    outputs = tuple(ctx.data / s / f for s in NOISE_SETS for f in FILES)
    return Task("noise", "data", ("data",), (corpora,), outputs, ctx.data, run, "corpus")


def speaker_tables(corpora: Path) -> tuple[Path, ...]:
    """Where the corpus that stage corpus found tells its speakers' sexes."""
    if not corpora.is_file():
        return ()
    root = Path(read_corpora(corpora)["speech"])
    return tuple(sorted(p for pattern in ("*spkrinfo*.txt", "SPEAKERS.TXT") for p in root.glob(pattern)))


def _lists(ctx: Context, corpora: Path) -> Task:
    place = ctx.data / "lists"
    levels = place / "utt2active_level"

    def run(config: Any) -> None:
        import math

        from pse.data import wsj0_mix
        from pse.io.atomic import write_text
        from pse.io.tables import render

        source = Path(read_corpora(corpora)["lists"])
        for name, (count, part) in LISTED.items():
            write_text(place / f"{name}.txt", wsj0_mix.verify(source / f"mix_{count}_spk_{part}.txt"))
        powers: dict[str, float] = {}
        for path in sorted(source.glob("activlev_*.txt")):
            powers |= wsj0_mix.parse_levels(wsj0_mix.verify(path), path)
        in_db = {u: f"{10 * math.log10(p):.6f}" for u, p in sorted(powers.items())}
        write_text(levels, render(levels.name, in_db))

    outputs = (levels, *(place / f"{name}.txt" for name in LISTED))
    return Task("lists", "data", (), (corpora,), outputs, ctx.data, run, "corpus")


def read_corpora(path: Path) -> dict[str, str]:
    """The directories that stage corpus found. Raises PseError when it did not write the file like this."""
    try:
        found = read_json(path)
    except PseError as error:
        raise PseError(error.what, error.where, REMAKE) from error
    if not isinstance(found, dict) or not isinstance(found.get("speech"), str):
        raise PseError("names no directory of speech", path, REMAKE)
    return found


def cut(ctx: Context, found: dict[str, str], config: Any) -> dict[str, list[Recording]]:
    """train, closed, open and, where no list tells the validation, valid."""
    root, name = Path(found["speech"]), config.corpus.name
    if name == "wsj0":
        return _published(root, Path(found["lists"]))
    if name == "mini":
        return _as_on_the_discs(root, config.data)
    return _drawn(root, name, config.data)


def _published(root: Path, lists: Path) -> dict[str, list[Recording]]:
    """What the lists of two and three speakers use, and those of more use nothing else.

    Raises PseError that counts missing utterances by disc.
    """
    from pse.corpora import wsj0
    from pse.data import wsj0_mix

    recordings, sets = wsj0.scan(root), {}
    for name, part in PARTS.items():
        entries = [e for c in (2, 3) for e in wsj0_mix.read_published(lists / f"mix_{c}_spk_{part}.txt")]
        sets[name] = list(wsj0.require(recordings, {p for e in entries for p in e.paths}, root).values())
    return sets


def _as_on_the_discs(root: Path, data: Any) -> dict[str, list[Recording]]:
    """si_tr_s for training, the last utterances of each speaker kept as closed; the test sets are open."""
    from pse.corpora import speaker_split, wsj0

    recordings = [r for r in wsj0.scan(root) if r.duration_s >= data.min_duration_s]
    split = {r.speaker: "train" if r.split == "si_tr_s" else "open" for r in recordings}
    return speaker_split.cut(recordings, split, data.closed_share)


def _drawn(root: Path, name: str, data: Any) -> dict[str, list[Recording]]:
    """Speakers by a split file, by LibriSpeech's own subsets, or drawn."""
    from pse.corpora import folder, librispeech, speaker_split

    if name == "librispeech":
        place = librispeech.find_root(root)
        there = [s for s in librispeech.SUBSETS if (place / s).is_dir()]
        recordings = librispeech.scan(root, there, need_targets=False)
    else:
        recordings = folder.scan(root, min_duration_s=data.min_duration_s, skip_bad=True)
    recordings = [r for r in recordings if r.duration_s >= data.min_duration_s]
    if data.split is not None:
        split = speaker_split.read_split(data.split)
    else:
        split = speaker_split.draw_split(recordings, data.valid_speakers, data.open_speakers, data.seed)
    return speaker_split.cut(recordings, split, data.closed_share)


def write(directory: Path, recordings: list[Recording]) -> None:
    """Write one data directory, and say what is in it."""
    write_data_dir(directory, recordings)
    minutes = sum(r.duration_s for r in recordings) / 60
    speakers = len({r.speaker for r in recordings})
    print(f"{directory}: {speakers} speakers, {len(recordings)} recordings, {minutes:.1f} min", flush=True)
