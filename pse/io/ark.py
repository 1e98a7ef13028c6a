"""Kaldi archives: float32 vectors and matrices in one file, and an scp that says where each begins.

kaldiio does the binary format. It would also run commands and load pickles that an scp names, so the
path, the offset and the kind of entry are checked here before it reads.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import kaldiio
import numpy as np
from kaldiio import matio

from pse.errors import PseError
from pse.io.atomic import write_text, writing
from pse.io.tables import VALID_ID, is_pipe, read_table, render

_PLACE = re.compile(r"(.+):(\d{1,18})")
# What kaldiio raises on bytes that make no sense, sizes beyond reason among them.
_DAMAGED = (ValueError, TypeError, AssertionError, OverflowError, MemoryError, struct.error)
_REMEDY = "remove the file and run the stage that makes it"


def write_ark(scp_path: str | Path, ark_path: str | Path, items: Iterable[tuple[str, np.ndarray]]) -> int:
    """Write (id, vector [n] or matrix [n, m]) pairs as float32; returns how many.

    The archive is complete before the scp appears, and the scp names it by its absolute path.
    Raises PseError for an id that is invalid or stands twice, or for an array of another shape.
    """
    ark_path = Path(ark_path).absolute()
    places: dict[str, str] = {}
    with writing(ark_path, "wb") as file:
        for key, array in items:
            values = np.asarray(array, dtype=np.float32)
            if not VALID_ID.fullmatch(key) or key in places:
                raise PseError(f"{key!r} is no valid id, or stands twice", ark_path)
            if values.ndim not in (1, 2) or values.size == 0:
                raise PseError(
                    f"{key} has the shape {values.shape}, not that of a vector or matrix", ark_path
                )
            places[key] = f"{ark_path}:{file.tell() + len(key) + 1}"
            kaldiio.save_ark(file, {key: values})
    write_text(scp_path, render(Path(scp_path).name, places))
    return len(places)


class Archive(Mapping[str, np.ndarray]):
    """The arrays that an scp names, read when asked for: id -> vector [n] or matrix [n, m], float32."""

    def __init__(self, scp_path: str | Path) -> None:
        """Raises PseError when the scp is missing or cannot be trusted."""
        self.path = Path(scp_path)
        self._places = read_table(self.path)

    def __getitem__(self, key: str) -> np.ndarray:
        """Read one array. Raises KeyError, or PseError when the archive is damaged."""
        return read_entry(self._places[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def read_entry(place: str) -> np.ndarray:
    """The array at `path:offset`, float32. Raises PseError when it is not one, or is cut short."""
    match = _PLACE.fullmatch(place)
    if is_pipe(place) or not match:
        raise PseError("is not of the form path:offset", place, _REMEDY)
    try:
        with open(match[1], "rb") as file:
            file.seek(int(match[2]))
            # \0B begins a binary vector or matrix; nothing else is handed to the reader.
            if file.read(2) != b"\0B":
                raise PseError("no Kaldi vector or matrix begins there", place, _REMEDY)
            file.seek(int(match[2]))
            with np.errstate(over="ignore"):
                return np.array(matio.read_matrix_or_vector(file), dtype=np.float32)
    except OSError as error:
        raise PseError(f"cannot be read ({error.strerror})", place, _REMEDY) from error
    except (
        ValueError,
        TypeError,
        AssertionError,
        UnicodeDecodeError,
        MemoryError,
        matio.struct.error,
    ) as error:
        raise PseError("the archive is cut short or damaged there", place, _REMEDY) from error
