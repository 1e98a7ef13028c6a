"""The members of a tar or zip archive, one at a time, each checked before it is handed out."""

from __future__ import annotations

import gzip
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from pse.errors import PseError
from pse.io.splitzip import open_zip

# What reading a damaged archive raises; OSError is not among them, that is the disk's.
DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, struct.error, EOFError, ValueError,
    NotImplementedError, OverflowError, RecursionError,
)  # fmt: skip
MAX_NAME, MAX_COMPONENT = 1024, 255
# The block to read a member in. What tarfile reads by itself is headers; no honest one is larger.
CHUNK = 1 << 18
MAX_PADDING = 16 << 20
NOT_OURS = "it is not the archive it should be, nothing is unpacked"
# Control characters, backslashes, broken UTF-8, drive letters, and the names of our own markers.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]|^[A-Za-z]:|^(\./)*\.(lock$|unpacking-|[^/]*\.complete$)")


@dataclass(frozen=True)
class Member:
    """A file, with its bytes as a stream, or a directory, without."""

    parts: tuple[str, ...]
    size: int
    stream: IO[bytes] | None


def members(parts: list[Path]) -> Iterator[Member]:
    """The files and directories of a .tar, a .tar.gz, a .zip or the parts of a split .zip, in order.

    A stream has to be read before the next member is asked for. Raises PseError for anything that
    is not a plain file or directory with a harmless name, and what is in DAMAGE for damage.
    """
    with open(parts[0], "rb") as file:
        head = file.read(4)
    # The last part of a split zip, on its own, starts anywhere.
    if head[:2] == b"PK" or len(parts) > 1 or parts[-1].suffix.lower() == ".zip":
        return _zip_members(parts)
    return _tar_members(parts[0], head[:2] == b"\x1f\x8b")


def _safe_parts(name: str, where: Path) -> tuple[str, ...]:
    """The components of a name; PseError for one that could lead elsewhere or to our own markers."""
    path = PurePosixPath(name)
    unsafe = _UNSAFE.search(name) or path.is_absolute() or ".." in path.parts or len(name) > MAX_NAME
    if unsafe or any(len(os.fsencode(p)) > MAX_COMPONENT for p in path.parts):
        raise PseError(f"holds a member with the unsafe name {name[:80]!r}", where, NOT_OURS)
    return path.parts


def _tar_members(path: Path, compressed: bool) -> Iterator[Member]:
    with open(path, "rb") as raw, gzip.GzipFile(fileobj=raw) if compressed else raw as plain:
        guard = _Guard(plain, path)
        with tarfile.open(fileobj=guard, mode="r:") as tar:
            while (info := tar.next()) is not None:
                # tarfile keeps every member it has seen.
                tar.members.clear()
                if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or info.sparse:
                    raise PseError(f"holds {info.name[:80]!r}, which is a link or a special file", path, NOT_OURS)
                parts = _safe_parts(info.name, path)
                if hasattr(tarfile, "data_filter"):
                    tarfile.data_filter(info, str(path.parent))
                yield Member(parts, info.size, None if info.isdir() else tar.extractfile(info))
        # The end is a block of zeros; tarfile takes a broken header, or nothing, for the end too.
        if not guard.last or guard.last.strip(b"\0"):
            raise tarfile.ReadError("it breaks off in the middle")
        _drain(plain)


def _drain(stream: IO[bytes]) -> None:
    """Read the padding behind the end: gzip compares its checksum only at the very end."""
    for _ in range(MAX_PADDING // CHUNK):
        block = stream.read(CHUNK)
        if not block:
            return
        if block.strip(b"\0"):
            break
    raise tarfile.ReadError("something follows its end")


class _Guard:
    """A stream under tarfile that refuses oversized headers and remembers what was read last."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self.stream, self.path = stream, path
        self.last = b""

    def read(self, size: int) -> bytes:
        if not 0 <= size <= CHUNK:
            raise PseError(f"holds a header of {size} bytes", self.path, NOT_OURS)
        self.last = self.stream.read(size)
        return self.last

    def seek(self, position: int) -> int:
        return self.stream.seek(position)

    def tell(self) -> int:
        return self.stream.tell()


def _zip_members(parts: list[Path]) -> Iterator[Member]:
    where = parts[-1]
    with open_zip(parts) as archive:
        infos = archive.infolist()
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.flag_bits & 1:
                raise PseError(f"holds {info.filename[:80]!r}, which is encrypted", where, NOT_OURS)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise PseError(f"holds {info.filename[:80]!r}, which is a link or a special file", where, NOT_OURS)
            _safe_parts(info.orig_filename, where)
        _check_overlap([(i.header_offset, i.compress_size) for i in infos], archive.start_dir, where)
        for info in infos:
            path = _safe_parts(info.filename, where)
            if info.is_dir():
                yield Member(path, 0, None)
            else:
                with archive.open(info) as stream:
                    yield Member(path, info.file_size, stream)


def _check_overlap(places: list[tuple[int, int]], end: int, where: Path) -> None:
    """Refuse members that share bytes: that is how a small zip unpacks to petabytes."""
    places = sorted(places)
    for (start, size), (following, _) in zip(places, [*places[1:], (end, 0)], strict=True):
        if start + zipfile.sizeFileHeader + size > following:
            raise PseError("holds members that overlap", where, NOT_OURS)
