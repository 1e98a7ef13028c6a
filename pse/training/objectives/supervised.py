"""Supervised enhancement: noise is added to clean speech, and the clean speech is the target."""

from __future__ import annotations

from pse.training.objectives.enhancement import Enhancement


class Supervised(Enhancement):
    """Generalist training, few-shot fine-tuning, and the clean-target bound of a specialist."""

    parts = {"mix": lambda m: m.mix, "target": lambda m: m.speech}


PLUGIN = Supervised
