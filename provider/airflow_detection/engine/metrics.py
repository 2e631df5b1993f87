"""Metrics of a run that can be stored, and the profile of its features."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from numbers import Real
from typing import Any

from airflow_detection.domain.reports import FeatureProfile
from airflow_detection.domain.specs import MAX_ID_LENGTH
from airflow_detection.engine.run_log import run_logger

_log = run_logger("airflow_detection.engine")


def finite(value: object) -> float | None:
    """Return a real, finite number as float; None for anything else, truth values included."""
    if isinstance(value, bool) or not isinstance(value, (Real, Decimal)):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError, TypeError):
        return None
    return number if math.isfinite(number) else None


def clean_metrics(metrics: object, *, label: str, duration_ms: float, output_count: int) -> dict[str, float]:
    """Return the metrics that can be stored; cycle_duration_ms and output_count are added where missing.

    A None is left out; a value that is not a finite number, or whose key cannot be stored, is dropped with a
    warning.
    `label` names the version in the warnings.
    """
    kept: dict[str, float] = {}
    if not isinstance(metrics, Mapping):
        kind = type(metrics).__name__
        _log.warning("%s: metrics are of type %s: must be a mapping; all dropped", label, kind)
        metrics = {}
    for key, value in metrics.items():
        if value is None:
            continue
        reason = _unstorable_key_reason(key)
        number = finite(value)
        if reason is None and number is not None:
            kept[key] = number
        else:
            reason = reason or f"{value!r:.80} is not a finite number"
            _log.warning("%s: metric %.80r dropped: %s", label, key, reason)
    kept.setdefault("cycle_duration_ms", duration_ms)
    kept.setdefault("output_count", float(output_count))
    return kept


def profile(
    columns: Mapping[str, Iterable[Any]],  # Any: numbers, times or text, nulls
    since: datetime,
) -> tuple[FeatureProfile, ...]:
    """Profile each column; instants relative to `since`."""
    return tuple(FeatureProfile.of(str(name), column, since) for name, column in columns.items())


def _unstorable_key_reason(key: object) -> str | None:
    if not isinstance(key, str):
        return f"its key is of type {type(key).__name__}: must be text"
    if not 1 <= len(key) <= MAX_ID_LENGTH:
        return f"its key has {len(key)} characters: must be 1 to {MAX_ID_LENGTH}"
    if "\0" in key or (not key.isascii() and any("\ud800" <= c <= "\udfff" for c in key)):
        return "its key holds a character that cannot be stored"
    return None
