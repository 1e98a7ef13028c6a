"""Unpack an archive that may be hostile: checked member by member, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pse.errors import PseError, from_os_error
from pse.io.atomic import sole_writer
from pse.io.jsonl import read_json, write_json
from pse.io.members import CHUNK, DAMAGE, NOT_OURS, Member, members

DOWNLOAD_AGAIN = "remove it and download it again"


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to: members, bytes, and bytes per byte of archive."""

    max_members: int = 200_000
    max_bytes: int = 64 << 30
    max_ratio: float = 50.0


def marker(destination: str | Path, name: str) -> Path:
    """The file that `unpack` writes last."""
    return Path(destination) / f".{name}.complete"


def unpacked(destination: str | Path, name: str) -> dict[str, Any] | None:
    """What the marker of a finished `unpack` says; None when it has not finished."""
    path = marker(destination, name)
    return dict(read_json(path)) if path.is_file() else None


def unpack(
    archive: Path | Sequence[Path],
    destination: str | Path,
    name: str,
    limits: Limits | None = None,
    notes: dict[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Unpack a .tar, a .tar.gz, a .zip or the parts of a split .zip into `destination`.

    Everything is unpacked beside first, then moved into place, then the marker `.<name>.complete`
    is written with the counts and `notes`, which are returned; what an interrupted run left is
    removed. `progress` is told the bytes of every block. Raises PseError, with nothing moved, for:
    absolute paths, `..`, links, devices and other special files, names that are no plain text, a
    name twice or used as file and directory, encrypted or overlapping members, more than `limits`
    allow, damage, and a full disk.
    """
    parts = [Path(archive)] if isinstance(archive, (str, Path)) else [Path(p) for p in archive]
    destination = Path(destination)
    scratch = destination / f".unpacking-{name}"
    with sole_writer(destination):
        try:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            counts = _fill(parts, scratch, limits or Limits(), progress)
            _move(scratch, destination)
            # The marker must not reach the disk before the files do.
            os.sync()
        except OSError as error:
            raise from_os_error(error, error.filename or destination) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        told = {**(notes or {}), **counts}
        write_json(marker(destination, name), told)
    return told


def _fill(
    parts: list[Path], scratch: Path, limits: Limits, progress: Callable[[int], None] | None
) -> dict[str, int]:
    """Write all members below `scratch`; returns how many files and bytes there are."""
    most = min(limits.max_bytes, int(limits.max_ratio * sum(p.stat().st_size for p in parts)) + (1 << 20))
    kinds: dict[str, str] = {}
    total = files = count = 0
    try:
        with closing(members(parts)) as found:
            for count, member in enumerate(found, 1):
                if count > limits.max_members:
                    raise PseError(f"holds more than {limits.max_members} members", parts[-1], NOT_OURS)
                _claim(member, kinds, parts[-1])
                if member.stream is None:
                    scratch.joinpath(*member.parts).mkdir(parents=True, exist_ok=True)
                    continue
                for size in _write(member, scratch.joinpath(*member.parts), parts[-1]):
                    total += size
                    if total > most:
                        raise PseError(f"unpacks to more than {most / 1e6:.0f} MB", parts[-1], NOT_OURS)
                    if progress:
                        progress(size)
                files += 1
    except DAMAGE as error:
        raise PseError(f"is damaged ({error})", parts[-1], DOWNLOAD_AGAIN) from error
    if not files:
        raise PseError("holds no file", parts[-1], DOWNLOAD_AGAIN)
    return {"files": files, "bytes": total}


def _write(member: Member, target: Path, where: Path) -> Iterator[int]:
    """Write one file block by block; yields the size of every block before it is written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    assert member.stream is not None
    with open(target, "xb") as file:
        while chunk := member.stream.read(CHUNK):
            yield len(chunk)
            file.write(chunk)
            written += len(chunk)
    if written != member.size:
        raise PseError(f"is damaged ({'/'.join(member.parts)} is cut short)", where, DOWNLOAD_AGAIN)


def _claim(member: Member, kinds: dict[str, str], where: Path) -> None:
    """Note what a path is used for; PseError when two members clash, be it only on a disk without case."""
    paths = ["/".join(member.parts[: n + 1]).casefold() for n in range(len(member.parts))]
    folders = paths if member.stream is None else paths[:-1]
    clash = [p for p in folders if kinds.setdefault(p, "folder") == "file"]
    if member.stream is not None:
        name = paths[-1] if paths else "."
        clash += [name] if name in kinds or not paths else []
        kinds[name] = "file"
    if clash:
        raise PseError(f"uses the name {clash[0]!r} twice", where, NOT_OURS)


def _move(scratch: Path, destination: Path) -> None:
    """Move every file into place, never through a link that leads out of `destination`."""
    top = os.path.realpath(destination)
    for place, _, names in os.walk(scratch):
        target = destination / Path(place).relative_to(scratch)
        target.mkdir(parents=True, exist_ok=True)
        real = os.path.realpath(target)
        if real != top and not real.startswith(top.rstrip(os.sep) + os.sep):
            raise PseError("is a link that leads out of the directory", target, "unpack into an empty directory")
        for name in names:
            os.replace(Path(place, name), target / name)
