"""Where and with what a result was made: for the head of RESULTS.md and of the listening page."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path


def commit(directory: Path = Path(__file__).parent) -> str:
    """Short commit of the source tree, with `+` when it has changes; `unknown` outside a checkout."""
    try:
        run = [["git", "-C", str(directory), *c] for c in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain"))]
        short, changes = (subprocess.run(c, capture_output=True, text=True, timeout=20, check=True).stdout for c in run)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    # Result files of a recipe are written by the run itself and do not change what was run.
    changed = [line for line in changes.splitlines() if not line.endswith("RESULTS.md")]
    return short.strip() + ("+" if changed else "")


def num_cores() -> int:
    """Processor cores that this process may use: a job of a cluster often has fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def facts() -> dict[str, str]:
    """Date, versions, commit and machine."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "commit": commit(),
        "machine": f"{num_cores()} core{'s' if num_cores() > 1 else ''}, {processor()}",
    }
