"""`pse models`: the built-in models; `pse models NAME`: the card of one, or of any package."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pse.errors import printable
from pse.inference import builtin

COLUMNS = ("name", "task", "rate", "weights", "size", "causal", "licence")


def main(argv: Sequence[str]) -> int:
    """List the built-in models, or print a card."""
    parser = argparse.ArgumentParser(prog="pse models", description=__doc__)
    parser.add_argument("model", nargs="?", help=builtin.CHOICES)
    args = parser.parse_args(argv)
    if args.model is not None:
        from pse.inference.package import card_of

        print("\n".join(map(printable, card_of(builtin.package(args.model)).splitlines())))
        return 0
    rows = [_row(name) for name in builtin.names()]
    if not rows:
        print(f"no models are built in; {builtin.PLACE} has no packages")
        return 0
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    for row in (COLUMNS, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _row(name: str) -> tuple[str, ...]:
    """The cells of a built-in model."""
    from pse.inference.loaded import load_model
    from pse.models.base import num_parameters

    model = load_model(builtin.PLACE / name)
    tasks = {default: task for task, default in builtin.DEFAULTS.items()}
    size_mb = sum(p.stat().st_size for p in (builtin.PLACE / name).iterdir()) / 1e6
    causal = f"{1000 * model.latency_samples / model.sample_rate:.0f} ms" if model.causal else "no"
    numbers = (f"{model.sample_rate} Hz", f"{num_parameters(model.network):,}", f"{size_mb:.1f} MB")
    return (name, tasks.get(name, model.task), *numbers, causal, printable(_licence(model.card)))


def _licence(card: str) -> str:
    """The name of the licence: the first sentence of its paragraph in the card."""
    from pse.inference.package import licence_in

    told = licence_in(card)
    if told is None:
        return "not named in the card"
    # The point of a version is followed by no space.
    return " ".join(told.removeprefix("Licence:").split()).split(". ")[0].rstrip(".")
