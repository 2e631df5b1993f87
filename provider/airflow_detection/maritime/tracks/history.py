"""Fixes from before the window, read from the stored positions.

No model reads its own earlier outputs. What lasts longer than a window is computed anew in each cycle, from
positions that had arrived when the cycle was opened: a cycle that is run again, or out of order, comes to the
same rows. Without a database there is no history, and the inputs alone count.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.maritime.tracks.fixes import Fixes, in_time_order, read_fixes
from airflow_detection.maritime.tracks.mmsi import is_reserved
from airflow_detection.store.queries import load_queries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_detection.engine.model import ModelContext
    from airflow_detection.maritime.tracks.geo import FloatArray

HISTORY_TABLES = ("ais_positions",)
_CELLS_PER_DEGREE = 10


def last_fixes(ctx: ModelContext, since: datetime, count: int = 1) -> Fixes:
    """Read the last usable fixes of each vessel in [since, window start); none without a database.

    `count` is how many at most of each.
    """
    return read_fixes(_query(ctx, "last_fixes", {"since": since, "count": count}))


def last_fixes_of(ctx: ModelContext, since: datetime, vessels: NDArray[np.int64], count: int) -> Fixes:
    """Read the last usable fixes of these vessels (MMSI), as `last_fixes`."""
    return read_fixes(_query_vessels(ctx, "last_fixes_of", vessels, {"since": since, "count": count}))


def thinned_fixes(
    ctx: ModelContext, since: datetime, step_s: float, vessels: NDArray[np.int64] | None = None
) -> Fixes:
    """Read the usable fixes in [since, window start), thinned as `thinned` does; none without a database.

    `vessels` are the MMSI to read, all vessels if None.
    """
    params = {"since": since, "step_s": step_s}
    if vessels is None:
        return read_fixes(_query(ctx, "thinned_fixes_of_all", params))
    return read_fixes(_query_vessels(ctx, "thinned_fixes", vessels, params))


def stored_fixes(ctx: ModelContext, since: datetime, vessels: NDArray[np.int64]) -> Inputs:
    """Read all fixes of these vessels (MMSI) in [since, window start), with the vessel's name.

    Returns:
        Columns `mmsi`, `observed_s`, `lat`, `lon`, `sog_kn`, `cog_deg`, `heading_deg` and `vessel_name`; no
        column without a database, nor where every MMSI is reserved.
    """
    return _query_vessels(ctx, "stored_fixes", vessels, {"since": since})


def times_before(
    ctx: ModelContext,
    fixes: Fixes,
    vessels: NDArray[np.int64],
    start_s: FloatArray,
    *,
    span_s: float,
    max_times: int,
) -> list[FloatArray]:
    """Return when each vessel was heard up to an instant of its own.

    Args:
        fixes: those of the inputs, in order of time or not; the database adds what is before the window.
        vessels, start_s: MMSI and instants (seconds since 1970 UTC), shape (n,).
        span_s: how far back from the instant, seconds.
        max_times: how many times at most, the last ones.
    Returns:
        For each vessel its different times in [start - span, start], ascending: n arrays.
    """
    params = {
        "vessels": vessels.tolist(),
        "starts": start_s.tolist(),
        "span_s": span_s,
        "max_times": max_times,
    }
    stored = _query(ctx, "times_before", params) if len(vessels) else Inputs()
    place = np.array(stored.columns.get("place", ()), dtype=np.int64)
    seconds = np.array(stored.columns.get("observed_s", ()), dtype=np.float64)
    seconds = seconds[np.argsort(place, kind="stable")]
    edges = np.searchsorted(np.sort(place), np.arange(len(vessels) + 1))
    order = np.argsort(fixes.mmsi, kind="stable")
    first = np.searchsorted(fixes.mmsi[order], vessels, side="left")
    last = np.searchsorted(fixes.mmsi[order], vessels, side="right")
    times = []
    for k, start in enumerate(start_s.tolist()):
        near = fixes.observed_s[order[first[k] : last[k]]]
        near = near[(near >= start - span_s) & (near <= start)]
        times.append(np.unique(np.concatenate((seconds[edges[k] : edges[k + 1]], near)))[-max_times:])
    return times


def merged(*parts: Fixes) -> Fixes:
    """Return the usable fixes of all parts, in order of (MMSI, time, place), each once."""
    return in_time_order(concatenated(*parts))


def concatenated(*parts: Fixes) -> Fixes:
    """Return the fixes of all parts, one part behind the other."""
    return Fixes(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Fixes)})


def thinned(fixes: Fixes, step_s: float) -> Fixes:
    """Keep, of time-ordered fixes, the first of each vessel in each step and cell of 0.1 degrees, in order.

    Steps are counted from 1970 and cells from 0 degrees, so that a fix is kept or not whatever the window.
    By cell, because two transmitters may share an MMSI.
    """
    keys = (
        np.floor(fixes.lon * _CELLS_PER_DEGREE),
        np.floor(fixes.lat * _CELLS_PER_DEGREE),
        np.floor(fixes.observed_s / step_s),
        fixes.mmsi,
    )
    order = np.lexsort(keys)  # stable: the first of equals stays first
    is_first = np.zeros(len(fixes), dtype=np.bool_)
    is_first[:1] = True
    for key in keys:
        is_first[1:] |= key[order][1:] != key[order][:-1]
    return fixes.take(np.sort(order[is_first]))


def _query_vessels(ctx: ModelContext, name: str, vessels: NDArray[np.int64], params: JsonMapping) -> Inputs:
    """Run a named statement for the vessels that are not reserved; no query where there is none."""
    real = vessels[~is_reserved(vessels)].tolist()
    return _query(ctx, name, {**params, "vessels": real}) if real else Inputs()


def _query(ctx: ModelContext, name: str, params: JsonMapping) -> Inputs:
    if ctx.database is None:
        return Inputs()
    statement = load_queries("maritime_history", "detection")[name]  # its schema is the connection's
    return ctx.database.query(statement.as_string(), params)
