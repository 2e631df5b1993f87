"""What a registered JSON value may hold, so that Postgres gives it back and a recorded plan can hold it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 100
"""Levels of nesting that params may have; a plan has more around them, and orjson ends at 254."""


_DEEP = f" is nested more than {MAX_DEPTH} levels deep"


def refusals(path: str, value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:  # Any: any value
    """Iterate over the places inside `value` that cannot be registered, with what is wrong there.

    Args:
        path: how messages call `value`, such as `params`.
        depth: levels of nesting around it.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str or _text_fault(key):
                yield path, f"has the key {key!r}, which is not plain text"
            else:
                yield from _inside(f"{path}.{key}", item, depth)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _inside(f"{path}[{number}]", item, depth)
    elif fault := _leaf_fault(value):
        yield path, fault


def _inside(path: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:  # Any: any value
    if depth < MAX_DEPTH:
        yield from refusals(path, value, depth + 1)
    else:
        yield path, f"is nested more than {MAX_DEPTH} levels deep"


def _leaf_fault(value: Any) -> str | None:  # Any: neither an object nor an array
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return _text_fault(value)
    if isinstance(value, int):
        return None if -(2**63) <= value < 2**64 else "is an integer beyond 64 bits"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"is not a finite number: {value}"
    return f"is a {type(value).__name__}, which JSON does not have"


def _text_fault(text: str) -> str | None:
    if "\0" in text:
        return "holds a NUL character"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "is not valid Unicode"
    return None


def read_fault(value: Any, depth: int = 0) -> str | None:  # Any: a JSON value that Postgres has given
    """Why a stored value cannot be used, its place first: what came past the registration holds anything.

    A whole number of any length that was read is fine: 1e22 comes back as one.
    """
    if isinstance(value, float):
        return None if math.isfinite(value) else " is beyond the range of a double"
    if not isinstance(value, (dict, list)):
        return None
    if depth > MAX_DEPTH:
        return _DEEP
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if fault := read_fault(item, depth + 1):
            step = f".{key}" if isinstance(key, str) else f"[{key}]"
            return fault if fault == _DEEP else f"{step}{fault}"
    return None
