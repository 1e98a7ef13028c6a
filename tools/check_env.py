"""Is the environment complete? Prints what is missing and the remedy; exit status 3 when something is.

Runs with nothing but the standard library, so that it can say so also where pse cannot be imported.
"""

from __future__ import annotations

import importlib
import importlib.metadata as metadata
import re
import sys

# Packages whose compiled parts may be there and yet not load: the wheel is for another system, or
# a library of the system is missing.
COMPILED = ("numpy", "scipy", "soundfile", "soxr", "yaml", "safetensors", "torch", "espeakng_loader")
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)\s*(?:>=\s*([0-9.]+))?\s*(?:;(.*))?$")


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: `2.13.0+cpu` -> (2, 13, 0)."""
    return tuple(int(part) for part in re.match(r"[0-9.]*", version).group().split(".") if part)


def faults_of_requirements() -> list[str]:
    """Packages that pse requires and that are missing or too old."""
    faults = []
    for line in metadata.requires("pse") or ():
        name, least, marker = _REQUIREMENT.match(line).groups()
        if marker and "extra" in marker:
            continue
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            faults.append(f"{name} is not installed")
            continue
        if least and numbers(version) < numbers(least):
            faults.append(f"{name} {version} is older than {least}")
    return faults


def faults_of_imports() -> list[str]:
    """Packages that are installed and do not load."""
    faults = []
    for name in COMPILED:
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            faults.append(f"{name} does not load ({str(error).splitlines()[0]})")
    return faults


def main() -> int:
    """Check, print, return the exit status."""
    try:
        faults = faults_of_requirements()
    except metadata.PackageNotFoundError:
        faults = ["pse itself is not installed"]
    faults = faults or faults_of_imports()
    for fault in faults:
        print(f"check_env: {fault}; run make setup", file=sys.stderr)
    return 3 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
