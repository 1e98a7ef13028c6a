"""Stage enhance: run every system over the fixed test mixtures of its speakers."""

from __future__ import annotations

from typing import Any

from pse.recipe.options import Context
from pse.recipe.personal.layout import System, cache_files, model_of, runs, trained
from pse.recipe.stage import Task

BATCH = 16


def tasks(ctx: Context) -> list[Task]:
    """One task a run: its systems over the test mixtures of all target speakers."""
    test = ctx.dump / "mixtures" / "test" / "specs.jsonl"
    made = []
    for name, systems in runs(ctx).items():
        models = tuple(sorted({p for s in systems.values() for p in trained(ctx, s)}))
        place = ctx.exp / "enhanced_test" / name
        model = model_of(ctx, next(iter(systems.values())))[1]
        inputs = (*models, test, *cache_files(ctx, "target_test", "noise_test"))
        last = "finetune" if next(iter(systems.values())).clean_s is not None else "pretrain"
        made.append(
            Task(name, "enhance", (model, "sample_rate"), inputs, (place / "wav.scp",), ctx.exp,
                 _runner(ctx, name, systems), made_by=last, own_process=True, brief=True)
        )
    return made


def _runner(ctx: Context, name: str, systems: dict[str, System]) -> Any:
    def run(config: Any) -> None:
        enhance_run(ctx, config, name, systems)

    return run


def enhance_run(ctx: Context, config: Any, name: str, systems: dict[str, System]) -> None:
    """Write exp/<tag>/enhanced_test/<run>/{wav/*.wav, wav.scp, utt2spk, spk2utt}."""
    import time

    import torch

    from pse.data.collate import stack
    from pse.data.fixed import FixedMixtures
    from pse.io import audio, datadir
    from pse.io.atomic import writing_dir
    from pse.recipe.personal.training import load_system

    mixtures = FixedMixtures(ctx.dump, "test")
    target = ctx.exp / "enhanced_test" / name
    scp, utt2spk, audio_s, start = {}, {}, 0.0, time.monotonic()
    device = torch.device("cuda" if ctx.ngpu and torch.cuda.is_available() else "cpu")
    with writing_dir(target) as new, torch.inference_mode():
        for speaker, system in systems.items():
            model = load_system(ctx, system).to(device)
            specs = mixtures.of_speaker(speaker)
            for i in range(0, len(specs), BATCH):
                rendered = [m.mix for _, m in mixtures.render(specs[i : i + BATCH])]
                wavs = model(stack(rendered).to(device)).wavs[:, 0].float().cpu().numpy()
                for spec, wav in zip(specs[i : i + BATCH], wavs, strict=True):
                    audio.write(new / "wav" / f"{spec.id}.wav", wav, config.sample_rate)
                    scp[spec.id] = str((target / "wav" / f"{spec.id}.wav").absolute())
                    utt2spk[spec.id] = speaker
                    audio_s += len(wav) / config.sample_rate
        datadir.write_into(new, {"wav.scp": scp, "utt2spk": utt2spk})
    rate = audio_s / (time.monotonic() - start)
    print(f"{name}: {len(scp)} mixtures enhanced, {rate:.0f} times real time", flush=True)
