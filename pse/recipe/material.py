"""What every recipe makes of recordings: the embedded corpus, and audio caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pse.recipe.keys import MiniConfig
from pse.recipe.options import Context
from pse.recipe.stage import Task


def make_mini(ctx: Context, amounts: MiniConfig, root: Path) -> Path:
    """The embedded corpus in `root`, synthesised where it is not there yet."""
    from pse.corpora import mini

    mini.make(
        root,
        seed=amounts.seed,
        num_speakers=amounts.num_speakers,
        seconds_per_speaker=amounts.speaker_s,
        target_seconds=amounts.target_speaker_s,
        noise_share=amounts.noise_share,
        num_jobs=ctx.nj,
        progress=lambda line: print(line, flush=True),
    )
    return root


def cache_task(ctx: Context, name: str, as_wsj0_mix: bool = False, trim_db: float | None = None) -> Task:
    """The task that makes the audio cache dump/<corpus>/<set> from data/<corpus>/<set>.

    as_wsj0_mix: resample as the published builder of WSJ0-mix does. trim_db: cut off both ends what is quieter than
    the loudest part by so much.
    """
    source, target = ctx.data / name, ctx.dump / name

    def run(config: Any) -> None:
        from pse.data import wsj0_mix
        from pse.data.cache_build import build
        from pse.io import audio

        resample = wsj0_mix.resample if as_wsj0_mix else audio.resample
        build(source, target, config.sample_rate, ctx.nj, lambda line: print(line, flush=True), resample, trim_db)

    lists = tuple(source / name for name in ("wav.scp", "utt2spk", "utt2dur"))
    # Not every set has categories (a speaker's sex, a noise's kind).
    lists += tuple(p for p in (source / "utt2category",) if p.is_file())
    outputs = (target / "audio.npy", target / "cache.json", target / "wav.scp")
    return Task(f"cache_{name}", "features", ("sample_rate",), lists, outputs, ctx.dump, run, "data")
