"""Fixes from before the window, read from the stored positions: what a model needs of what it saw earlier.

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

_CELLS_PER_DEGREE = 10


def last_fixes(ctx: ModelContext, since: datetime) -> Fixes:
    """The last usable fix of each vessel in [since, window start); none without a database."""
    return read_fixes(_query(ctx, "last_fixes", {"since": since}))


def thinned_fixes(
    ctx: ModelContext, since: datetime, step_s: float, vessels: NDArray[np.int64] | None = None
) -> Fixes:
    """Usable fixes in [since, window start), thinned as `thinned` does; none without a database.

    `vessels` are the MMSI to read, all vessels if None.
    """
    params = {"since": since, "step_s": step_s}
    if vessels is None:
        return read_fixes(_query(ctx, "thinned_fixes_of_all", params))
    held = vessels[~is_reserved(vessels)].tolist()
    return read_fixes(_query(ctx, "thinned_fixes", {**params, "vessels": held}) if held else Inputs())


def times_before(
    ctx: ModelContext,
    fixes: Fixes,
    vessels: NDArray[np.int64],
    start_s: FloatArray,
    *,
    span_s: float,
    most: int,
) -> list[FloatArray]:
    """When each vessel was heard up to an instant of its own.

    Args:
        fixes: what is known already, in order of time or not; the database adds what is before the window.
        vessels, start_s: MMSI and instants (seconds since 1970 UTC), shape (n,).
        span_s: how far back from the instant, seconds.
        most: how many times at most, the last ones.
    Returns:
        For each vessel its different times in [start - span, start], ascending: n arrays.
    """
    params = {"vessels": vessels.tolist(), "starts": start_s.tolist(), "span_s": span_s, "most": most}
    stored = _query(ctx, "times_before", params) if len(vessels) else Inputs()
    place = np.array(stored.columns.get("place", ()), dtype=np.int64)
    seconds = np.array(stored.columns.get("observed_s", ()), dtype=np.float64)
    seconds = seconds[np.argsort(place, kind="stable")]
    edges = np.searchsorted(np.sort(place), np.arange(len(vessels) + 1))
    order = np.argsort(fixes.mmsi, kind="stable")
    first = np.searchsorted(fixes.mmsi[order], vessels, side="left")
    last = np.searchsorted(fixes.mmsi[order], vessels, side="right")
    found = []
    for k, start in enumerate(start_s.tolist()):
        near = fixes.observed_s[order[first[k] : last[k]]]
        near = near[(near >= start - span_s) & (near <= start)]
        found.append(np.unique(np.concatenate((seconds[edges[k] : edges[k + 1]], near)))[-most:])
    return found


def merged(*parts: Fixes) -> Fixes:
    """The usable fixes of all parts, in order of (MMSI, time, place), each once."""
    joined = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Fixes)}
    return in_time_order(Fixes(**joined))


def thinned(fixes: Fixes, step_s: float) -> Fixes:
    """Of time-ordered fixes, in each step the first of each vessel in each cell of 0.1 degrees, in order.

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


def _query(ctx: ModelContext, name: str, params: JsonMapping) -> Inputs:
    if ctx.database is None:
        return Inputs()
    statement = load_queries("maritime_history", "detection")[name]  # its schema is the connection's
    return ctx.database.query(statement.as_string(), params)
