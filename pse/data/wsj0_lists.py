"""The published lists and levels of WSJ0-mix: found or downloaded, and verified."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pse.data import wsj0_mix
from pse.errors import PseError, first_three
from pse.io.fetch import Remote, fetch

# The commit whose files have the checksums in pse.data.wsj0_mix, and their sizes.
HOME = "https://raw.githubusercontent.com/mpariente/pywsj0-mix/6ca4c92/metadata"
NUM_BYTES = {
    "activlev_si_tr_s.txt": 408832, "activlev_si_dt_05.txt": 38592, "activlev_si_et_05.txt": 20832,
    "mix_2_spk_tr.txt": 1533478, "mix_2_spk_cv.txt": 383342, "mix_2_spk_tt.txt": 236026,
    "mix_3_spk_tr.txt": 2173730, "mix_3_spk_cv.txt": 543290, "mix_3_spk_tt.txt": 335102,
    "mix_4_spk_tr.txt": 3953090, "mix_4_spk_cv.txt": 988210, "mix_4_spk_tt.txt": 604862,
    "mix_5_spk_cv.txt": 1148166, "mix_5_spk_tt.txt": 703890,
}  # fmt: skip
LEVELS = tuple(n for n in NUM_BYTES if n.startswith("activlev"))
# What a recipe needs: the levels, all parts for two and three speakers, and for four and five those of the tests.
OF_RECIPES = tuple(n for n in NUM_BYTES if n != "mix_4_spk_tr.txt")


def find_or_download(lists_dir: Path | None, downloads_dir: Path, names: Iterable[str] = OF_RECIPES) -> Path:
    """The directory with the lists: `lists_dir`, or downloads_dir/wsj0_mix_lists, where missing ones are fetched.

    Raises PseError for a list that is not among the published ones we know, for a directory that lacks
    one, and where the network does not give them.
    """
    names = list(names)
    unknown = [n for n in names if n not in NUM_BYTES]
    if unknown:
        what = f"cannot be verified: no checksum of {first_three(unknown)} is known"
        raise PseError(what, "the published lists", "ask for other parts, e.g. --part cv tt")
    if lists_dir is not None:
        missing = [n for n in names if not (lists_dir / n).is_file()]
        if missing:
            what = f"lacks {len(missing)} of the published lists ({first_three(missing)})"
            raise PseError(what, lists_dir, "leave --lists_dir out to download them")
        return lists_dir
    target = downloads_dir / "wsj0_mix_lists"
    for name in names:
        if not (target / name).is_file():
            fetch(Remote(name, (f"{HOME}/{name}",), NUM_BYTES[name], sha256=wsj0_mix.SHA256[name]), target)
    return target
