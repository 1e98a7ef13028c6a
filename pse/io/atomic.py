"""Write whole or not at all: files, directories, and one writer at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from pse.errors import PseError, from_os_error

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.tmp-(?P<pid>\d+)")
# Directories whose leftovers this process has removed: one with many files is listed once only.
_swept: set[Path] = set()
# Directories that this process is filling: their files are synced together, at the end.
_filling: set[Path] = set()
# A disk takes one by one what is synced one by one; what is synced at once, in one go (20 times as fast on ext4).
SYNC_THREADS = 16


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{os.getpid()}")


def target_of(path: Path) -> Path:
    """Where a temporary path of `writing` or `writing_dir` will stand; any other path as it is."""
    found = _TEMPORARY.fullmatch(path.name)
    return path.with_name(found["name"]) if found else path


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _sweep(directory: Path) -> None:
    """Remove the half-written files of processes that were killed."""
    if directory in _swept:
        return
    _swept.add(directory)
    for item in directory.iterdir():
        found = _TEMPORARY.fullmatch(item.name)
        if found and not _lives(int(found["pid"])) and item.is_file():
            item.unlink(missing_ok=True)


def _settle(path: Path) -> None:
    """Put the directory back that a killed process had moved away, or remove it when a new one stands."""
    beside = list(path.parent.iterdir()) if path.parent.is_dir() else []
    for item in beside:
        if item.name.startswith(f".{path.name}.tmp-"):
            shutil.rmtree(item, ignore_errors=True)
    old = [p for p in beside if p.name.startswith(f".{path.name}.old-")]
    for item in sorted(old, key=lambda p: p.stat().st_mtime, reverse=True):
        if path.exists():
            shutil.rmtree(item, ignore_errors=True)
        else:
            item.rename(path)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_all(paths: Iterable[Path]) -> None:
    with ThreadPoolExecutor(SYNC_THREADS) as pool:
        for _ in pool.map(_sync, paths):
            pass


@contextlib.contextmanager
def writing(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file beside `path`; when the block ends well, sync it and rename it into place.

    Inside a directory that `writing_dir` fills, syncing is left to its end. Raises PseError when the disk
    is full or the place is not writable; what stood at `path` before is then still there.
    """
    path = Path(path)
    temporary = _beside(path)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        with open(temporary, mode, **text) as file:
            yield file
            file.flush()
            if not _filling.intersection(path.parents):
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise from_os_error(error, path) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_many(contents: Mapping[Path, bytes]) -> None:
    """Write many small files: all are synced at once and then renamed into place, in their order.

    Raises PseError when the disk is full or the place is not writable; no file is then half there.
    """
    temporary = {path: _beside(path) for path in contents}
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(path.parent)
            temporary[path].write_bytes(content)
        _sync_all(temporary.values())
        for path, written in temporary.items():
            os.replace(written, path)
    except BaseException as error:
        for written in temporary.values():
            with contextlib.suppress(OSError):
                written.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise from_os_error(error, next(iter(contents))) from error
        raise


@contextlib.contextmanager
def writing_dir(path: str | Path) -> Iterator[Path]:
    """Fill a directory beside `path`; when the block ends well, it takes the place of `path`.

    A directory that stood there is moved away first and removed last, so that a crash between
    the two renames leaves either the old or the new one to be found; the next writer settles it.
    """
    path = Path(path)
    temporary, old = _beside(path), path.with_name(f".{path.name}.old-{os.getpid()}")
    try:
        _settle(path)
        temporary.mkdir(parents=True)
        _filling.add(temporary)
        yield temporary
        _sync_all(item for item in temporary.rglob("*") if item.is_file())
        if path.exists():
            path.rename(old)
        temporary.rename(path)
        _sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            _settle(path)
        raise from_os_error(error, path) from error
    except BaseException:
        with contextlib.suppress(OSError):
            _settle(path)
        raise
    finally:
        _filling.discard(temporary)
    shutil.rmtree(old, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Replace a text file by `text`, whole or not at all."""
    with writing(path) as file:
        file.write(text)


def need_disk(path: str | Path, num_bytes: int, what: str) -> None:
    """Refuse before writing when `what` does not fit below `path` with 2 % of the disk to spare."""
    place = Path(path)
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    if usage.free - num_bytes < 0.02 * usage.total:
        raise PseError(
            f"{what} needs {num_bytes / 1e9:.2f} GB, {usage.free / 1e9:.2f} GB are free (2 % stay free)",
            path,
            "free some space or choose another directory",
        )


def _locked(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _end(holder: str) -> str:
    """How to end the process that a lock names, in brackets."""
    try:
        told = json.loads(holder)
        pid, host = int(told["pid"]), str(told["host"])
    except (ValueError, TypeError, KeyError):
        return ""
    return f" (kill {pid})" if host == socket.gethostname() else f" (kill {pid} on {host})"


@contextlib.contextmanager
def sole_writer(directory: str | Path, wait_s: float = 2.0, beside: str = "") -> Iterator[None]:
    """Hold the right to write into `directory`; a second process is refused and told who holds it.

    beside: what a second process could do instead of waiting, e.g. `choose another --tag`.

    The lock is the kernel's, so it ends with its process, also after kill -9. `wait_s` is for the
    jobs of a killed stage, which end a moment after it.
    """
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = open(directory / ".lock", "a+", encoding="utf-8")
    except OSError as error:
        raise from_os_error(error, directory) from error
    with file:
        deadline = time.monotonic() + wait_s
        while not _locked(file):
            if time.monotonic() >= deadline:
                raise _taken(file, directory, beside)
            time.sleep(0.1)
        file.seek(0)
        file.truncate()
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        yield


@contextlib.contextmanager
def reader(directory: str | Path, wait_s: float = 2.0) -> Iterator[None]:
    """Keep others from writing into `directory` meanwhile; any number may read. Raises PseError where somebody writes.

    A directory that is not there, or may not be locked by this user, is read as it is.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            file = stack.enter_context(open(Path(directory) / ".lock", "a+", encoding="utf-8"))
            deadline = time.monotonic() + wait_s
            while not _locked(file, fcntl.LOCK_SH):
                if time.monotonic() >= deadline:
                    raise _taken(file, Path(directory), "")
                time.sleep(0.1)
        yield


def _taken(file: IO[str], directory: Path, beside: str) -> PseError:
    """What to tell whom a lock was not given: who writes, or that others read."""
    fix = f", or {beside}" if beside else ""
    if _locked(file, fcntl.LOCK_SH):
        what = "would be given other contents, and another run reads them now"
        return PseError(what, directory, f"wait for that run or end it{fix}")
    file.seek(0)
    holder = file.read().strip() or "another process"
    return PseError(f"is being written by {holder}", directory, f"wait for it or end it{_end(holder)}{fix}")


def has_writer(directory: Path) -> bool:
    """Whether some process holds the right to write into `directory` at this moment."""
    try:
        with open(directory / ".lock", encoding="utf-8") as file:
            return not _locked(file, fcntl.LOCK_SH)
    except OSError:
        return False
