"""Fixed sets of mixtures on disk: descriptions, and the names of the caches they are rendered from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pse.data.cache import AudioCache
from pse.data.mixture import Mixture, MixtureSpec, Sources, read_specs, render, write_specs
from pse.errors import StageMissingError
from pse.io.jsonl import read_json, write_json

ROLES = ("speech", "noise", "premixture_noise")


def open_sources(dump: Path, names: dict[str, str | None]) -> Sources:
    """The caches dump/<name> by role (speech, noise, premixture_noise)."""
    return Sources(**{role: AudioCache(dump / name) for role, name in names.items() if name})


class FixedMixtures:
    """A set of mixtures that is the same at every use: dump/mixtures/<set>/{specs.jsonl, sources.json}."""

    def __init__(self, dump: Path, name: str) -> None:
        """Raises StageMissingError when stage features has not made the set."""
        self.directory = dump / "mixtures" / name
        if not (self.directory / "specs.jsonl").is_file():
            raise StageMissingError("no such set of mixtures", self.directory, "run ./run.sh --stage features first")
        self.specs = read_specs(self.directory / "specs.jsonl")
        self.sources = open_sources(dump, read_json(self.directory / "sources.json"))

    def of_speaker(self, speaker: str) -> list[MixtureSpec]:
        """The mixtures whose first source is this speaker's."""
        return [s for s in self.specs if self.speaker(s) == speaker]

    def speaker(self, spec: MixtureSpec) -> str:
        """Whose speech a mixture holds."""
        return self.sources.speech.speaker[spec.sources[0].utt]

    def render(self, specs: Iterable[MixtureSpec] | None = None) -> Iterator[tuple[MixtureSpec, Mixture]]:
        """Render mixtures one at a time (all of them by default)."""
        for spec in self.specs if specs is None else specs:
            yield spec, render(spec, self.sources)


def write_fixed(directory: Path, specs: Iterable[MixtureSpec], names: dict[str, str | None]) -> None:
    """Write a fixed set; sources.json first, so that specs.jsonl marks the set as whole."""
    write_json(directory / "sources.json", {role: names.get(role) for role in ROLES})
    write_specs(directory / "specs.jsonl", specs)
