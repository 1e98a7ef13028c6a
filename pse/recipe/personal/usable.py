"""How much of each target speaker's noisy speech is usable, before anything is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pse.recipe.options import Context
from pse.recipe.personal.layout import cache_files, speakers

# So many recordings of a speaker are looked at; the share is then known to a few per cent.
NUM_RECORDINGS = 100
READS = ("mixture.seed", "mixture.duration_s", "mixture.premixture_snr_db")


def inputs(ctx: Context) -> tuple[Path, ...]:
    """The files that the report reads, besides the predictor."""
    return cache_files(ctx, "target_pretrain", f"premix_{ctx.config.data.user_noise}")


def report(ctx: Context, config: Any, model: Any, place: Path) -> dict[str, Any]:
    """Write usable.json and images/usable.png and print a line a speaker.

    The recordings are those that training would draw. Their frames have the published weights, nearly a
    gate at 0 dB; the usable share is the mean weight, beside the share that is truly above 0 dB.
    """
    import numpy as np

    from pse.io.jsonl import write_json
    from pse.scoring.plots import usable_speech

    found, tracks = {}, {}
    for speaker in speakers(ctx):
        guess, truth, minutes = _look(ctx, config, model, speaker)
        weight = 1 / (1 + np.exp(-guess))
        tracks[speaker] = guess
        found[speaker] = {
            "minutes": minutes,
            "usable_share": float(weight.mean()),
            "usable_minutes": float(minutes * weight.mean()),
            "predicted_snr_db_quartiles": [float(q) for q in np.quantile(guess, (0.25, 0.5, 0.75))],
            "true_share_above_0_db": float((truth > 0).mean()),
            "num_frames": len(guess),
        }
        print(
            f"{speaker}: {minutes:.1f} min of noisy speech, {100 * weight.mean():.0f} % of it usable "
            f"({minutes * weight.mean():.1f} min; truly above 0 dB: {100 * (truth > 0).mean():.0f} %), "
            f"median frame SNR {np.median(guess):.1f} dB",
            flush=True,
        )
    write_json(place / "usable.json", found)
    usable_speech(tracks, path=place / "images" / "usable.png")
    return found


def _look(ctx: Context, config: Any, model: Any, speaker: str) -> tuple[Any, Any, float]:
    """Predicted and true frame SNR in dB [N] of recordings of a speaker, and minutes of speech there are."""
    import numpy as np
    import torch

    from pse.data.cache import select
    from pse.data.fixed import open_sources
    from pse.data.mixture import MixtureSampler
    from pse.dsp.snr import frame_snr_db

    names = {"speech": "target_pretrain", "premixture_noise": f"premix_{ctx.config.data.user_noise}"}
    sources = open_sources(ctx.dump, names)
    ids, mixture = select(sources.speech, [speaker]), config.mixture
    num_samples = round(mixture.duration_s * config.sample_rate)
    sampler = MixtureSampler(sources, ids, num_samples, mixture.seed, "usable", None, mixture.premixture_snr_db)
    guesses, truths = [], []
    with torch.inference_mode():
        for number in range(NUM_RECORDINGS):
            drawn = sampler.render(number)
            speech, noise, noisy = (
                torch.from_numpy(x)[None] for x in (drawn.speech, drawn.premixture_noise, drawn.premixture)
            )
            guesses.append(model(noisy).frame_snr_db[0].numpy())
            truths.append(frame_snr_db(speech, noise)[0].numpy())
    minutes = sum(sources.speech.num_samples[i] for i in ids) / config.sample_rate / 60
    return np.concatenate(guesses), np.concatenate(truths), minutes
