"""What tests of whole recipes share."""

from __future__ import annotations

import pytest

from tests.recipe_place import Place


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place where the whole recipe has run once; tests only read it."""
    place = Place(tmp_path_factory.mktemp("recipe"))
    place.first = place.run()
    return place
