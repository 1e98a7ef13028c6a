"""Ids out of file names: safe in any file list and shell, unique, and the same on every machine."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
MAX_LENGTH = 150


def safe(text: str) -> str:
    """`text` in [A-Za-z0-9._-]; a hash tells apart what the plain letters no longer do."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = _UNSAFE.sub("_", plain).lstrip(".-")[:MAX_LENGTH]
    if plain == text:
        return plain
    return f"{plain}-{_hash(text)}" if plain else f"r-{_hash(text)}"


def _hash(text: str) -> str:
    # One name can be stored composed or decomposed, depending on the file system.
    return hashlib.sha256(unicodedata.normalize("NFC", text).encode(errors="surrogatepass")).hexdigest()[:8]


def unique_ids(paths: Sequence[Path], prefixes: Sequence[str]) -> list[str]:
    """An id for each relative path: its prefix (the speaker), then its folders and its stem.

    Names that differ in nothing but their ending or their case get a hash, all of them.
    """
    ids = []
    for path, prefix in zip(paths, prefixes, strict=True):
        parts = [safe(p) for p in path.with_suffix("").parts]
        if prefix in parts:
            parts.remove(prefix)
        ids.append("-".join([prefix, *parts])[: MAX_LENGTH + 30])
    count = Counter(i.casefold() for i in ids)
    return [
        f"{i}-{_hash(path.as_posix())}" if count[i.casefold()] > 1 else i
        for i, path in zip(ids, paths, strict=True)
    ]


def name_fault(path: Path) -> str | None:
    """Why a file's name cannot stand in a data directory; None when it can."""
    name = str(path)
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        return "the name holds control characters or is not UTF-8, rename it"
    if name != name.strip() or name.endswith("|"):
        return "the name ends in a blank or a bar, rename it"
    return None
