"""`pse wsj0mix --wsj0_dir DIR -o OUT`: WSJ0-2mix and WSJ0-3mix as WAV files in the published tree, without MATLAB.

Recipes need no such files: they mix on the fly.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

from pse.data.wsj0_mix import COUNTS, MODES, RATES_HZ
from pse.recipe.environment import num_cores


def main(argv: Sequence[str]) -> int:
    """Write what is missing; the same command goes on where it was stopped."""
    parser = argparse.ArgumentParser(prog="pse wsj0mix", description=__doc__)
    parser.add_argument("--wsj0_dir", type=Path, required=True, help="the discs of LDC93S6A or LDC93S6B")
    parser.add_argument("--lists_dir", type=Path, help="the published lists; when not given, they are downloaded")
    parser.add_argument("-o", "--output", type=Path, required=True, help="directory of the tree")
    parser.add_argument("--num_speakers", type=int, nargs="+", choices=(2, 3, 4, 5), default=[2])
    parser.add_argument("--part", nargs="+", choices=tuple(COUNTS), default=list(COUNTS))
    parser.add_argument("--fs", type=int, nargs="+", choices=RATES_HZ, default=[RATES_HZ[0]])
    parser.add_argument("--mode", nargs="+", choices=MODES, default=[MODES[0]], help="cut to the shortest, or padded")
    parser.add_argument("--nj", type=int, default=num_cores(), help="processes")
    args = parser.parse_args(argv)

    from pse.corpora import wsj0
    from pse.data import wsj0_lists, wsj0_mix
    from pse.data.wsj0_tree import Plan, check_levels, to_write, write_tree
    from pse.io.atomic import need_disk

    wanted = {(c, p): f"mix_{c}_spk_{p}.txt" for c in args.num_speakers for p in args.part}
    lists = wsj0_lists.find_or_download(args.lists_dir, args.output, (*wsj0_lists.LEVELS, *wanted.values()))
    levels: dict[str, float] = {}
    for name in wsj0_lists.LEVELS:
        levels |= wsj0_mix.parse_levels(wsj0_mix.verify(lists / name), lists / name)
    # All lists first: what is missing is told before hours of writing.
    sets = {key: wsj0_mix.read_published(lists / name) for key, name in wanted.items()}
    recordings = wsj0.scan(args.wsj0_dir)
    found = wsj0.require(recordings, {p for entries in sets.values() for e in entries for p in e.paths}, args.wsj0_dir)
    check_levels(list(found.values()), levels, args.wsj0_dir)
    plans = {
        Plan(count, part, rate, mode): entries
        for ((count, part), entries), rate, mode in itertools.product(sets.items(), args.fs, args.mode)
    }
    num_bytes = sum(to_write(args.output, plan, entries, found)[1] for plan, entries in plans.items())
    need_disk(args.output, num_bytes, f"all {len(plans)} sets")
    for plan, entries in plans.items():
        write_tree(args.output, plan, entries, found, levels, max(1, args.nj), _tell)
    return 0


def _tell(line: str) -> None:
    print(line, flush=True)
