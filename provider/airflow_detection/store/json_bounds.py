"""Bounds of JSON values: which values are refused, with their place.

The same walk serves registered params, which Postgres must give back and a recorded plan must hold, and the
outputs of models (`encoding`); they differ in the depth, the types and the leaves that they allow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 100
"""Levels of nesting that params may have; a plan has more around them, and orjson ends at 254."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonBounds:
    """Bounds of a JSON value.

    Args:
        max_depth: levels of nesting.
        is_object: tells whether a value is an object.
        is_array: tells whether a value is an array.
        leaf_reason: returns why a value that is neither cannot be stored, None if it can.
    """

    max_depth: int
    is_object: Callable[[Any], bool]
    is_array: Callable[[Any], bool]
    leaf_reason: Callable[[Any], str | None]

    @property
    def too_deep(self) -> str:
        """The reason for a value that is nested too deep."""
        return f"is nested more than {self.max_depth} levels deep"

    def violations(self, path: str, value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:  # Any: any
        """Iterate over the places inside `value` that are out of bounds, each with the reason.

        Args:
            path: how messages call `value`, such as `params`.
            depth: levels of nesting around it.
        """
        if depth > self.max_depth:
            yield path, self.too_deep
        elif self.is_object(value):
            for key, item in value.items():
                if type(key) is not str or text_reason(key):
                    yield path, f"has the key {key!r}, which is not plain text"
                else:
                    yield from self.violations(f"{path}.{key}", item, depth + 1)
        elif self.is_array(value):
            for number, item in enumerate(value):
                yield from self.violations(f"{path}[{number}]", item, depth + 1)
        elif reason := self.leaf_reason(value):
            yield path, reason


def problems_of(path: str, value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:  # Any: any value
    """Iterate over the places inside `value` that cannot be registered, each with the reason.

    Args:
        path: how messages call `value`, such as `params`.
        depth: levels of nesting around it.
    """
    return _REGISTERED.violations(path, value, depth)


def integer_reason(value: int) -> str | None:
    """Return why an integer cannot be stored, None if it can."""
    return None if -(2**63) <= value < 2**64 else "is an integer beyond 64 bits"


def text_reason(text: str) -> str | None:
    """Return why a text cannot be stored, None if it can."""
    if "\0" in text:
        return "holds a NUL character"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "is not valid Unicode"
    return None


def _leaf_reason(value: Any) -> str | None:  # Any: neither an object nor an array
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return text_reason(value)
    if isinstance(value, int):
        return integer_reason(value)
    if isinstance(value, float):
        return None if math.isfinite(value) else f"is not a finite number: {value}"
    return f"is a {type(value).__name__}, which JSON does not have"


_REGISTERED = JsonBounds(
    max_depth=MAX_DEPTH,
    is_object=lambda value: isinstance(value, dict),
    is_array=lambda value: isinstance(value, (list, tuple)),
    leaf_reason=_leaf_reason,
)
_TOO_DEEP = f" {_REGISTERED.too_deep}"


def unusable_reason(value: Any, depth: int = 0) -> str | None:  # Any: a JSON value that Postgres has given
    """Return why a stored value cannot be used, its place first; None if it can.

    Values that were not stored by the registration may be anything. An integer of any length that was read
    is fine: 1e22 comes back as one.
    """
    if isinstance(value, float):
        return None if math.isfinite(value) else " is beyond the range of a double"
    if not isinstance(value, (dict, list)):
        return None
    if depth > MAX_DEPTH:
        return _TOO_DEEP
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if reason := unusable_reason(item, depth + 1):
            step = f".{key}" if isinstance(key, str) else f"[{key}]"
            return reason if reason == _TOO_DEEP else f"{step}{reason}"
    return None
