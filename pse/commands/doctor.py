"""`pse doctor`: what is installed, what is missing, and the exact remedy."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pse.recipe.environment import num_cores


@dataclass(frozen=True)
class Finding:
    """One line: what was looked for, what was found, and what to do when it is not there."""

    name: str
    found: str | None
    needed: bool = True
    remedy: str = ""

    def __str__(self) -> str:
        mark = "ok  " if self.found else ("MISS" if self.needed else "--  ")
        return f"{mark} {self.name:<18} {self.found or self.remedy}"


# package: (needed by every recipe, what it is for)
PACKAGES = {
    "torch": (True, "models"),
    "numpy": (True, "arrays"),
    "scipy": (True, "statistics, BSS Eval"),
    "soundfile": (True, "audio files"),
    "soxr": (True, "resampling"),
    "kaldiio": (True, "Kaldi arks"),
    "pyyaml": (True, "configs"),
    "safetensors": (True, "weights"),
    "accelerate": (True, "training"),
    "matplotlib": (True, "plots"),
    "pystoi": (True, "eSTOI"),
    "espeakng-loader": (False, "the embedded corpus mini"),
    "tensorboardX": (False, "TensorBoard files"),
    "sounddevice": (False, "pse listen with a microphone"),
    "huggingface_hub": (False, "models from the hub"),
    "pesq": (False, "PESQ scores; without it they count as failed"),
}


def main(argv: Sequence[str]) -> int:
    """Print the findings; exit code 3 when something needed is missing."""
    argparse.ArgumentParser(prog="pse doctor", description=__doc__).parse_args(argv)
    findings = list(look())
    for finding in findings:
        print(finding)
    missing = [f for f in findings if f.needed and not f.found]
    print(f"{len(missing)} needed parts are missing" if missing else "everything needed is here")
    return 3 if missing else 0


def look() -> Iterator[Finding]:
    """Look at the machine, the programs and the packages."""
    version = platform.python_version() if sys.version_info >= (3, 10) else None
    yield Finding("python", version, True, "install Python 3.10 or newer")
    yield Finding("cpu cores", str(num_cores()))
    yield Finding("free disk", f"{shutil.disk_usage('.').free / 1e9:.0f} GB")
    yield Finding("git", shutil.which("git"), False, "without it results carry no commit")
    for package, (needed, use) in PACKAGES.items():
        try:
            found = f"{importlib.metadata.version(package)}  ({use})"
        except importlib.metadata.PackageNotFoundError:
            found = None
        yield Finding(package, found, needed, f"pip install -c tools/constraints.txt {package}   ({use})")
    yield _espnet()
    yield _gpu()


def _espnet() -> Finding:
    try:
        found = f"{importlib.metadata.version('espnet')}  (models with name: espnet)"
        for other in ("torch_complex", "typeguard", "librosa", "lazy_loader"):
            importlib.metadata.version(other)
    except importlib.metadata.PackageNotFoundError:
        found = None
    return Finding("espnet", found, False, "tools/install_espnet.sh   (models with name: espnet)")


def _gpu() -> Finding:
    try:
        import torch
    except ImportError:
        return Finding("gpu", None, False, "unknown without torch")
    if not torch.cuda.is_available():
        return Finding("gpu", None, False, "none seen: everything runs on the CPU")
    return Finding("gpu", f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}")
