"""Whose speech a system has heard in training: told by its package, and refused where it is to be tested on it."""

from __future__ import annotations

from pse.errors import PseError, first_three
from pse.inference.package import heard_in
from pse.io.tables import read_table
from pse.recipe.options import Context
from pse.recipe.separation.layout import VALID, System, method_of, speech_sets, systems


def heard_by(ctx: Context, system: System) -> dict[str, list[str]] | None:
    """Corpus -> the speakers that a system was trained on, and whatever it starts from; None where that is not told.

    Spoken digits are left out: nobody is tested on them.
    """
    method, name = method_of(ctx, system), ctx.config.corpus.name
    if method.package is not None:
        return heard_in(method.package)
    before = {} if method.start is None else heard_by(ctx, System(method.start, system.seed))
    if before is None:
        return None
    speakers = method.speakers or read_table(ctx.data / "train" / "spk2utt")
    return before | {name: sorted({*speakers, *before.get(name, ())})}


def check(ctx: Context) -> None:
    """Refuse a package that has heard speakers of validation or of the open tests. Raises PseError."""
    for system in systems(ctx):
        package = method_of(ctx, system).package
        heard = set() if package is None else set((heard_in(package) or {}).get(ctx.config.corpus.name, ()))
        for part in ("open", VALID):
            table = ctx.data / part / "spk2utt"
            # Other experiments may have left sets of speech that this one has no use for.
            there = read_table(table) if heard and part in speech_sets(ctx) and table.is_file() else {}
            if both := sorted(heard & there.keys()):
                told = f"{len(both)} of {len(there)} {part} speakers in training: {first_three(both)}"
                fix = "make them train with --set data.split=split.tsv (columns id and split), or give another package"
                raise PseError(f"{package} has heard {told}", f"method {system.method}", fix)
