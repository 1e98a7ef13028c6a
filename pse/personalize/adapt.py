"""Training a model on one person's recordings for so many minutes, from the weights that it has."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pse.data.cache import MemoryCache
from pse.data.mixture import Mixture, MixtureSampler, MixtureSpec, Sources
from pse.io.jsonl import read_json, write_json
from pse.training.config import TrainingConfig

EXAMPLE_S, SNR_DB, NUM_VALID = 4.0, (-5.0, 5.0), 48
BATCH, NUM_VALIDATIONS, MEASURED_STEPS = 16, 10, 3
# Validation, checkpoints and drawing take their part of the time.
IN_TRAINING = 0.85


@dataclass(frozen=True)
class Way:
    """How a step of personalising trains: objective and its options, learning rate."""

    objective: str
    options: dict[str, Any]
    lr: float


# With noisy recordings for targets, that fade where the predictor hears noise; and with clean ones.
PSEUDO_SE = Way("pseudo_se", {"purification": "predictor"}, 1e-3)
CLEAN = Way("supervised", {}, 3e-4)


def sampler(speech: MemoryCache, noise: MemoryCache, seed: int, stream: str) -> MixtureSampler:
    """Mixtures of recordings with more noise, of 4 s or of what the recordings have."""
    longest = max(speech.num_samples.values())
    num_samples = min(round(EXAMPLE_S * speech.sample_rate), longest)
    return MixtureSampler(Sources(speech, noise), speech.ids, num_samples, seed, stream, SNR_DB)


def drawn(source: MixtureSampler, count: int) -> Iterable[tuple[MixtureSpec, Mixture]]:
    """So many fixed mixtures."""
    return ((source.spec(i), source.render(i)) for i in range(count))


def train(
    model: Any, config: dict[str, Any], way: Way, speech: dict[str, MemoryCache], noise: dict[str, MemoryCache],
    predictor: Any, minutes: float, place: Path, seed: int, ngpu: int = 0,
) -> None:  # fmt: skip
    """Train `model` (built from `config`) in place; a directory where this has begun goes on.

    speech, noise: by `train` and `select`. It ends with the weights that were best on `select`.
    """
    from pse.config import bind
    from pse.registry import find
    from pse.training.engine import Engine
    from pse.training.loop import train as run

    plugin = find("objective", way.objective, "personalize")
    given = {part: sampler(speech[part], noise[part], seed, f"{way.objective}-{part}") for part in ("train", "select")}
    options = bind(plugin.Options, way.options, "personalize")
    objective = plugin(given["train"], drawn(given["select"], NUM_VALID), options, predictor)
    plan = place / "plan.json"
    # What a step takes is measured once: a training that goes on has to have the same end.
    device = Engine(TrainingConfig().precision, ngpu).device
    if not plan.is_file():
        write_json(plan, {"max_examples": _examples_in(model, objective, minutes, device)})
    total = int(read_json(plan)["max_examples"])
    training = TrainingConfig(
        lr=way.lr, lr_schedule="half_then_decay", batch_size=BATCH, max_examples=total, min_examples=total,
        valid_every_examples=max(BATCH, total // NUM_VALIDATIONS), checkpoint_every_s=30.0,
    )  # fmt: skip
    about = {"model": config, "objective": {"name": way.objective} | way.options}
    run(model.requires_grad_(True), objective, training, place, seed, ngpu, about)
    # Back from where it was trained: the check that follows is on the processor.
    for network in (model, *objective.modules()):
        network.cpu().eval().requires_grad_(False)


def _examples_in(model: Any, objective: Any, minutes: float, device: Any) -> int:
    """How many examples a training has time for, by some steps of a copy of the model on the device."""
    import torch

    tried = copy.deepcopy(model).to(device).requires_grad_(True).train()
    for helper in objective.modules():
        helper.to(device)
    optimizer = torch.optim.Adam(tried.parameters(), 1e-6)
    taken = []
    for step in range(MEASURED_STEPS + 1):
        start = time.monotonic()
        batch = objective.batch(range(step * BATCH, (step + 1) * BATCH)).to(device)
        optimizer.zero_grad()
        loss = objective.loss(tried, batch).total
        loss.backward()
        optimizer.step()
        # A GPU has done the step only when its result can be read.
        loss.item()
        taken.append(time.monotonic() - start)
    per_step = sorted(taken[1:])[MEASURED_STEPS // 2]
    return BATCH * max(NUM_VALIDATIONS, round(IN_TRAINING * 60 * minutes / per_step))
