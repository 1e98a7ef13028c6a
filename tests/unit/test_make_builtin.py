"""tools/make_builtin.py: the card of a model that comes with pse."""

from __future__ import annotations

from tools.make_builtin import renamed


def test_the_heading_is_the_name_here_and_the_recipes_name_is_told() -> None:
    """The lines of scores have the recipe's name, so it may not get lost."""
    assert renamed("# voice\n\nWhose voice.\n", "voice") == "# voice\n\nWhose voice.\n"
    card = renamed("# bins\n\nSeparates.\n", "cl_blstm")
    assert card == "# cl_blstm\n\nIn its recipe it is called bins.\n\nSeparates.\n"
