"""Packages on the Hugging Face hub: at one commit, which nobody can change afterwards, and no other files."""

from __future__ import annotations

import os
import re
import shutil
import threading
from pathlib import Path

from pse.errors import EnvironmentFault, PseError
from pse.inference.package_checks import FILES, SUMS
from pse.io.atomic import writing_dir

# Names on the hub have 96 characters at most; longer ones could not be those of directories.
_ADDRESS = re.compile(r"hf:(?P<owner>\w[\w.-]{0,95})/(?P<repo>\w[\w.-]{0,95})(?:@(?P<commit>.*))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Two threads that ask for one package would write one directory.
_fetching = threading.Lock()


def fetched(address: str) -> Path:
    """The directory of a package at `hf:owner/repo@commit`, downloaded where it is not there yet.

    It is kept in $XDG_CACHE_HOME/pse/hub (~/.cache/pse/hub). Its sums are checked when it is loaded, like those of any
    package. Raises PseError for an address without a whole commit, EnvironmentFault where the package huggingface_hub
    is missing or the files cannot be had.
    """
    found = _ADDRESS.fullmatch(address)
    if not found:
        raise PseError("is no address of a model", address, "write hf:owner/repo@commit")
    repo, commit = f"{found['owner']}/{found['repo']}", found["commit"] or ""
    if not _COMMIT.fullmatch(commit):
        what = f"{commit or 'no commit'!r} is no commit, and what a branch or tag holds may change"
        fix = f"name the 40 hex digits of one from https://huggingface.co/{repo}/commits/main"
        raise PseError(what, address, fix)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "pse" / "hub" / repo.replace("/", "--") / commit
    with _fetching:
        if not (place / SUMS).is_file():
            _download(repo, commit, place, address)
    return place


def _download(repo: str, commit: str, place: Path, address: str) -> None:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        fix = "pip install huggingface_hub, or download the directory by hand and name it"
        raise EnvironmentFault("the package huggingface_hub is missing", address, fix) from error
    with writing_dir(place) as new:
        try:
            snapshot_download(repo_id=repo, revision=commit, allow_patterns=[*FILES, SUMS], local_dir=new)
        except Exception as error:  # Of several packages below it: of HTTP, of its own, of the system.
            what = f"cannot be downloaded ({(str(error).strip().splitlines() or [type(error).__name__])[0]})"
            raise EnvironmentFault(what, address, "check the address and the network") from error
        shutil.rmtree(new / ".cache", ignore_errors=True)
