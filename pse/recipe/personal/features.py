"""Stage features: audio caches at one rate, fixed mixtures, frame-SNR labels and features."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pse.recipe.material import cache_task
from pse.recipe.options import Context
from pse.recipe.personal.layout import NOISE_SETS, SPEECH_SETS, cache_files, speakers
from pse.recipe.stage import Task

# Fixed set -> the caches its mixtures are made of.
FIXED_SETS = {
    "test": {"speech": "target_test", "noise": "noise_test"},
    "val": {"speech": "target_val", "noise": "noise_valid"},
    "valid": {"speech": "valid", "noise": "noise_valid"},
    "preval": {"speech": "target_preval", "noise": "noise_valid", "premixture_noise": "premix_valid"},
    "snr_valid": {"speech": "valid", "premixture_noise": "premix_valid"},
}


def tasks(ctx: Context) -> list[Task]:
    """A cache for every data set, the descriptions of every fixed set, labels for the SNR predictor."""
    speakers(ctx)
    caches = [cache_task(ctx, name) for name in (*SPEECH_SETS, *NOISE_SETS)]
    return [*caches, *(_mixtures(ctx, name) for name in FIXED_SETS), _labels(ctx)]


def _mixtures(ctx: Context, name: str) -> Task:
    directory, sets = ctx.dump / "mixtures" / name, FIXED_SETS[name]
    inputs = (*cache_files(ctx, *sets.values()), ctx.data / "target_test" / "spk2utt")

    def run(config: Any) -> None:
        from pse.data.fixed import write_fixed

        write_fixed(directory, _draw(ctx, config, name), sets)

    outputs = (directory / "specs.jsonl", directory / "sources.json")
    reads = ("sample_rate", "mixture", "snr_predictor.snr_db", "snr_predictor.num_valid")
    return Task(f"mixtures_{name}", "features", reads, inputs, outputs, ctx.dump, run, "features", wave=1)


def _draw(ctx: Context, config: Any, name: str) -> Iterator[Any]:
    """Descriptions of a fixed set: as many for every target speaker, or so many in all."""
    from pse.data.cache import select
    from pse.data.fixed import open_sources
    from pse.data.mixture import MixtureSampler

    sources = open_sources(ctx.dump, FIXED_SETS[name])
    mixture, predictor = config.mixture, config.snr_predictor
    alone = name in ("valid", "snr_valid")
    count = {"test": mixture.num_test, "snr_valid": predictor.num_valid}.get(name, mixture.num_valid)
    first = predictor.snr_db if name == "snr_valid" else mixture.premixture_snr_db
    for speaker in [None] if alone else speakers(ctx):
        sampler = MixtureSampler(
            sources,
            select(sources.speech, None if speaker is None else [speaker]),
            round(mixture.duration_s * config.sample_rate),
            mixture.seed,
            name if speaker is None else f"{speaker}-{name}",
            mixture.snr_db,
            first,
        )
        yield from (sampler.spec(i) for i in range(count))


def _labels(ctx: Context) -> Task:
    directory = ctx.dump / "mixtures" / "snr_valid"
    inputs = (directory / "specs.jsonl", *cache_files(ctx, *FIXED_SETS["snr_valid"].values()))

    def run(config: Any) -> None:
        from pse.data.fixed import FixedMixtures

        write_labels(FixedMixtures(ctx.dump, "snr_valid"), directory)

    outputs = (directory / "feats.scp", directory / "frame_snr.scp")
    return Task("labels_snr_valid", "features", (), inputs, outputs, ctx.dump, run, "features", wave=2)


def write_labels(mixtures: Any, directory: Path) -> None:
    """Kaldi arks: log-magnitude of the premixture [F, K] and its frame SNR in dB [F], one a mixture."""
    import numpy as np
    import torch

    from pse.dsp.snr import frame_snr_db
    from pse.dsp.stft import STFT
    from pse.io.ark import write_ark

    transform = STFT(1024, 256)

    def features() -> Iterator[tuple[str, np.ndarray]]:
        for spec, mixture in mixtures.render():
            magnitude = transform.stft(torch.from_numpy(mixture.premixture)[None]).abs()[0].T
            yield spec.id, torch.log(magnitude + 1e-8).numpy()

    def labels() -> Iterator[tuple[str, np.ndarray]]:
        for spec, mixture in mixtures.render():
            pair = (torch.from_numpy(x)[None] for x in (mixture.speech, mixture.premixture_noise))
            yield spec.id, frame_snr_db(*pair)[0].numpy()

    write_ark(directory / "feats.scp", directory / "feats.ark", features())
    write_ark(directory / "frame_snr.scp", directory / "frame_snr.ark", labels())
