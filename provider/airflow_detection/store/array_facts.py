"""Profiles of the newest rows of columns that are kept as arrays; as `input_facts` makes them of values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.reports import FeatureProfile
from airflow_detection.store.columns import AnyArray, ArrayColumn, ArrayColumns, Values
from airflow_detection.store.input_facts import NEWEST, NEWEST_SHARE, ROWS, STATES, instant

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


def with_newest(inputs: Inputs, time_key: str) -> Inputs | None:
    """Return the inputs with `newest_at` and `newest`; None where no array holds their times."""
    columns = inputs.columns
    if not isinstance(columns, ArrayColumns):
        return None
    column = columns.columns[time_key]
    if column.kind not in "ifM" or column.data.dtype.itemsize != 8:
        return None
    known = column.known()
    known = known[known == known]
    if not len(known):
        return inputs
    # values, as the driver gives them: a sixth of their difference is rounded as theirs is
    oldest, latest = ArrayColumn(data=np.array([known.min(), known.max()])).values()
    newest_at = instant(time_key, latest)
    since = latest - (latest - oldest) / NEWEST_SHARE
    rows = iter((ROWS, STATES))
    newest = []
    for name, profile in _newest_profiles(columns, time_key, since, newest_at):
        named = replace(profile, name=NEWEST + (next(rows) if name is None else name))
        newest.append(replace(named, mean=None, deviation=None) if name == time_key else named)
    return replace(inputs, newest_at=newest_at, newest=tuple(newest))


def _newest_profiles(
    columns: ArrayColumns,
    time_key: str,
    since: Any,
    newest_at: datetime,  # Any: a time, as the column has it
) -> Iterator[tuple[str | None, FeatureProfile]]:
    """Yield, of the rows from `since` on, the profile of each column, of whole rows and of rows without time.

    Before each the name of its column; the last two are of None.
    """
    times = columns.columns[time_key]
    if times.kind == "M":
        since = np.datetime64(since.replace(tzinfo=None), "us")
    with np.errstate(invalid="ignore"):
        is_new = times.data >= since
    if times.is_null is not None:
        is_new &= ~times.is_null
    newest = {name: _taken(columns, name, is_new) for name in columns}
    for name, column in newest.items():
        yield name, _profile(column, newest_at)
    count = int(is_new.sum())
    for omitted in (None, time_key):
        kept = {name: column for name, column in newest.items() if name != omitted}
        distinct = _distinct_rows(kept, count) if kept else 0
        number = count if kept else 0
        yield None, FeatureProfile(name="", count=number, null_count=0, distinct_count=distinct)


def _taken(columns: ArrayColumns, name: str, is_new: NDArray[np.bool_]) -> ArrayColumn | Values:
    column = columns.columns[name]
    taken = column.take(is_new)
    return taken.values() if column.kind == "O" else taken


def _profile(column: ArrayColumn | Values, newest_at: datetime) -> FeatureProfile:
    if isinstance(column, tuple):
        return FeatureProfile.of("", column, newest_at)
    known = column.known()
    known = known[known == known]
    distinct = len(np.unique(known))
    numbers: AnyArray = np.empty(0)
    if column.kind == "M":
        origin = np.datetime64(newest_at.replace(tzinfo=None), "us")
        numbers = (known - origin).astype(np.int64) / 1e6 if distinct > 1 else numbers
    elif column.kind in "if":
        numbers = known[np.isfinite(known)].astype(np.float64)
    profile = FeatureProfile(
        name="", count=len(column), null_count=len(column) - len(known), distinct_count=distinct
    )
    if not len(numbers):
        return profile
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(numbers.mean()), float(numbers.std())
    is_known = math.isfinite(mean) and math.isfinite(deviation)
    return replace(profile, mean=mean, deviation=deviation) if is_known else profile


def _distinct_rows(columns: Mapping[str, ArrayColumn | Values], count: int) -> int:
    """Count the rows that differ, by a hash of 64 bits; one with NaN differs from every other."""
    hashes, is_nan = np.zeros(count, dtype=np.uint64), np.zeros(count, dtype=np.bool_)
    for column in columns.values():
        codes, nans = _codes(column)
        is_nan |= nans
        hashes = (hashes ^ codes) * _MULTIPLIER
        hashes ^= hashes >> _SHIFT
        hashes *= _MULTIPLIER
    return len(np.unique(hashes[~is_nan])) + int(is_nan.sum())


def _codes(column: ArrayColumn | Values) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Return a number for each value, the same for the same values, and which are NaN."""
    if isinstance(column, tuple):
        numbers: dict[Any, int] = {}  # Any: values
        try:
            found = [numbers.setdefault(value, len(numbers)) for value in column]
        except TypeError:  # lists and mappings have no hash
            found = [numbers.setdefault(repr(value), len(numbers)) for value in column]
        nans = np.fromiter((value != value for value in column), dtype=np.bool_, count=len(column))
        return np.array(found, dtype=np.uint64), nans
    data = column.data + 0.0 if column.kind == "f" else column.data  # -0.0 is 0.0
    codes = data.astype(np.uint64) if column.kind == "b" else data.view(np.uint64)
    nans = column.data != column.data if column.kind == "f" else np.zeros(len(column), dtype=np.bool_)
    if column.is_null is None:
        return codes, nans
    codes = codes ^ (codes >> _SHIFT)  # a copy
    codes[column.is_null] = _MULTIPLIER
    return codes, nans & ~column.is_null
