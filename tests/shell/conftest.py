"""An environment for the shell layer that runs this checkout with the Python of the tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def environ(tmp_path_factory) -> dict[str, str]:
    """Variables for a script: PSE_VENV names a folder, with a blank in its name, that holds `python` and `pse`."""
    programs = tmp_path_factory.mktemp("my venv") / "bin"
    programs.mkdir()
    for name, start in (("python", ""), ("pse", "-m pse.cli")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {start} "$@"\n')
        (programs / name).chmod(0o755)
    return {**os.environ, "PSE_VENV": str(programs.parent), "PYTHONPATH": str(ROOT)}
