"""What every corpus reader returns, and what all of them need: walking, probing, refusing."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pse.errors import PseError, first_three
from pse.io import audio, datadir
from pse.io.tables import VALID_ID

LOG = logging.getLogger(__name__)
THREADS = 8
T = TypeVar("T")


@dataclass(frozen=True)
class Recording:
    """One audio file of a corpus.

    speaker: who speaks; for a noise, its own id, as Kaldi wants it. category: class of a noise,
    sex of a reader. split: the part of the corpus's own split, or of ours where it has none.
    recording: the longer recording that the file was cut from, where that is known.
    """

    id: str
    path: Path
    speaker: str
    duration_s: float = 0.0
    category: str = ""
    split: str = ""
    sample_rate: int = 0
    recording: str = ""

    @property
    def group(self) -> str:
        """What must not be torn apart by a split: the recording that the file belongs to."""
        return self.recording or self.id


def need_directory(directory: str | Path, fix: str) -> Path:
    """The directory as a Path; PseError when there is none."""
    directory = Path(directory).expanduser()
    if not directory.is_dir():
        raise PseError("no such directory", directory, fix)
    return directory


def walk(root: Path) -> Iterator[Path]:
    """All visible files below `root`, sorted; links are followed, a loop of links is walked once."""
    seen = set()
    for place, directories, files in os.walk(root, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            directories.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        # Names with a leading dot are the droppings of file managers and of our own unpacking.
        directories[:] = sorted(d for d in directories if not d.startswith("."))
        yield from (Path(place, f) for f in sorted(files) if not f.startswith("."))


def in_parallel(work: Callable[[T], Recording], items: Sequence[T]) -> tuple[list[Recording], list[str]]:
    """Do `work` on every item in threads; returns the results and what was wrong, both in order."""

    def one(item: T) -> Recording | str:
        try:
            return work(item)
        except PseError as error:
            return f"{error.where}: {error.what}"
        except OSError as error:
            return f"{error.filename}: {error.strerror}"

    with ThreadPoolExecutor(THREADS) as pool:
        done = list(pool.map(one, items))
    return [d for d in done if isinstance(d, Recording)], [d for d in done if isinstance(d, str)]


def probed(draft: Recording) -> Recording:
    """The recording with the duration and the rate that its header states."""
    info = audio.probe(draft.path)
    return replace(draft, duration_s=info.duration_s, sample_rate=info.sample_rate)


def measured(drafts: Sequence[Recording], where: str | Path, min_duration_s: float = 0.0) -> list[Recording]:
    """Probe all files and keep those of at least `min_duration_s` seconds.

    Raises one PseError for all files that cannot be used.
    """
    found, faults = in_parallel(probed, drafts)
    if faults:
        raise refusal(faults, len(drafts), where, "copy or download them again")
    return [r for r in found if r.duration_s >= min_duration_s]


def refusal(faults: Sequence[str], total: int, where: str | Path, fix: str) -> PseError:
    """One error for many faults: how many, and the first three with paths below `where`."""
    short = [f.removeprefix(f"{where}{os.sep}") for f in faults]
    return PseError(f"{len(faults)} of {total} files cannot be used: {first_three(short)}", where, fix)


def check_ids(recordings: Iterable[Recording], where: str | Path) -> None:
    """Refuse ids that are malformed or occur twice, all of them at once."""
    count = Counter(r.id for r in recordings)
    bad = [f"{i!r} is malformed" for i in count if not VALID_ID.fullmatch(i)]
    bad += [f"{i} occurs {n} times" for i, n in count.items() if n > 1]
    if bad:
        raise PseError(f"{len(bad)} ids cannot be used: {first_three(bad)}", where, "rename or remove these files")


def tell(message: str) -> None:
    """Tell the user something that does not stop the run."""
    LOG.warning("%s", message)


def write_data_dir(directory: str | Path, recordings: Sequence[Recording]) -> None:
    """Write a Kaldi data directory: wav.scp, utt2spk, spk2utt, utt2dur and, where known, utt2category.

    Paths become absolute. Raises PseError on malformed or repeated ids, or an empty list.
    """
    if not recordings:
        raise PseError("there is no recording to list", directory, "check the corpus directory and the filters")
    check_ids(recordings, directory)
    ordered = sorted(recordings, key=lambda r: (r.speaker, r.id))
    tables = {
        "wav.scp": {r.id: os.path.abspath(r.path) for r in ordered},
        "utt2spk": {r.id: r.speaker for r in ordered},
        "utt2dur": {r.id: f"{r.duration_s:.6f}" for r in ordered},
    }
    if any(r.category for r in ordered):
        tables["utt2category"] = {r.id: r.category or "-" for r in ordered}
    datadir.write(directory, tables)
