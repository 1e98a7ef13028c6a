"""The fixed test sets as they are heard: descriptions rendered with their noise and room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pse.data.fixed import FixedMixtures
from pse.data.scene import Scene, render_scene
from pse.recipe.options import Context


class TestSet:
    """A fixed test set. specs: its descriptions; sample_rate: of its audio."""

    # The name is no test's.
    __test__ = False

    def __init__(self, ctx: Context, name: str) -> None:
        self._mixtures, self._conditions = FixedMixtures(ctx.dump, name), ctx.config.mixture.tests[name].conditions
        self.specs = self._mixtures.specs
        self.sample_rate: int = self._mixtures.sources.speech.sample_rate

    def speakers(self, spec: Any) -> list[str]:
        """Who speaks in a mixture."""
        return [self._mixtures.sources.speech.speaker[s.utt] for s in spec.sources]

    def scene(self, spec: Any) -> Scene:
        """The mixture and what is to be separated."""
        return render_scene(spec, self._mixtures.sources, self._conditions.reference)

    def scenes(self) -> Iterator[tuple[Any, Scene]]:
        """All of them, in order."""
        return ((spec, self.scene(spec)) for spec in self.specs)
