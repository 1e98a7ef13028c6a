"""Read a zip archive that was cut into parts (x.z01, x.z02, ..., x.zip) as if it were one file.

Putting the parts end to end is not enough: in a cut archive every offset counts from the start of
the part that it lies in (APPNOTE.TXT 8.5, "Splitting and Spanning ZIP files"). So the directory is
rewritten in memory with offsets from the start of the whole, and the parts are read where they are.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import IO

from pse.errors import PseError

# Records of APPNOTE.TXT: end of directory 4.3.16, its 64-bit form 4.3.14, locator 4.3.15, entry 4.3.12.
_END, _END64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q")
_LOCATOR, _ENTRY = struct.Struct("<4sLQL"), struct.Struct("<4s6H3L5H2L")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
MAX_DIRECTORY = 256 << 20
_PART = re.compile(r"\.z(\d\d+)", re.IGNORECASE)


def parts_of(last: str | Path) -> list[Path]:
    """The files of a split archive, given its .zip, in order; just that one if it is not split."""
    last = Path(last)
    found = {int(m[1]): p for p in last.parent.glob("*") if p.stem == last.stem and (m := _PART.fullmatch(p.suffix))}
    return [*(found[n] for n in sorted(found)), last]


@contextmanager
def open_zip(parts: Sequence[Path]) -> Iterator[zipfile.ZipFile]:
    """Open a zip given all of its parts in order, the .zip last. Raises PseError when one is missing.

    Raises zipfile.BadZipFile when the records do not make sense.
    """
    starts = [0, *accumulate(p.stat().st_size for p in parts)]
    with io.BufferedReader(_Joined(parts, starts[-1])) as joined:
        disk, first_disk, size, offset = _read_end(joined, starts, parts[-1])
        if disk == 0:
            # Not split by a zip tool: one file, or cut anywhere into pieces.
            with zipfile.ZipFile(joined) as archive:
                yield archive
            return
        begin = starts[first_disk] + offset
        joined.seek(begin)
        tail = _new_tail(joined.read(size), starts, begin)
    with io.BufferedReader(_Joined(parts, begin, tail), 1 << 20) as whole, zipfile.ZipFile(whole) as archive:
        yield archive


def _read_end(joined: IO[bytes], starts: Sequence[int], where: Path) -> tuple[int, int, int, int]:
    """(last disk, first disk of the directory, its size, its offset there) out of the end records."""
    tail_at = max(0, starts[-1] - _END.size - _FULL16)
    joined.seek(tail_at)
    tail = joined.read(starts[-1] - tail_at)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise zipfile.BadZipFile("it has no directory: the last part is missing or cut short")
    _, disk, first_disk, _, _, size, offset, _ = _END.unpack_from(tail, at)
    if at >= _LOCATOR.size and tail[at - _LOCATOR.size :].startswith(b"PK\6\7"):
        _, end_disk, end_offset, _ = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)
        _check_count(end_disk, starts, where)
        joined.seek(starts[end_disk] + end_offset)
        record = joined.read(_END64.size)
        if len(record) < _END64.size or record[:4] != b"PK\6\6":
            raise zipfile.BadZipFile("its 64-bit end record is not where it should be")
        _, _, _, _, disk, first_disk, _, _, size, offset = _END64.unpack(record)
    _check_count(disk, starts, where)
    if first_disk > disk or size > MAX_DIRECTORY:
        raise zipfile.BadZipFile("its end record makes no sense")
    return disk, first_disk, size, offset


def _check_count(last_disk: int, starts: Sequence[int], where: Path) -> None:
    """The parts that are there must be as many as the records say; PseError otherwise."""
    there = len(starts) - 1
    if last_disk > 0 and last_disk + 1 != there:
        raise PseError(f"has {last_disk + 1} parts, {there} are there", where, "download all parts")


def _new_tail(directory: bytes, starts: Sequence[int], begin: int) -> bytes:
    """The directory with all offsets from the start of the whole, as 64-bit fields, and its end records."""
    out, at, count = [], 0, 0
    while at < len(directory):
        fields = list(_ENTRY.unpack_from(directory, at))
        if fields[0] != b"PK\1\2":
            raise zipfile.BadZipFile("its directory is damaged")
        name_end = at + _ENTRY.size + fields[10]
        extra_end = name_end + fields[11]
        end = extra_end + fields[12]
        (size, packed, offset, disk), extra = _true_values(
            directory[name_end:extra_end], fields[9], fields[8], fields[16], fields[13]
        )
        if disk >= len(starts) - 1:
            raise zipfile.BadZipFile("its directory names a part that is not there")
        extra += struct.pack("<2H3Q", 1, 24, size, packed, starts[disk] + offset)
        fields[8] = fields[9] = fields[16] = _FULL32
        fields[11], fields[13] = len(extra), 0
        out += [_ENTRY.pack(*fields), directory[at + _ENTRY.size : name_end], extra, directory[extra_end:end]]
        at, count = end, count + 1
    length = sum(map(len, out))
    out.append(_END64.pack(b"PK\6\6", _END64.size - 12, 45, 45, 0, 0, count, count, length, begin))
    out.append(_LOCATOR.pack(b"PK\6\7", 0, begin + length, 1))
    out.append(_END.pack(b"PK\5\6", 0, 0, _FULL16, _FULL16, _FULL32, _FULL32, 0))
    return b"".join(out)


def _true_values(
    extra: bytes, size: int, packed: int, offset: int, disk: int
) -> tuple[list[int], bytes]:
    """The true values of an entry's four large fields, and its extra data without their 64-bit form."""
    values, kept, at = [size, packed, offset, disk], b"", 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        body = extra[at + 4 : at + 4 + length]
        if kind != 1:
            kept += extra[at : at + 4 + length]
        else:
            # Only the fields that did not fit are there, in this order.
            position = 0
            for k, (limit, form) in enumerate([(_FULL32, "<Q"), (_FULL32, "<Q"), (_FULL32, "<Q"), (_FULL16, "<L")]):
                if values[k] == limit:
                    (values[k],) = struct.unpack_from(form, body, position)
                    position += struct.calcsize(form)
        at += 4 + length
    return values, kept


class _Joined(io.RawIOBase):
    """Files end to end as one seekable stream, cut at `end` and followed by `tail`."""

    def __init__(self, files: Sequence[Path], end: int, tail: bytes = b"") -> None:
        super().__init__()
        self._sources: list[tuple[IO[bytes], int, int]] = []
        start = 0
        for path in files:
            stop = min(start + path.stat().st_size, end)
            if stop > start:
                self._sources.append((open(path, "rb"), start, stop))
            start = stop
        self._sources.append((io.BytesIO(tail), end, end + len(tail)))
        self._size, self._position = end + len(tail), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"a place before the start: {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        for stream, start, stop in self._sources:
            if start <= self._position < stop:
                stream.seek(self._position - start)
                chunk = stream.read(min(len(buffer), stop - self._position))
                buffer[: len(chunk)] = chunk
                self._position += len(chunk)
                return len(chunk)
        return 0

    def close(self) -> None:
        for stream, _, _ in self._sources:
            stream.close()
        super().close()
