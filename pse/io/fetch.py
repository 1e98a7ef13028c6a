"""Fetch a large file over HTTPS: continued after a break, verified before it gets its name."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pse
from pse.errors import EnvironmentFault, PseError, from_os_error
from pse.io.atomic import sole_writer
from pse.io.jsonl import read_json, write_json

BLOCK = 1 << 18
TIMEOUT_S = 30.0
# Attempts without a new byte: a place that answered gets two minutes, one that never did three tries.
ATTEMPTS, ATTEMPTS_UNHEARD = 8, 3
LONGEST_PAUSE_S = 120.0
# As long as a server may ask us to stay away.
LONGEST_WAIT_S = 900.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Remote:
    """A file somewhere else: its name, the places it can be had from, its bytes and checksums in hex."""

    name: str
    urls: tuple[str, ...]
    num_bytes: int
    md5: str = ""
    sha256: str = ""


class Meter:
    """How far a transfer has come: one line that rewrites itself, in a log one line in ten seconds."""

    def __init__(self, title: str, total: int, out: TextIO | None = None) -> None:
        self.title, self.total, self.done = title, total, 0
        self.out = out or sys.stderr
        self.interval_s = 0.5 if self.out.isatty() else 10.0
        self._start = self._shown = time.monotonic()
        self._first: int | None = None

    def add(self, num_bytes: int) -> None:
        """Count bytes, and show the line when it is time to."""
        now = time.monotonic()
        if self._first is None:
            self._start, self._first = now, self.done
        self.done += num_bytes
        if now - self._shown >= self.interval_s:
            self._shown = now
            self._write(self.line(now))

    def line(self, now: float) -> str:
        """`title  34 % of 6.39 GB  11.2 MB/s  6 min left`."""
        rate = (self.done - (self._first or 0)) / max(now - self._start, 1e-9)
        left_s = (self.total - self.done) / rate if rate else 0.0
        share = 100 * self.done / max(self.total, 1)
        left = f"{left_s / 60:.0f} min" if left_s >= 90 else f"{left_s:.0f} s"
        return f"{self.title}  {share:.0f} % of {self.total / 1e9:.2f} GB  {rate / 1e6:.1f} MB/s  {left} left"

    def _write(self, line: str) -> None:
        self.out.write(f"\r{line}\x1b[K" if self.out.isatty() else f"{line}\n")
        self.out.flush()

    def close(self) -> None:
        """End the line."""
        if self.out.isatty():
            self.out.write("\r\x1b[K")
            self.out.flush()


class _Unusable(Exception):
    """One attempt came to nothing; `dead` when the same place need not be asked again, `heard` if it answered."""

    def __init__(self, why: str, dead: bool = False, pause_s: float = 0.0, heard: bool = True) -> None:
        super().__init__(why)
        self.dead, self.pause_s, self.heard = dead, pause_s, heard


class _StaySecure(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from an encrypted place to one that is not."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise PseError("only https is fetched", url, "correct the address")


def fetch(remote: Remote, directory: str | Path, pause: Callable[[float], None] = time.sleep) -> Path:
    """The file in `directory`: what is there and verified, or fetched now.

    A partial file is continued by HTTP Range from any of the places; after a break it is tried
    again with growing pauses, from the next place. The file gets its name only after its size and
    checksums agree. Raises EnvironmentFault when no place can be reached, PseError for a file that
    is not the published one, or a full disk; the partial file stays.
    """
    path = Path(directory) / remote.name
    part = path.with_name(f"{path.name}.part")
    with sole_writer(directory):
        try:
            if not path.is_file():
                for last_try in (False, True):
                    _complete(remote, part, pause)
                    try:
                        _check(remote, part, path)
                        break
                    except PseError:
                        # Mended from two versions, or hurt on the way: once more from the start.
                        part.unlink()
                        if last_try:
                            raise
                os.replace(part, path)
            elif not _known_good(remote, path):
                _check(remote, path, path)
        except OSError as error:
            raise from_os_error(error, part) from error
        _remember(remote, path)
    return path


def _complete(remote: Remote, part: Path, pause: Callable[[float], None]) -> None:
    """Make `part` as long as the remote file, trying again for as long as it grows."""
    failures, dead, where, heard = 0, set[str](), 0, False
    meter = Meter(remote.name, remote.num_bytes)
    try:
        while (have := part.stat().st_size if part.exists() else 0) != remote.num_bytes:
            alive = [u for u in remote.urls if u not in dead]
            url = alive[where % len(alive)]
            try:
                _transfer(url, remote, part, min(have, remote.num_bytes), meter)
            except _Unusable as error:
                grown = part.exists() and part.stat().st_size > have
                failures = 1 if grown else failures + 1
                dead |= {url} if error.dead else set()
                where += not error.dead
                heard |= error.heard
                if failures >= (ATTEMPTS if heard else ATTEMPTS_UNHEARD) or len(dead) == len(remote.urls):
                    raise _unreachable(remote, part, url, str(error)) from error
                wait = 0.0 if error.dead else max(error.pause_s, min(2.0 ** (failures - 1), LONGEST_PAUSE_S))
                print(f"{remote.name}: {error}; trying again in {wait:.0f} s", file=sys.stderr, flush=True)
                pause(wait)
    finally:
        meter.close()


def _transfer(url: str, remote: Remote, part: Path, have: int, meter: Meter) -> None:
    """One request: append what the server sends from byte `have` on. Raises _Unusable when it breaks."""
    _check_scheme(url)
    headers = {"User-Agent": f"pse/{pse.__version__}", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers | ({"Range": f"bytes={have}-"} if have else {}))
    try:
        response = urllib.request.build_opener(_StaySecure).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            part.unlink(missing_ok=True)
        delay = error.headers.get("Retry-After", "") if error.headers else ""
        gone = error.code in (401, 403, 404, 405, 410)
        asked_s = min(float(delay), LONGEST_WAIT_S) if delay.isdigit() else 0.0
        raise _Unusable(f"HTTP {error.code} {error.reason}", gone, asked_s) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Unusable(str(getattr(error, "reason", "") or error) or type(error).__name__, heard=False) from error
    with response:
        start = _start_of(response, have, remote)
        meter.done = start
        with open(part, "r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            while True:
                try:
                    block = response.read(BLOCK)
                except (OSError, http.client.HTTPException, ValueError) as error:
                    raise _Unusable(f"the line broke ({error or type(error).__name__})") from error
                if not block:
                    break
                if file.tell() + len(block) > remote.num_bytes:
                    raise _Unusable("sends more than the file should have", dead=True)
                file.write(block)
                meter.add(len(block))
            if file.tell() < remote.num_bytes:
                raise _Unusable("the line broke")


def _start_of(response: Any, have: int, remote: Remote) -> int:
    """The byte that the answer starts at: `have`, or 0 where the server sends the whole file."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not match or int(match[1]) != have or match[2] not in ("*", str(remote.num_bytes)):
            raise _Unusable("answers with another part than the one asked for", dead=True)
        return have
    length = response.headers.get("Content-Length", str(remote.num_bytes))
    if response.status != 200 or length != str(remote.num_bytes):
        raise _Unusable(f"offers {length} bytes, not the {remote.num_bytes} of the file", dead=True)
    return 0


def _unreachable(remote: Remote, part: Path, url: str, why: str) -> EnvironmentFault:
    have = part.stat().st_size if part.exists() else 0
    kept = f" ({have / 1e9:.2f} of {remote.num_bytes / 1e9:.2f} GB are kept)" if have else ""
    return EnvironmentFault(
        f"cannot be fetched from {urllib.parse.urlsplit(url).hostname}: {why}", remote.name,
        f"check the network and run the same command again{kept}, or put the file into {part.parent} by hand",
    )  # fmt: skip


def _check(remote: Remote, path: Path, name: Path) -> None:
    """Compare size and checksums; PseError names what differs."""
    if path.stat().st_size != remote.num_bytes:
        raise PseError(
            f"has {path.stat().st_size} bytes, the published file {remote.num_bytes}", name, "remove it and try again"
        )
    found = {"md5": hashlib.md5(usedforsecurity=False), "sha256": hashlib.sha256()}
    meter = Meter(f"{remote.name} (checksum)", remote.num_bytes)
    try:
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                for digest in found.values():
                    digest.update(block)
                meter.add(len(block))
    finally:
        meter.close()
    for kind, digest in found.items():
        published = getattr(remote, kind)
        if published and digest.hexdigest() != published:
            raise PseError(
                f"its {kind} is {digest.hexdigest()}, the published one is {published}", name, "remove it and try again"
            )
    if not remote.md5 and not remote.sha256:
        print(f"{name}: no checksum is published; sha256 {found['sha256'].hexdigest()}", file=sys.stderr, flush=True)


def stamp(path: Path) -> Path:
    """The note beside a file that it was verified."""
    return path.with_name(f".{path.name}.verified")


def _remember(remote: Remote, path: Path) -> None:
    """Note that this very file was verified, so that a second run need not read all of it."""
    status = path.stat()
    write_json(stamp(path), {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "md5": remote.md5})


def _known_good(remote: Remote, path: Path) -> bool:
    status = path.stat()
    want = {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "md5": remote.md5}
    return stamp(path).is_file() and read_json(stamp(path)) == want
