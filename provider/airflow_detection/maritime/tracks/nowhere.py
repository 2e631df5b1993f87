"""Positions that are nowhere: where transmitters say they are that do not know, or are made to believe it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from airflow_detection.maritime.tracks.coast import offshore_km
from airflow_detection.maritime.tracks.geo import EARTH_RADIUS_KM, FloatArray, arc_km, unit_vectors
from airflow_detection.maritime.tracks.history import merged
from airflow_detection.maritime.tracks.hops import Hops, hops, is_impossible
from airflow_detection.maritime.tracks.mmsi import is_reserved

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_detection.maritime.tracks.fixes import Fixes
    from airflow_detection.maritime.tracks.steps import Steps

V_MAX_KN = 50.0
NEIGHBOURHOOD_DEG = 0.05
"""Degrees around latitude 0, longitude 0, which means no position unless a ship sailed there."""

CROWD, CROWD_KM, CROWD_OFFSHORE_KM = 5, 0.05, 10.0
"""So many vessels within so many kilometres of one of them lie on top of each other."""

TOGETHER, POINT_KM = 3, 1.0
"""Vessels that jump to one point, kilometres across: no clones, but receivers that are made to believe it."""
MANY, RING_KM = 5, 8.0
"""As many that jump to places around one point: a ring, on which each has a place of its own."""
CELLS_PER_DEGREE = 50
NEARER = 0.5
"""Share of the distance at which they were before: those that come home together are not nearer there."""


def is_at_origin(fixes: Fixes) -> NDArray[np.bool_]:
    """Tell which fixes lie around latitude 0, longitude 0."""
    return (np.abs(fixes.lat) <= NEIGHBOURHOOD_DEG) & (np.abs(fixes.lon) <= NEIGHBOURHOOD_DEG)


def is_nowhere(fixes: Fixes, before: Fixes | None = None) -> NDArray[np.bool_]:
    """Tell which fixes lie around latitude 0, longitude 0, of vessels that did not sail there.

    Args:
        fixes: usable fixes in order of (MMSI, time), shape (n,).
        before: earlier fixes of the same vessels, in any order.
    """
    is_there = is_at_origin(fixes)
    if not is_there.any():
        return is_there
    suspects = np.unique(fixes.mmsi[is_there])
    own = fixes.take(np.isin(fixes.mmsi, suspects))
    track = own if before is None else merged(before.take(np.isin(before.mmsi, suspects)), own)
    inside = is_at_origin(track)
    crosses = hops(track)
    crosses = crosses.take(inside[crosses.first] != inside[crosses.second])
    sailed = track.mmsi[crosses.first[~is_impossible(track, crosses, V_MAX_KN)]]
    return is_there & ~np.isin(fixes.mmsi, sailed)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPoint:
    """Point to which several vessels jumped: degrees, their MMSI, and when (seconds since 1970 UTC).

    They landed within `reach_km`.
    """

    lat: float
    lon: float
    mmsis: tuple[int, ...]
    first_s: float
    last_s: float
    reach_km: float

    @classmethod
    def of(cls, fixes: Fixes) -> SharedPoint:
        """Return the point of fixes that lie at it, at least one."""
        middle = np.median(unit_vectors(fixes.lat, fixes.lon), axis=0)
        x, y, z = (middle / np.linalg.norm(middle)).tolist()
        km = _km(unit_vectors(fixes.lat, fixes.lon), np.array((x, y, z)))
        return cls(
            reach_km=max(float(km.max()), POINT_KM),
            lat=math.degrees(math.asin(z)),
            lon=math.degrees(math.atan2(y, x)),
            mmsis=tuple(np.unique(fixes.mmsi).tolist()),
            first_s=float(fixes.observed_s.min()),
            last_s=float(fixes.observed_s.max()),
        )


def shared_points(fixes: Fixes, within_s: float = 3600.0, since_s: float = -math.inf) -> list[SharedPoint]:
    """Find the points to which several vessels jumped within some time, and so are not there.

    A jump is a hop that no ship can sail. Vessels that come home from such a point jump, too: to where each
    was at first, and no nearer to each other than before.

    Args:
        fixes: usable fixes in order of (MMSI, time); the earlier they begin, the better home is known.
        within_s: seconds between the first and the last of them.
        since_s: the jumps from when on count, seconds since 1970 UTC.
    """
    jumps = hops(fixes)
    jumps = jumps.take(fixes.observed_s[jumps.second] >= since_s)
    jumps = jumps.take(is_impossible(fixes, jumps, V_MAX_KN))
    jumps = _once(fixes, jumps)
    if len(np.unique(fixes.mmsi[jumps.first])) < TOGETHER:
        return []
    origins, landings = fixes.take(jumps.first), fixes.take(jumps.second)
    start, end = (unit_vectors(f.lat, f.lon) for f in (origins, landings))
    at_first = fixes.take(np.searchsorted(fixes.mmsi, landings.mmsi))
    home = unit_vectors(at_first.lat, at_first.lon)
    is_away = np.linalg.norm(end - home, axis=1) > np.linalg.norm(start - home, axis=1)

    def is_together(members: NDArray[np.int64], reach_km: float) -> bool:
        is_nearer = _spread(end[members]) <= NEARER * _spread(start[members])
        return is_nearer or (reach_km > POINT_KM and bool(is_away[members].all()))

    points: list[SharedPoint] = []
    left = np.argsort(landings.observed_s, kind="stable")
    for least, reach_km in ((MANY, RING_KM), (TOGETHER, POINT_KM)):
        waiting = left
        while len(waiting):
            near = _near(end, waiting, int(waiting[0]), reach_km)
            near = near[landings.observed_s[near] - landings.observed_s[waiting[0]] <= within_s]
            _, one_each = np.unique(landings.mmsi[near], return_index=True)
            if len(one_each) >= least and is_together(near[one_each], reach_km):
                points.append(SharedPoint.of(landings.take(near)))
                left, waiting = left[~np.isin(left, near)], waiting[~np.isin(waiting, near)]
            else:
                waiting = waiting[1:]
    return points


def _once(fixes: Fixes, jumps: Hops) -> Hops:
    """Leave out what jumps to one place again within the hour: a clone may do so thousands of times."""
    landings = fixes.take(jumps.second)
    place = np.floor(np.column_stack((landings.lat, landings.lon)) * CELLS_PER_DEGREE)
    keys = np.column_stack((landings.mmsi, landings.observed_s // 3600, place)).astype(np.int64)
    return jumps.take(np.sort(np.unique(keys, axis=0, return_index=True)[1]))


def jumping(fixes: Fixes) -> NDArray[np.int64]:
    """Return the vessels with a hop that no ship can sail, of fixes in order of (MMSI, time)."""
    own = hops(fixes)
    return np.unique(fixes.mmsi[own.first[is_impossible(fixes, own, V_MAX_KN)]])


def crowds(fixes: Fixes) -> list[SharedPoint]:
    """Find the points at which five vessels or more lie within 50 m by their last fixes, 10 km offshore.

    Nearer to the shore boats lie side by side in a harbour.

    Args:
        fixes: usable fixes in order of (MMSI, time).
    """
    from scipy.spatial import cKDTree

    last = fixes.take(np.append(fixes.mmsi[1:] != fixes.mmsi[:-1], True)[: len(fixes)])
    if len(last) < CROWD:
        return []
    tree = cKDTree(unit_vectors(last.lat, last.lon))
    reach = CROWD_KM / EARTH_RADIUS_KM
    counts = np.bincount(tree.query_pairs(reach, output_type="ndarray").ravel(), minlength=len(last)) + 1
    points, taken = [], np.zeros(len(last), dtype=np.bool_)
    for row in np.argsort(-counts, kind="stable").tolist():
        if counts[row] < CROWD:
            break
        if not taken[row]:
            members = np.array(tree.query_ball_point(tree.data[row], reach), dtype=np.int64)
            taken[members] = True
            points.append(SharedPoint.of(last.take(np.sort(members))))
    lat, lon = (np.array([getattr(point, name) for point in points]) for name in ("lat", "lon"))
    far = offshore_km(lat, lon) >= CROWD_OFFSHORE_KM
    return [point for point, is_far in zip(points, far.tolist(), strict=True) if is_far]


def is_crowd(steps: Steps) -> NDArray[np.bool_]:
    """Tell at which steps so many vessels are at one point that none of them can be: five within 50 m."""
    from scipy.spatial import cKDTree

    crowded = np.zeros(len(steps), dtype=np.bool_)
    if len(np.unique(steps.mmsi)) < CROWD:
        return crowded
    # steps are at least 1 apart in the fourth dimension, and so never neighbours of each other
    places = np.column_stack((steps.point, steps.step - steps.step.min()))
    near = cKDTree(places).query_pairs(CROWD_KM / EARTH_RADIUS_KM, output_type="ndarray")
    near = near[steps.mmsi[near[:, 0]] != steps.mmsi[near[:, 1]]]
    return np.asarray(np.bincount(near.ravel(), minlength=len(steps)) >= CROWD - 1)


def is_at_shared_point(fixes: Fixes, points: list[SharedPoint]) -> NDArray[np.bool_]:
    """Tell which fixes are of a vessel that jumped to a shared point, and lie there."""
    is_there = np.zeros(len(fixes), dtype=np.bool_)
    for point in points:
        own = np.flatnonzero(np.isin(fixes.mmsi, point.mmsis))
        place = unit_vectors(np.array([point.lat]), np.array([point.lon]))[0]
        km = _km(unit_vectors(fixes.lat[own], fixes.lon[own]), place)
        is_there[own[km <= 2 * point.reach_km]] = True
    return is_there


def without_nowhere(fixes: Fixes) -> Fixes:
    """Leave out the fixes that are nowhere: around latitude 0, longitude 0, or at a shared point.

    Canaries are no company for each other: each stands for one vessel.
    """
    fixes = fixes.take(~is_nowhere(fixes))
    points = shared_points(fixes.take(~is_reserved(fixes.mmsi)))
    return fixes.take(~is_at_shared_point(fixes, points)) if points else fixes


def _near(places: FloatArray, rows: NDArray[np.int64], row: int, reach_km: float) -> NDArray[np.int64]:
    return rows[_km(places[rows], places[row]) <= reach_km]


def _km(places: FloatArray, place: FloatArray) -> FloatArray:
    return arc_km(np.linalg.norm(places - place, axis=1))


def _spread(places: FloatArray) -> float:
    """Return the median distance from the middle, kilometres."""
    middle = np.median(places, axis=0)
    return float(np.median(np.linalg.norm(places - middle, axis=1))) * EARTH_RADIUS_KM
