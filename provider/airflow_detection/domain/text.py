"""Text of others, made fit to be shown: it moves no cursor, forges no line and fills no page."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """Return text on one line: control characters, line ends and changes of direction become escapes."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def visible_lines(text: str) -> str:
    """Return text as `visible` does, but keep its line feeds."""
    return "\n".join(visible(line) for line in text.split("\n"))


def cut(text: str, max_chars: int) -> str:
    """Return text; of a longer one its beginning, and how long it is."""
    if len(text) <= max_chars:
        return text
    return f"{text[:max_chars]}... ({len(text):,} characters)"
