"""Facts of a cycle's inputs that its manifests record: a digest, and how new the newest row is."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson

from airflow_detection.domain import Inputs, require_utc
from airflow_detection.errors import TerminalModelError


def with_facts(inputs: Inputs, time_key: str | None) -> Inputs:
    """The same inputs with `digest` (sha256 of their columns, in hex) and `newest_at` (UTC) filled in.

    Args:
        time_key: the column that holds each row's time, as instants or seconds since 1970; nulls are left
            out. None where the cycle has no such column.

    Raises:
        TerminalModelError: there is no such column, or it holds something that is no time.
    """
    digest = hashlib.sha256()
    for name, column in inputs.columns.items():
        digest.update(orjson.dumps([name, column], default=str, option=orjson.OPT_NON_STR_KEYS))
    return replace(inputs, digest=digest.hexdigest(), newest_at=_newest(inputs, time_key))


def _newest(inputs: Inputs, time_key: str | None) -> datetime | None:
    if time_key is None:
        return None
    if time_key not in inputs.columns:
        raise TerminalModelError(f"time_key {time_key!r} is no column of the input query")
    times = [value for value in inputs[time_key] if value is not None]
    return _instant(time_key, max(times)) if times else None


def _instant(time_key: str, value: Any) -> datetime:  # Any: what the input query selects
    try:
        if isinstance(value, datetime):
            return require_utc(time_key, value)
        return datetime.fromtimestamp(float(value), UTC)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise TerminalModelError(f"time_key {time_key!r} holds no time: {value!r}") from error
