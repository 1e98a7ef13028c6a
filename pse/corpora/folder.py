"""Anyone's own directory of recordings, of one or several people, or of noises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pse.corpora.base import Recording, check_ids, in_parallel, need_directory, refusal, tell, walk
from pse.corpora.grouping import halves, split_by_recording
from pse.corpora.manifest import Row, read_manifest, split_name
from pse.corpora.naming import name_fault, safe, unique_ids
from pse.errors import PseError, first_three
from pse.io import audio
from pse.io.tables import read_table

__all__ = ["FORMATS", "PLUGIN", "halves", "scan", "scan_list", "scan_plain"]
FORMATS = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .aiff .aif .aifc .au .snd .caf .w64 .rf64 .sph .nist .voc .avr .paf".split()
)
# Sound that libsndfile does not decode: named instead of passed over in silence.
FOREIGN_FORMATS = frozenset(".m4a .aac .mp4 .m4b .wma .webm .amr .3gp .mka .ape .mov .mkv .mpga .wv".split())
BLOCK_S = 60
MANIFEST_NAME = "MANIFEST.tsv"


def scan(
    root: str | Path,
    manifest: str | Path | None = None,
    min_duration_s: float = 1.0,
    skip_bad: bool = False,
    seed: int = 0,
    shares: Mapping[str, float] | None = None,
) -> list[Recording]:
    """All recordings below `root`, in any format of libsndfile, sorted by id, each with a split.

    Layout: `<split>/` on top if there is a folder train (the others: valid, test); below it the
    first folder is the speaker of its recordings, or the category of its noises; files without
    such a folder belong to a speaker named after `root`. A manifest (given, or MANIFEST.tsv in
    `root`) says which files count, of those below `root`, and may state recording, speaker,
    category, split and duration_s. Without any split, recordings are split with `seed` into
    `shares` (train 0.7, valid 0.15, test 0.15 of the seconds), clips of one recording together.

    Every file is decoded once: corrupt, empty, silent, NaN and files shorter than `min_duration_s`
    are refused all at once, or with `skip_bad` left out and told. Raises PseError.
    """
    root = need_directory(root, "check the path")
    table = Path(manifest) if manifest is not None else root / MANIFEST_NAME
    listed = manifest is not None or table.is_file()
    rows, faults = read_manifest(table, root) if listed else _read_layout(root)
    return _with_split(_recordings(rows, faults, root, min_duration_s, skip_bad), root, seed, shares)


def scan_plain(root: str | Path, min_duration_s: float = 1.0, skip_bad: bool = False) -> list[Recording]:
    """All recordings below `root`, whatever its folders are called, sorted by id, checked as `scan` does it.

    For a person's own folder: no name in it means a split, and no list in it was written for pse.
    """
    root = need_directory(root, "check the path")
    return _recordings(*_read_layout(root, plain=True), root, min_duration_s, skip_bad)


def scan_list(table: str | Path, min_duration_s: float = 1.0, skip_bad: bool = False) -> list[Recording]:
    """The recordings of one person that a wav.scp lists (id and path), sorted by id, checked as `scan` does it."""
    table = Path(table)
    drafts = [Recording(safe(key), Path(place), "me", 0.0) for key, place in read_table(table).items()]
    return _usable(drafts, [], len(drafts), table, min_duration_s, skip_bad)


def _recordings(
    rows: list[Row], faults: list[str], root: Path, min_duration_s: float, skip_bad: bool
) -> list[Recording]:
    """The recordings of the rows that can be used. Raises PseError as `_usable` does, and where there are no rows."""
    total = len(rows) + len(faults)
    if not total:
        raise PseError(f"holds no audio file ({', '.join(sorted(FORMATS))})", root, "check the path")
    faults = faults + [f"{row.path}: {fault}" for row in rows if (fault := name_fault(row.path))]
    drafts = _drafts([row for row in rows if not name_fault(row.path)], root)
    return _usable(drafts, faults, total, root, min_duration_s, skip_bad)


def _usable(
    drafts: list[Recording], faults: list[str], total: int, root: Path, min_duration_s: float, skip_bad: bool
) -> list[Recording]:
    """Those of the drafts that can be used, by id. Raises PseError for the others, unless they may be left out."""
    found, unusable = _checked(drafts, min_duration_s)
    faults = faults + unusable
    if faults and (not skip_bad or not found):
        fix = "mend or remove them, or leave them out with skip_bad" if found else "mend them"
        raise refusal(faults, total, root, fix)
    if faults:
        short = [f.removeprefix(f"{root}/") for f in faults]
        tell(f"{root}: {len(faults)} of {total} files are left out: {first_three(short)}")
    check_ids(found, root)
    return sorted(found, key=lambda r: r.id)


def _read_layout(root: Path, plain: bool = False) -> tuple[list[Row], list[str]]:
    """Rows out of the directory's layout, and the files whose place or format says nothing; plain: without splits."""
    files = [p for p in walk(root) if p.suffix.lower() in FORMATS | FOREIGN_FORMATS]
    inside = {p: p.relative_to(root).parts for p in files}
    by_split = not plain and any(len(parts) > 1 and split_name(parts[0]) == "train" for parts in inside.values())
    rows, faults = [], []
    for path, parts in inside.items():
        kind = path.suffix.lower()
        split = split_name(parts[0]) if by_split and len(parts) > 1 else ""
        if kind in FOREIGN_FORMATS:
            faults.append(f"{path}: {kind} is not read here, convert it (ffmpeg -i x{kind} x.wav)")
        elif by_split and not split:
            faults.append(f"{path}: lies outside the folders train, valid and test")
        else:
            rows.append(Row(path, split=split))
    return rows, faults


def _drafts(rows: list[Row], root: Path) -> list[Recording]:
    """Recordings with safe and unique ids, and the duration that the manifest states, else 0."""
    by_split = any(row.split and split_name(row.path.relative_to(root).parts[0]) for row in rows)
    folders = [row.path.relative_to(root).parts[1 if by_split else 0 : -1] for row in rows]
    tops = [f[0] if f else "" for f in folders]
    speakers = [safe(row.speaker or top or root.resolve().name) for row, top in zip(rows, tops, strict=True)]
    ids = unique_ids([row.path.relative_to(root) for row in rows], speakers)
    return [
        Recording(
            name, row.path, speaker, row.duration_s or 0.0, category=row.category or top, split=row.split,
            recording=safe(row.recording) if row.recording else "",
        )
        for row, top, speaker, name in zip(rows, tops, speakers, ids, strict=True)
    ]  # fmt: skip


def _checked(drafts: list[Recording], min_duration_s: float) -> tuple[list[Recording], list[str]]:
    """Decode everything; returns the good recordings and the faults, and tells what is clipped."""
    distorted: list[str] = []

    def check(draft: Recording) -> Recording:
        info = audio.probe(draft.path)
        if info.duration_s < min_duration_s:
            raise PseError(f"lasts {info.duration_s:.2f} s, {min_duration_s:g} s are needed", draft.path)
        if draft.duration_s and abs(draft.duration_s - info.duration_s) > 0.05:
            raise PseError(f"lasts {info.duration_s:.2f} s, the manifest says {draft.duration_s:.2f} s", draft.path)
        notes = _listen(info)
        if notes:
            distorted.append(f"{draft.path.name} {notes[0]}")
        return replace(draft, duration_s=info.duration_s, sample_rate=info.sample_rate)

    found, faults = in_parallel(check, drafts)
    if distorted:
        tell(f"{len(distorted)} recordings are used although distorted: {first_three(sorted(distorted))}")
    return found, faults


def _listen(info: audio.AudioInfo) -> list[str]:
    """Decode a file in blocks, hours need not fit into memory; returns what is odd about it."""
    silent, notes = True, []
    block = BLOCK_S * info.sample_rate
    for start in range(0, info.num_samples, block):
        samples, _ = audio.read(info.path, None, start, min(block, info.num_samples - start))
        if audio.level_dbfs(samples) >= audio.SILENCE_DBFS:
            silent = False
            notes += audio.faults(samples)
    if silent:
        raise PseError("is silent", info.path)
    return notes


def _with_split(
    found: list[Recording], root: Path, seed: int, shares: Mapping[str, float] | None
) -> list[Recording]:
    without = [r for r in found if not r.split]
    if not without:
        return found
    if len(without) < len(found):
        raise PseError(
            f"{len(without)} of {len(found)} recordings have no split: {first_three(r.path.name for r in without)}",
            root, "give a split to all of them or to none",
        )  # fmt: skip
    try:
        return split_by_recording(found, shares, seed)
    except PseError as error:
        raise PseError(error.what, root, error.fix) from error


PLUGIN = scan
