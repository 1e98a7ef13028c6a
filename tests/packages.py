"""Small packages for tests, in the place of the models that come with pse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pse.inference.builtin import DEFAULTS
from pse.inference.package import save_package
from pse.models.base import build

GRU = {"name": "gru_mask", "hidden_size": 6, "n_fft": 512, "hop": 128, "normalize": "running"}
TASNET = {
    "name": "conv_tasnet", "bottleneck_channels": 8, "hidden_channels": 12, "num_filters": 24, "skip_channels": 8,
    "num_blocks": 3, "num_repeats": 1,
}  # fmt: skip
EMBEDDING = {"name": "blstm_embedding", "hidden_size": 8, "num_layers": 1, "embedding_size": 4}
PREDICTOR = {"name": "snr_predictor", "hidden_size": 8, "num_layers": 1}
VOICE = {"name": "frame_encoder", "channels": 8, "embedding_size": 4, "projection_size": 4}
BY_TASK = {"enhance": GRU, "separate": EMBEDDING, "snr_predictor": PREDICTOR, "voice": VOICE}


def pack(directory: Path, mapping: dict[str, Any], card: str = "# a card\n\nLicence: that of the test\n") -> Path:
    """A package of an untrained model, always the same one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_package(directory, build(mapping, "test"), mapping, card)
    return directory


def pack_builtin(place: Path) -> None:
    """A package for every default in a directory."""
    for task, name in DEFAULTS.items():
        pack(place / name, BY_TASK[task])
