"""pse: recipes and tools for personalised speech enhancement and speaker separation."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Heavy parts (torch) are imported on first use, so that `import pse` stays fast.
_LAZY = {
    "load_model": "pse.inference.loaded",
    "LoadedModel": "pse.inference.loaded",
    "enhance": "pse.inference.loaded",
    "separate": "pse.inference.loaded",
    "SeparateSpeech": "pse.inference.separate_speech",
    "personalize": "pse.personalize.pipeline",
    "listen": "pse.commands.listen",
    "report": "pse.commands.report",
    "export": "pse.commands.export",
    "pack": "pse.inference.package:save_package",
    "Stream": "pse.inference.streaming",
    "OnlineSeparator": "pse.inference.online",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, _, other = _LAZY[name].partition(":")
        return getattr(importlib.import_module(module), other or name)
    raise AttributeError(f"module 'pse' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
