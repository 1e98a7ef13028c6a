"""Kaldi and ESPnet data directories: a folder of text files `id value`, all with the same ids.

Written by code point order and whole; read in any order. The format is described in docs/data_dir.md.
As a program: `python -m pse.io.datadir validate|fix DIR` (utils/validate_data_dir.sh, utils/fix_data_dir.sh).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pse.errors import PseError, first_three
from pse.io.atomic import target_of, writing_dir
from pse.io.audit import audit
from pse.io.repair import fix
from pse.io.tables import invert, is_table, read_table, render

__all__ = ["fix", "invert", "main", "read", "validate", "write", "write_into"]


def read(directory: str | Path) -> dict[str, dict[str, str]]:
    """The tables of a data directory: file name -> {id: rest of the line}; spk2utt is derived and left out.

    Raises PseError when the directory holds no wav.scp or a file of it cannot be trusted.
    """
    directory = Path(directory)
    if not (directory / "wav.scp").is_file():
        raise PseError("is no data directory: it has no wav.scp", directory)
    names = sorted(p.name for p in directory.iterdir() if p.is_file() and is_table(p.name))
    return {name: read_table(directory / name) for name in names if name != "spk2utt"}


def write(directory: str | Path, tables: Mapping[str, Mapping[str, str]]) -> None:
    """Write the tables as a data directory that takes the place of an older one, and derive spk2utt.

    Raises PseError when the ids differ between the files, an id or value cannot be written, or a file
    name is none of a data directory.
    """
    directory = Path(directory)
    texts = _rendered(directory, tables)
    with writing_dir(directory) as temporary:
        _put(temporary, texts)
        if (directory / ".backup").is_dir():
            shutil.copytree(directory / ".backup", temporary / ".backup")


def write_into(directory: str | Path, tables: Mapping[str, Mapping[str, str]]) -> None:
    """Write the tables beside other files of a directory that is still being made; raises as `write` does."""
    _put(Path(directory), _rendered(Path(directory), tables))


def _put(directory: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8", newline="\n")


def _rendered(directory: Path, tables: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The text of each table, spk2utt among them, when all of them agree."""
    directory = target_of(directory)
    foreign = [name for name in tables if not is_table(name) or "/" in name]
    if foreign:
        known = "name them like those in docs/data_dir.md"
        raise PseError(f"{first_three(foreign)}: not a name of a table", directory, known)
    complete = {name: dict(entries) for name, entries in tables.items()}
    if "utt2spk" in complete:
        derived = invert(complete["utt2spk"])
        if complete.get("spk2utt", derived) != derived:
            raise PseError("spk2utt is not the inverse of utt2spk", directory, "leave it out: it is derived")
        complete["spk2utt"] = derived
    elif "spk2utt" in complete:
        raise PseError("has spk2utt and no utt2spk", directory, "give utt2spk: spk2utt is derived")
    _check_same_ids(directory, complete)
    try:
        return {name: render(name, entries) for name, entries in complete.items()}
    except PseError as error:
        raise PseError(error.what, directory / str(error.where), "rename these at their source") from error


def _check_same_ids(directory: Path, tables: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse to write what validate would complain of; with segments the ids are of two kinds."""
    if "segments" in tables or "wav.scp" not in tables:
        return
    ids = set(tables["wav.scp"])
    for name, entries in tables.items():
        differing = sorted(ids ^ set(entries))
        if differing and not name.startswith("spk2") and name != "cmvn.scp":
            what = f"{len(differing)} ids are not in both wav.scp and {name}: {first_three(differing)}"
            raise PseError(what, directory, "give every table the same ids")


def validate(directory: str | Path, check_audio: bool = True, sample_rate: int | None = None) -> list[str]:
    """Every fault of a data directory, one line each with the count and the first three; empty when sound.

    sample_rate: the rate in Hz that the audio must have; None asks only that all have the same.
    """
    return audit(directory, check_audio, sample_rate).faults


def main(argv: Sequence[str] | None = None) -> int:
    """`validate DIR` or `fix DIR`; exit status 1 when a fault is left."""
    parser = argparse.ArgumentParser(prog="datadir", description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=("validate", "fix"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--check_audio", choices=("true", "false"), default="true", help="look at the audio")
    parser.add_argument("--fs", type=int, help="validate: the sample rate in Hz that the audio must have")
    parser.add_argument("--apply", choices=("true", "false"), default="false", help="fix: write the changes")
    args = parser.parse_args(argv)
    check_audio = args.check_audio == "true"
    if args.action == "fix":
        difference = fix(args.directory, args.apply == "true", check_audio)
        print(difference, end="")
        if not difference:
            print(f"{args.directory}: nothing to mend")
        elif args.apply == "false":
            print(f"{args.directory}: nothing is written yet; add --apply true to write this")
            return 0
    found = audit(args.directory, check_audio, args.fs)
    for line in found.warnings:
        print(f"warning: {line}")
    for line in found.faults:
        print(line, file=sys.stderr)
    told = f"{len(found.faults)} faults" if found.faults else f"valid, {found.num_ids} ids"
    print(f"{args.directory}: {told}", file=sys.stderr if found.faults else sys.stdout)
    return 1 if found.faults else 0


if __name__ == "__main__":
    from pse.cli import guarded

    sys.exit(guarded(main))
