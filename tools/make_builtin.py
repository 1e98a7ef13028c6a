"""Put a package among the models that come with pse, its weights in half precision.

    python tools/make_builtin.py egs/librispeech_pse/exp/builtin/package/gru_256_causal gru_256_causal --about about.md

makes pse/weights/gru_256_causal. The card is that of the package, then what is in the files of --about, and by how much
the rounded weights change the output for ten signals.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pse.cli import guarded
from pse.errors import PseError
from pse.inference.builtin import PLACE
from pse.inference.package import card_of, heard_in, load_network, packaged_config, save_package

MOST_BYTES, SIGNALS, LONGEST_S = 10_000_000, 10, 4.0


def main() -> int:
    """Write the package and tell its size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="exp/<tag>/package/<system>")
    parser.add_argument("name", help="what it is called")
    parser.add_argument("--about", type=Path, nargs="*", default=[], help="Markdown to put into the card")
    args = parser.parse_args()
    whole = load_network(args.package)
    halved = copy.deepcopy(whole).half()
    rounded = copy.deepcopy(halved).float()
    told = f"largest change of an output for that: {change(whole, rounded):.1e} of its peak, {SIGNALS} signals of noise"
    card = "\n".join([
        renamed(card_of(args.package), args.name).rstrip(), "",
        *(path.read_text(encoding="utf-8").rstrip() + "\n" for path in args.about),
        "## Weights", "", f"In half precision; {told}.", "",
    ])  # fmt: skip
    heard = heard_in(args.package)
    save_package(PLACE / args.name, halved, packaged_config(args.package), card, whole.counting, heard)
    size = sum(path.stat().st_size for path in (PLACE / args.name).iterdir())
    if size > MOST_BYTES:
        raise PseError(f"has {size:,} bytes, {MOST_BYTES:,} at most are put into the tree", PLACE / args.name)
    print(f"{PLACE / args.name}: {size / 1e6:.2f} MB, {told}")
    return 0


def renamed(card: str, name: str) -> str:
    """A card with the name that a model has here for its heading; that of its recipe, used by its scores, is told."""
    heading, _, rest = card.partition("\n")
    before = heading.removeprefix("# ")
    return f"# {name}\n" + (rest if before == name else f"\nIn its recipe it is called {before}.\n{rest}")


@torch.inference_mode()
def change(one: Any, other: Any) -> float:
    """The largest difference of all that two models make of random signals, in units of the largest value."""
    worst = 0.0
    for mix in _signals(one.sample_rate):
        for name, made in vars(one(mix)).items():
            if made is not None:
                difference = (made - getattr(other(mix), name)).abs().max() / made.abs().max()
                worst = max(worst, float(difference))
    return worst


def _signals(sample_rate: int) -> Iterator[Tensor]:
    random = torch.Generator().manual_seed(0)
    for number in range(1, SIGNALS + 1):
        yield 0.1 * torch.randn(1, round(number / SIGNALS * LONGEST_S * sample_rate), generator=random)


if __name__ == "__main__":
    sys.exit(guarded(main))
