"""Pieces of HTML that every part of a page is made of: escaped text, embedded files, tables that scroll."""

from __future__ import annotations

import base64
import html

from pse.errors import printable


def text(value: object) -> str:
    """A value as text of a page or of an attribute: nothing in it can become markup."""
    return html.escape(printable(" ".join(str(value).split())), quote=True)


def data_uri(kind: str, content: bytes) -> str:
    """A file of a media type as the address of itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def scrolled(table: str, label: str) -> str:
    """A table that scrolls by itself where it is wider than the screen, by keyboard too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{text(label)}">{table}</div>'
