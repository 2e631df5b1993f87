"""Fixes under one MMSI, separated into tracks that a ship can sail: two transmitters are two tracks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from airflow_detection.maritime.tracks.geo import (
    EARTH_RADIUS_KM,
    KM_PER_NM,
    FloatArray,
    haversine_km,
    unit_vectors,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_detection.maritime.tracks.fixes import Fixes

SAME_PLACE_KM = 1.0
"""Noise of position and clock: within it no hop is impossible, however short the time (as in `spoofing`)."""

MAX_FALSE = 3
"""Fixes of a track that may be false beside a much longer one."""

_MIN_DURATION_S = 1.0  # AIS times are whole seconds


def separate(fixes: Fixes, *, v_max_kn: float = 50.0) -> NDArray[np.int64]:
    """Number the physically possible track of each fix.

    Greedy, in order of time: a fix less than 1 km from the fix before it stays in that one's track; any other
    goes to the nearest track of its vessel from whose last fix it can be reached at `v_max_kn`, and begins a
    track of its own where there is none. A vessel without an impossible hop is one track.

    Args:
        fixes: usable fixes in order of (MMSI, time), as `in_time_order` gives them, shape (n,).
        v_max_kn: the speed that no ship exceeds, knots, > 0.
    Returns:
        Track numbers from 0 without a gap, shape (n,), unique over all vessels: in order of MMSI, then of
        each track's first fix.
    """
    n = len(fixes)
    if not n:
        return np.zeros(0, dtype=np.int64)
    km_per_s = v_max_kn * KM_PER_NM / 3600.0
    is_first = np.ones(n, dtype=np.bool_)
    is_first[1:] = fixes.mmsi[1:] != fixes.mmsi[:-1]
    km = np.zeros(n)
    km[1:] = haversine_km(fixes.lat[:-1], fixes.lon[:-1], fixes.lat[1:], fixes.lon[1:])
    reach_km = np.full(n, math.inf)
    reach_km[1:] = np.maximum(np.diff(fixes.observed_s), _MIN_DURATION_S) * km_per_s
    is_apart = (km >= SAME_PLACE_KM) & ~is_first
    is_impossible = is_apart & (km > reach_km)

    vessel = np.cumsum(is_first) - 1
    starts = np.append(np.flatnonzero(is_first), n)
    track = np.zeros(n, dtype=np.int64)  # within its vessel
    for v in np.unique(vessel[is_impossible]).tolist():
        part = slice(starts[v], starts[v + 1])
        track[part] = _separated(fixes.take(np.arange(n)[part]), is_apart[part], km_per_s)
    _, numbers = np.unique(vessel * (int(track.max()) + 1) + track, return_inverse=True)
    return np.asarray(numbers, dtype=np.int64)


def _separated(fixes: Fixes, is_apart: NDArray[np.bool_], km_per_s: float) -> NDArray[np.int64]:
    """Separate one vessel's fixes, shape (n,); a fix near the one before stays in its track."""
    n = len(fixes)
    heads = np.flatnonzero(is_apart)
    places = unit_vectors(fixes.lat, fixes.lon)
    seconds = fixes.observed_s
    track = np.zeros(n, dtype=np.int64)
    last = np.zeros(len(heads) + 1, dtype=np.int64)  # the last fix of each track
    ends = np.zeros((len(heads) + 1, 3))
    count, current = 1, 0
    for head, stop in zip(heads.tolist(), np.append(heads[1:], n).tolist(), strict=True):
        last[current], ends[current] = head - 1, places[head - 1]
        cosines = ends[:count] @ places[head]
        nearest = int(cosines.argmax())
        if not _is_reachable(cosines[nearest], seconds[head] - seconds[last[nearest]], km_per_s):
            nearest = _nearest_reachable(cosines, seconds[head] - seconds[last[:count]], km_per_s)
        current = nearest
        if current == count:
            count += 1
        track[head:stop] = current
    return track


def _is_reachable(cosine: float, duration_s: float, km_per_s: float) -> bool:
    km = EARTH_RADIUS_KM * math.acos(min(cosine, 1.0))
    return km < SAME_PLACE_KM or km <= max(duration_s, _MIN_DURATION_S) * km_per_s


def _nearest_reachable(cosines: FloatArray, duration_s: FloatArray, km_per_s: float) -> int:
    """Return the index of the nearest end from which a fix can be reached; one past the last without one."""
    km = EARTH_RADIUS_KM * np.arccos(np.clip(cosines, -1.0, 1.0))
    reachable = (km < SAME_PLACE_KM) | (km <= np.maximum(duration_s, _MIN_DURATION_S) * km_per_s)
    return int(np.where(reachable, km, math.inf).argmin()) if reachable.any() else len(cosines)


def without_lone_fixes(fixes: Fixes, *, v_max_kn: float = 50.0) -> Fixes:
    """Leave out false fixes: tracks of a single fix, or of up to three beside one that is four times as long.

    A vessel that has no longer track keeps all of its fixes. `fixes` are as in `separate`.
    """
    tracks = separate(fixes, v_max_kn=v_max_kn)
    if not len(fixes):
        return fixes
    count = np.bincount(tracks)[tracks]
    _, vessel = np.unique(fixes.mmsi, return_inverse=True)
    longest = np.zeros(int(vessel.max()) + 1, dtype=np.int64)
    np.maximum.at(longest, vessel, count)
    is_false = (count == 1) & (longest[vessel] > 1) | (count <= MAX_FALSE) & (longest[vessel] >= 4 * count)
    return fixes.take(~is_false)
