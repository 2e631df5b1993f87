"""Properties of a cycle's inputs that its manifests record: digest, time of the newest row, profiles."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import compress
from typing import Any

import orjson

from airflow_detection.domain.inputs import Columns, Inputs
from airflow_detection.domain.reports import FeatureProfile
from airflow_detection.domain.specs import require_utc
from airflow_detection.errors import TerminalModelError

NEWEST_SHARE = 6
"""The newest sixth of the time that the rows span has its own profiles: two five-minute cycles of an hour."""

NEWEST = "new:"
"""Prefix of the name of a profile of the newest rows; a column, ROWS or STATES follows."""

ROWS, STATES = "*", "*state"
"""Names of the profiles of whole rows, and of rows without their time: how many are distinct."""


def with_profiles(inputs: Inputs, time_key: str | None) -> Inputs:
    """Return the inputs with `digest` (sha256 of columns), `newest_at` (UTC) and `newest` filled in.

    Args:
        time_key: the column that holds each row's time, as instants or seconds since 1970; nulls and NaN are
            left out. None where the cycle has no such column.

    Raises:
        TerminalModelError: there is no such column, or a value in it is not a time.
    """
    inputs = replace(inputs, digest=_digest(inputs))
    if time_key is None:
        return inputs
    if time_key not in inputs.columns:
        raise TerminalModelError(f"time_key {time_key!r} is not a column of the input query")
    inputs = replace(inputs, time_key=time_key, newest_at=None, newest=())
    if isinstance(inputs.columns, Columns):
        from airflow_detection.store.array_facts import with_newest  # numpy

        if (found := with_newest(inputs, time_key)) is not None:
            return found
    times = [value for value in inputs[time_key] if _is_known(value)]
    if not times:
        return inputs
    newest_at = instant(time_key, max(times))
    newest = tuple(_newest(inputs, time_key, times, newest_at))
    return replace(inputs, newest_at=newest_at, newest=newest)


def _digest(inputs: Inputs) -> str:
    """Return the sha256 of the columns: of their JSON, or of the arrays that they are kept as."""
    if isinstance(inputs.columns, Columns):
        return inputs.columns.digest()
    digest = hashlib.sha256()
    for name, column in inputs.columns.items():
        digest.update(_json([name, column]))
    return digest.hexdigest()


def _json(value: Any) -> bytes:  # Any: what the input query selects
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # a time of day with a zone
        option = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME
        return orjson.dumps(value, default=str, option=option)


def _is_known(value: Any) -> bool:  # Any: what the input query selects
    """Tell whether a value is neither null nor NaN."""
    return value is not None and bool(value == value)


def _newest(
    inputs: Inputs,
    time_key: str,
    times: Sequence[Any],  # Any: what the input query selects
    newest_at: datetime,
) -> Iterator[FeatureProfile]:
    """Profile each column of the newest rows, then the rows with and without their time."""
    try:
        since = max(times) - (max(times) - min(times)) / NEWEST_SHARE
    except TypeError:  # text that reads as seconds
        return
    is_new = [_is_known(value) and value >= since for value in inputs[time_key]]
    columns = {name: list(compress(column, is_new)) for name, column in inputs.columns.items()}
    for name, column in columns.items():
        profile = FeatureProfile.of(NEWEST + name, column, newest_at)
        yield replace(profile, mean=None, deviation=None) if name == time_key else profile
    for name, omitted in ((ROWS, None), (STATES, time_key)):
        kept = [column for key, column in columns.items() if key != omitted]
        yield FeatureProfile.of(NEWEST + name, zip(*kept, strict=True))


def instant(time_key: str, value: Any) -> datetime:  # Any: what the input query selects
    """Return a time of the column as an instant, UTC; TerminalModelError if it is none."""
    try:
        if isinstance(value, datetime):
            return require_utc(time_key, value)
        return datetime.fromtimestamp(float(value), UTC)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise TerminalModelError(
            f"time_key {time_key!r} holds {value!r}: must be instants with a time zone or seconds since 1970"
        ) from error
