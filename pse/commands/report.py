"""`pse report DIR ...`: one page to hear, see and compare recordings and what models make of them, as one file.

Each DIR is a condition: the recordings, what one model made of them, what another did. Files of one relative name
belong together, whatever their ending; <name>_1, <name>_2, .. are the speakers that `pse separate` found in <name>, and
<name>_residual is what it left over. The page needs no other file and no network.

With --recipe, as run.sh calls it, this is the stage `report` of a recipe.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pse.commands.files import add_overwrite, need_free
from pse.errors import PseError
from pse.inference.builtin import DEFAULTS


def main(argv: Sequence[str]) -> int:
    """Write the page of recordings; a first argument that is an option, and --recipe: run the stage of a recipe."""
    if argv and argv[0].startswith("-") and any(word.split("=")[0] == "--recipe" for word in argv):
        from pse.commands import stages

        return stages.report(argv)
    args = _parser().parse_args(argv)
    made = report(
        args.directory, args.output, reference=args.reference, predictor=args.predictor, max_files=args.max_files,
        overwrite=args.overwrite,
    )  # fmt: skip
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr, flush=True)
    shown, size = f"{made.num_shown} of {made.num_recordings} recordings", made.page.stat().st_size / 1e6
    print(f"{made.page}  ({size:.1f} MB, {shown} to listen to)", flush=True)
    return 1 if made.unreadable else 0


@dataclass(frozen=True)
class Reported:
    """A page of recordings: its file, how many can be listened to and how many there are, what is missing or has other
    lengths than the rest, and which files could not be read."""

    page: Path
    num_shown: int
    num_recordings: int
    notes: list[str]
    unreadable: list[str]


def report(
    directories: str | Path | Sequence[str | Path], output: str | Path | None = None, *,
    reference: str | Path | None = None, predictor: str | Path | None = None, max_files: int = 20,
    overwrite: bool = False,
) -> Reported:  # fmt: skip
    """Make one page to hear, see and compare recordings and what models made of them.

    directories: of the recordings, of what one model made of them, of what another did. output: report.html in the
    last one when not given. reference: of clean speech of the same names. predictor: of frame SNRs, built-in name or
    package; the built-in one when not given. max_files: how many can be listened to; all are measured. Raises
    PseError where there is nothing to compare, and for a page that is there unless `overwrite`.
    """
    places = [Path(d) for d in ([directories] if isinstance(directories, (str, Path)) else directories)]
    if not places:
        raise PseError("no directory is given", "report", "name one with recordings")
    if max_files < 1:
        raise PseError(f"{max_files} recordings make no page", "--max_files", "give 1 or more")
    page = Path(output or places[-1] / "report.html")
    if page.is_dir():
        raise PseError("is a directory, a file is needed", page, "give -o page.html")
    need_free(page, overwrite=overwrite)

    from pse.commands.matching import match, references
    from pse.commands.report_page import gather, write_page
    from pse.scoring.comparison import Judge, metrics_here

    matched = match(places)
    clean = references(Path(reference), matched.recordings, places[0]) if reference else {}
    judge = Judge(_predictor(predictor), metrics_here())
    gathered = gather(matched, clean, judge, max_files)
    shown = write_page(page, gathered, judge)
    return Reported(page, shown, len(matched.recordings), gathered.notes, gathered.unreadable)


def _parser() -> argparse.ArgumentParser:
    what, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="pse report", description=what, epilog=more)
    parser.add_argument("directory", type=Path, nargs="+", help="recordings, and what models made of them")
    parser.add_argument("-o", "--output", type=Path, help="the page (default: report.html in the last directory)")
    parser.add_argument("--reference", type=Path, help="directory of clean speech of the same names: adds scores")
    parser.add_argument("--predictor", help="a model of frame SNR, built-in name or directory: adds SNR and weights "
                        f"(default: {DEFAULTS['snr_predictor']}, where it is built in)")  # fmt: skip
    parser.add_argument("--max_files", type=int, default=20, metavar="N",
                        help="recordings to listen to, the first by name (default: 20); all are measured")  # fmt: skip
    add_overwrite(parser)
    return parser


def _predictor(given: str | Path | None) -> Any:
    """The model of frame SNR, None where none was given or is built in. Raises PseError for one of something else."""
    from pse.inference import builtin

    if given is None and DEFAULTS["snr_predictor"] not in builtin.names():
        return None
    import torch

    from pse.inference.package import load_network

    place = builtin.package(given or DEFAULTS["snr_predictor"])
    model = load_network(place)
    with torch.inference_mode():
        told = model(torch.zeros(1, model.sample_rate)).frame_snr_db
    if told is None:
        raise PseError("tells no frame SNR", given or place, "choose a package of an SNR predictor")
    return model
