"""Params of the maritime models, read and checked."""

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
        TerminalModelError: it is not one.
    """
    value = params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise TerminalModelError(f"param {name!r} is {value!r}: must be a number above 0")
    return float(value)


def one_of(params: JsonMapping, name: str, choices: Iterable[str]) -> str:
    """Read one of several choices; the first is the default.

    Raises:
        TerminalModelError: it is another.
    """
    allowed = list(choices)
    value = params.get(name, allowed[0])
    if value not in allowed:
        raise TerminalModelError(f"param {name!r} is {value!r}: must be one of {', '.join(allowed)}")
    return str(value)
