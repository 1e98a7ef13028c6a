"""Fixed sets of mixtures on disk: descriptions, and the names of the caches they are rendered from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pse.data.cache import REMAKE, AudioCache
from pse.data.mixture import Mixture, MixtureSpec, Sources, read_specs, render, write_specs
from pse.errors import PseError, StageMissingError, first_three
from pse.io.jsonl import read_json, write_json

ROLES = ("speech", "noise", "premixture_noise")


def open_sources(dump: Path, names: dict[str, str | None]) -> Sources:
    """The caches dump/<name> by role (speech, noise, premixture_noise)."""
    return Sources(**{role: AudioCache(dump / name) for role, name in names.items() if name})


class FixedMixtures:
    """A set of mixtures that is the same at every use: dump/mixtures/<set>/{specs.jsonl, sources.json}."""

    def __init__(self, dump: Path, name: str) -> None:
        """Raises StageMissingError when stage features has not made the set, PseError when it is damaged."""
        self.directory = dump / "mixtures" / name
        if not (self.directory / "specs.jsonl").is_file():
            raise StageMissingError("no such set of mixtures", self.directory, "run ./run.sh --stage features first")
        try:
            self.specs = read_specs(self.directory / "specs.jsonl")
            names = read_json(self.directory / "sources.json")
        except PseError as error:
            raise PseError(error.what, error.where, REMAKE) from error
        _check_names(self.directory / "sources.json", names)
        self.sources = open_sources(dump, names)
        _check_specs(self.directory / "specs.jsonl", self.specs, self.sources)

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


def _check_names(path: Path, names: Any) -> None:
    """Refuse what `write_fixed` does not write: a cache by role, and speech at least."""
    whole = isinstance(names, dict) and set(names) <= set(ROLES) and isinstance(names.get("speech"), str)
    if not whole or not all(n is None or isinstance(n, str) for n in names.values()):
        raise PseError(f"does not name the caches of {', '.join(ROLES)}", path, REMAKE)


def _check_specs(path: Path, specs: list[MixtureSpec], sources: Sources) -> None:
    """Refuse descriptions that cannot be rendered from these caches."""
    if not specs:
        raise PseError("describes no mixture", path, REMAKE)
    bad = [s.id for s in specs if not _fits(s, sources)]
    if bad:
        raise PseError(f"{len(bad)} mixtures do not fit the audio caches: {first_three(bad)}", path, REMAKE)


def _fits(spec: MixtureSpec, sources: Sources) -> bool:
    parts = [(sources.speech, s, 0.0) for s in spec.sources]
    if spec.noise is not None:
        parts.append((sources.noise, spec.noise, spec.snr_db))
    if spec.premixture_noise is not None:
        parts.append((sources.premixture_noise, spec.premixture_noise, spec.premixture_snr_db))
    known = all(cache is not None and c.utt in cache.num_samples and db is not None for cache, c, db in parts)
    placed = all(min(c.start_samples, c.offset_samples) >= 0 for _, c, _ in parts)
    lasting = all(c.num_samples is None or c.num_samples > 0 for _, c, _ in parts)
    housed = spec.room is None or len(spec.room.sources_m) == len(spec.sources)
    return known and bool(spec.sources) and placed and lasting and housed


def write_fixed(directory: Path, specs: Iterable[MixtureSpec], names: dict[str, str | None]) -> None:
    """Write a fixed set; sources.json first, so that specs.jsonl marks the set as whole."""
    write_json(directory / "sources.json", {role: names.get(role) for role in ROLES})
    write_specs(directory / "specs.jsonl", specs)
