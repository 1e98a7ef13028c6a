"""Stage corpus: find WSJ0 or another corpus of speakers, or synthesise the embedded one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pse.errors import PseError
from pse.io.jsonl import write_json
from pse.recipe.material import make_mini
from pse.recipe.options import Context
from pse.recipe.separation.layout import digits_heard, noise_heard
from pse.recipe.stage import Task

WAYS_ON = (
    "give --wsj0_dir the LDC93S6A or LDC93S6B tree; or take free speech: --corpus librispeech (downloaded where no "
    "--librispeech_dir is given), or --corpus own --voice_dir DIR; or synthesised speech: --corpus mini"
)


def tasks(ctx: Context) -> list[Task]:
    """One task: data/<corpus>/corpus.json names the directory of the speech."""
    target = ctx.data / "corpus.json"

    def run(config: Any) -> None:
        found = {"speech": find(ctx, config.corpus)}
        if config.corpus.name == "wsj0":
            from pse.data.wsj0_lists import find_or_download

            found["lists"] = find_or_download(config.corpus.lists_dir, config.corpus.downloads_dir)
        if digits_heard(ctx):
            found["digits"] = _beside(ctx, config.corpus, "audiomnist_dir")
        if noise_heard(ctx):
            found["noise"] = _beside(ctx, config.corpus, "noise_dir")
        write_json(target, {k: str(Path(v).absolute()) for k, v in found.items()})
        for name, place in found.items():
            print(f"{name}: {place}", flush=True)

    # Whether digits and noises are needed, the methods and tests say.
    facts = {"digits": str(digits_heard(ctx)), "noise": str(noise_heard(ctx))}
    return [Task("corpora", "corpus", ("corpus",), (), (target,), ctx.data, run, facts=facts)]


def find(ctx: Context, corpus: Any) -> Path:
    """The directory of the speech. Raises PseError with the ways to go on when there is none."""
    if corpus.name == "mini":
        return _mini(ctx, corpus)
    if corpus.name == "librispeech":
        from pse.corpora.download import find_or_download

        return find_or_download("librispeech", corpus.librispeech_dir, corpus.downloads_dir)
    option = {"wsj0": "wsj0_dir", "own": "voice_dir"}[corpus.name]
    place = getattr(corpus, option)
    if place is None or not place.is_dir():
        what = "no directory is given" if place is None else "no such directory"
        raise PseError(what, place or f"--{option}", WAYS_ON)
    return place


def _beside(ctx: Context, corpus: Any, option: str) -> Path:
    """The directory of digits or noises. Raises PseError where there is none."""
    place = getattr(corpus, option)
    if place is None and corpus.name == "mini":
        if option == "noise_dir":
            return corpus.downloads_dir / "mini_speech" / "FSD50K"
        from pse.corpora import mini_audiomnist

        return mini_audiomnist.make(corpus.downloads_dir / "mini_digits", corpus.mini.seed)
    if place is None or not place.is_dir():
        what = "no directory is given, and a method or test asks for it" if place is None else "no such directory"
        fix = {"audiomnist_dir": "the AudioMNIST tree, or set digits: false", "noise_dir": "noises, or leave them out"}
        raise PseError(what, place or f"--{option}", f"give --{option} {fix[option]}")
    return place


def _mini(ctx: Context, corpus: Any) -> Path:
    from pse.corpora import mini_wsj0

    root = make_mini(ctx, corpus.mini, corpus.downloads_dir / "mini_speech")
    return mini_wsj0.lay_out(root / "LibriSpeech", corpus.downloads_dir / "mini_wsj0")
