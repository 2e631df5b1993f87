"""Params of the maritime models: numbers within bounds, refused with one clear sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from airflow_detection.errors import TerminalModelError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_detection.domain.json_values import JsonMapping


def positive(params: JsonMapping, name: str, default: float) -> float:
    """Read a number above 0.

    Raises:
        TerminalModelError: it is none.
    """
    value = params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise TerminalModelError(f"param {name!r} is {value!r}; it must be a number above 0")
    return float(value)


def one_of(params: JsonMapping, name: str, choices: Iterable[str]) -> str:
    """Read one of some words; the first is the default.

    Raises:
        TerminalModelError: it is another.
    """
    held = list(choices)
    value = params.get(name, held[0])
    if value not in held:
        raise TerminalModelError(f"param {name!r} is {value!r}; it must be one of {', '.join(held)}")
    return str(value)
