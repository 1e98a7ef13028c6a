"""What a user is told when something is wrong: one line, and an exit code.

Exit codes: 1 data or config, 2 a stage that has to run first, 3 environment, 4 a bug in pse.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path


class PseError(Exception):
    """A fault in what the user gave us: says what is wrong, where, and how to mend it."""

    exit_code = 1

    def __init__(self, what: str, where: str | Path | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where is not None else self.what
        return printable(f"{line}; {self.fix}" if self.fix else line)


class StageMissingError(PseError):
    """An input that an earlier stage should have made is not there."""

    exit_code = 2


class EnvironmentFault(PseError):
    """A program, package or device that this command needs is not there."""

    exit_code = 3


def first_three(items: Iterable[object]) -> str:
    """Name the first three of many items: `a, b, c and 7 more`."""
    names = [str(i) for i in items]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def printable(text: str) -> str:
    """Escape control characters: ids and tags come from files and must not drive the terminal."""
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in text)


def from_os_error(error: OSError, where: str | Path | None = None) -> PseError:
    """Turn an operating system's refusal into a line with a remedy."""
    place = where if where is not None else error.filename
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return PseError(
            f"no room left to write ({os.strerror(error.errno)})",
            place,
            "free some space and run the same command again: it continues where it stopped",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PseError(os.strerror(error.errno), place, "change the permissions or choose another directory")
    return PseError(error.strerror or str(error), place)
