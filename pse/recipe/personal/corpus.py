"""Stage corpus: find the corpora, download and verify them, or synthesise the embedded one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pse.errors import PseError
from pse.io.jsonl import write_json
from pse.recipe.material import make_mini
from pse.recipe.options import Context
from pse.recipe.stage import Task


def tasks(ctx: Context) -> list[Task]:
    """One task: data/<corpus>/corpus.json names the directory of every corpus."""
    target = ctx.data / "corpus.json"

    def run(config: Any) -> None:
        found = _mini(ctx, config) if config.corpus.name == "mini" else _given(ctx, config.corpus)
        write_json(target, {k: str(Path(v).absolute()) for k, v in found.items()})
        for name, place in found.items():
            print(f"{name}: {place}", flush=True)

    return [Task("corpora", "corpus", ("corpus",), (), (target,), ctx.data, run)]


def _mini(ctx: Context, config: Any) -> dict[str, Path]:
    root = make_mini(ctx, config.corpus.mini, config.corpus.downloads_dir / "mini")
    return {"librispeech": root / "LibriSpeech", "fsd50k": root / "FSD50K", "musan": root / "musan"}


def _given(ctx: Context, corpus: Any) -> dict[str, Path]:
    from pse.corpora.download import find_or_download

    found = {"librispeech": find_or_download("librispeech", corpus.librispeech_dir, corpus.downloads_dir)}
    if corpus.noise_dir is not None:
        found["noise"] = _own(corpus.noise_dir, "give --noise_dir a directory of noise recordings")
    else:
        found["fsd50k"] = find_or_download("fsd50k", corpus.fsd50k_dir, corpus.downloads_dir)
        found["musan"] = find_or_download("musan", corpus.musan_dir, corpus.downloads_dir)
    if corpus.voice_dir is not None:
        found["voice"] = _own(corpus.voice_dir, "give --voice_dir a directory with one folder of recordings a speaker")
    return found


def _own(directory: Path, fix: str) -> Path:
    if not directory.is_dir():
        raise PseError("no such directory", directory, fix)
    return directory
