"""What a run leaves beside its outputs: metrics that can be stored, and the profile of its features."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

from airflow_detection.domain.reports import FeatureProfile
from airflow_detection.domain.specs import MAX_ID_LENGTH
from airflow_detection.engine.run_log import run_logger

_log = run_logger("airflow_detection.engine")


def finite(value: object) -> float | None:
    """Return a real, finite number as float; None for anything else, truth values included."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError, TypeError):
        return None
    return number if math.isfinite(number) else None


def clean_metrics(metrics: object, *, label: str, duration_ms: float, output_count: int) -> dict[str, float]:
    """Return what can be stored, with cycle_duration_ms and output_count unless the model set them.

    A None is left out; what is no finite number, or has a key that does not fit, is dropped with a warning.
    `label` names the version in the warnings.
    """
    kept: dict[str, float] = {}
    if not isinstance(metrics, Mapping):
        _log.warning("%s: metrics are no mapping but %s; all dropped", label, type(metrics).__name__)
        metrics = {}
    for key, value in metrics.items():
        if value is None:
            continue
        fault = _key_fault(key)
        number = finite(value)
        if fault is None and number is not None:
            kept[key] = number
        else:
            _log.warning(
                "%s: metric %.80r dropped: %s", label, key, fault or f"{value!r:.80} is no finite number"
            )
    kept.setdefault("cycle_duration_ms", duration_ms)
    kept.setdefault("output_count", float(output_count))
    return kept


def _key_fault(key: object) -> str | None:
    if not isinstance(key, str):
        return f"its key is no text but {type(key).__name__}"
    if not 1 <= len(key) <= MAX_ID_LENGTH:
        return f"its key must have 1 to {MAX_ID_LENGTH} characters, not {len(key)}"
    if "\0" in key or (not key.isascii() and any("\ud800" <= c <= "\udfff" for c in key)):
        return "its key holds a character that cannot be stored"
    return None


def profile(
    columns: Mapping[str, Iterable[Any]],
) -> tuple[FeatureProfile, ...]:  # Any: numbers or text, nulls
    """Profile each column."""
    return tuple(FeatureProfile.of(str(name), column) for name, column in columns.items())
