"""What tests of whole recipes share."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.recipe_place import Place

# The same examples in every run: a change is never blamed for what an unlucky draw finds in other code. To go
# looking for such finds: pytest --hypothesis-profile=new_examples.
settings.register_profile("same_examples", derandomize=True, deadline=None)
settings.register_profile("new_examples", deadline=None)
settings.load_profile("same_examples")

# As many threads as there are cores for each of several test processes are slower than one.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: of several test processes none has one left when the others have ended."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place where the whole recipe has run once; tests only read it."""
    place = Place(tmp_path_factory.mktemp("recipe"))
    place.first = place.run()
    return place
