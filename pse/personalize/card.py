"""The card of a personal model: what it was made of and how, what the check said, and what that does not cover."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pse.errors import printable
from pse.inference.package import card_of, licence_in
from pse.personalize.adapt import SNR_DB

# Of a sum so much tells one package from all others.
SUM_DIGITS = 12
LIMITS = (
    f"It knows one voice, and additive noise at {SNR_DB[0]:g} to {SNR_DB[1]:g} dB. The check adds noise to pieces of "
    "the recordings that no training has heard; the noise is other pieces of what the training had. It measures "
    "SI-SDR on the frames that are clear, and tells nothing of other noises, rooms and microphones, or of how it "
    "sounds to people."
)


@dataclass(frozen=True)
class Origin:
    """What a personal model comes from.

    options: as they were asked for, by their names; models: of the base and its helpers the name and the digest of
    the sums; licence: of the base. recordings: of each kind that was given, what was found, line by line.
    """

    options: Mapping[str, Any]
    models: Mapping[str, tuple[str, str]]
    licence: str
    recordings: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """The command, without the places of the recordings: a card is for others, too."""
        given = {k: Path(v).name if isinstance(v, Path) else v for k, v in self.options.items() if v is not None}
        words = [str(given.pop("noisy")), "-o", str(given.pop("output"))]
        words += [word for name, value in given.items() for word in (f"--{name}", f"{value}")]
        return printable(shlex.join(["pse", "personalize", *words]))


def digest(place: Path) -> str:
    """What a package is known by: the digest of its list of sums."""
    return hashlib.sha256((place / "SHA256SUMS").read_bytes()).hexdigest()


def licence_of(place: Path) -> str:
    """The paragraph of a package's card that names its licence."""
    return licence_in(card_of(place)) or "Licence: that of the base, whose card names none."


def card(origin: Origin, checked: Sequence[str], helped: bool) -> str:
    """The text of the card; checked: what the check said, line by line."""
    from pse import __version__

    title = "A personal model" if helped else "The base model as it was: personalising it did not help for sure"
    lines = [f"# {title}", "", f"Made by `{origin.command}` (pse {__version__}) with:", ""]
    lines += [f"- {role}: {name} ({sums[:SUM_DIGITS]})" for role, (name, sums) in origin.models.items()]
    lines += ["", "## The recordings", ""]
    for kind, found in origin.recordings.items():
        lines += [f"- {kind}: {line}" for line in found]
    lines += ["", "## The check", "", *(f"- {line}" for line in checked)]
    lines += ["", "## Limits", "", LIMITS, "", origin.licence, ""]
    return "\n".join(lines)
