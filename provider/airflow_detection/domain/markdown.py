"""Text of the registry inside Markdown: shown as it is, never a part of the page."""

from __future__ import annotations

import re

from airflow_detection.domain.text import visible

_SPECIAL = re.compile(r"[\\`*\[\]<|&~]|(?<![^\W_])_|_(?![^\W_])|^[#>+=-]|^\d+[.)]")

_PLAIN = re.compile(r"(?!www\.)[a-z0-9]+([._ -][a-z0-9]+)*", re.IGNORECASE)


def code(text: str) -> str:
    """Return text as a code span, whatever is in it."""
    text = visible(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if not text.strip() or "`" in (text[0], text[-1]) else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def cell(text: str) -> str:
    """Return text as a code span in a cell of a table: an odd number of backslashes escapes a `|`."""
    return re.sub(r"\\*\|", lambda found: "\\" * (len(found[0]) | 1) + "|", code(text))


def name_cell(name: str) -> str:
    """Return an id or a version in a cell of a table: as it is, if nothing in it means anything there."""
    return name if _PLAIN.fullmatch(name) else cell(name)


def prose(text: str) -> str:
    """Return text as a part of a paragraph: no heading, link, image, emphasis, HTML or line of its own."""
    line = visible(" ".join(text.split()))
    return _SPECIAL.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", line)
