"""The published lists and levels of WSJ0-mix: found or downloaded, and verified."""

from __future__ import annotations

from pathlib import Path

from pse.data import wsj0_mix
from pse.errors import PseError, first_three
from pse.io.fetch import Remote, fetch

# The commit whose files have the checksums in pse.data.wsj0_mix; bytes of those that are asked for.
HOME = "https://raw.githubusercontent.com/mpariente/pywsj0-mix/6ca4c92/metadata"
NUM_BYTES = {
    "activlev_si_tr_s.txt": 408832, "activlev_si_dt_05.txt": 38592, "activlev_si_et_05.txt": 20832,
    "mix_2_spk_tr.txt": 1533478, "mix_2_spk_cv.txt": 383342, "mix_2_spk_tt.txt": 236026,
    "mix_3_spk_tr.txt": 2173730, "mix_3_spk_cv.txt": 543290, "mix_3_spk_tt.txt": 335102,
}  # fmt: skip


def find_or_download(lists_dir: Path | None, downloads_dir: Path) -> Path:
    """The directory with the lists: `lists_dir`, or downloads_dir/wsj0_mix_lists, where missing ones are fetched.

    Raises PseError for a directory that lacks one, and where the network does not give them.
    """
    if lists_dir is not None:
        missing = [n for n in NUM_BYTES if not (lists_dir / n).is_file()]
        if missing:
            what = f"lacks {len(missing)} of the published lists ({first_three(missing)})"
            raise PseError(what, lists_dir, "leave --lists_dir out to download them")
        return lists_dir
    target = downloads_dir / "wsj0_mix_lists"
    for name, num_bytes in NUM_BYTES.items():
        if not (target / name).is_file():
            fetch(Remote(name, (f"{HOME}/{name}",), num_bytes, sha256=wsj0_mix.SHA256[name]), target)
    return target
