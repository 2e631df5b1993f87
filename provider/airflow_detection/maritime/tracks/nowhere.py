"""Positions that are nowhere: where transmitters say they are that do not know, or are made to believe it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from airflow_detection.maritime.tracks.geo import EARTH_RADIUS_KM, FloatArray, arc_km, unit_vectors
from airflow_detection.maritime.tracks.history import merged
from airflow_detection.maritime.tracks.hops import is_impossible, pairs
from airflow_detection.maritime.tracks.mmsi import is_reserved

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_detection.maritime.tracks.fixes import Fixes
    from airflow_detection.maritime.tracks.steps import Steps

V_MAX_KN = 50.0
NEIGHBOURHOOD_DEG = 0.05
"""Degrees around latitude 0, longitude 0, which means no position unless a ship sailed there."""

CROWD, CROWD_KM = 5, 0.05
"""So many vessels within so many kilometres of one of them lie on top of each other."""

TOGETHER = 3
"""Vessels that jump to one point: as many are no clones, but receivers that are made to believe it."""
POINT_KM = 1.0
"""Kilometres from the middle of a point to which vessels jump together."""
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
    first = pairs(track)
    inside = is_at_origin(track)
    crosses = first[inside[first] != inside[first + 1]]
    sailed = track.mmsi[crosses[~is_impossible(track, crosses, V_MAX_KN)]]
    return is_there & ~np.isin(fixes.mmsi, sailed)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPoint:
    """Point to which several vessels jumped: degrees, their MMSI, and when (seconds since 1970 UTC)."""

    lat: float
    lon: float
    mmsis: tuple[int, ...]
    first_s: float
    last_s: float

    @classmethod
    def of(cls, fixes: Fixes) -> SharedPoint:
        """Return the point of fixes that lie at it, at least one."""
        return cls(
            lat=float(np.median(fixes.lat)),
            lon=float(np.median(fixes.lon)),
            mmsis=tuple(np.unique(fixes.mmsi).tolist()),
            first_s=float(fixes.observed_s.min()),
            last_s=float(fixes.observed_s.max()),
        )


def shared_points(fixes: Fixes, within_s: float = 3600.0) -> list[SharedPoint]:
    """Find the points to which at least three vessels jumped within some time, and so are not there.

    A jump is a hop that no ship can sail. Vessels that come home from such a point jump, too, and lie no
    nearer to each other than before.

    Args:
        fixes: usable fixes in order of (MMSI, time).
        within_s: seconds between the first and the last of them.
    """
    first = pairs(fixes)
    jumps = first[is_impossible(fixes, first, V_MAX_KN)]
    if len(np.unique(fixes.mmsi[jumps])) < TOGETHER:
        return []
    origins, landings = fixes.take(jumps), fixes.take(jumps + 1)
    start, end = (unit_vectors(f.lat, f.lon) for f in (origins, landings))
    points: list[SharedPoint] = []
    left = np.argsort(landings.observed_s, kind="stable")
    while len(left):
        near = _near(end, left, int(left[0]))
        near = near[landings.observed_s[near] - landings.observed_s[left[0]] <= within_s]
        mmsis, one_each = np.unique(landings.mmsi[near], return_index=True)
        members = near[one_each]
        if len(mmsis) >= TOGETHER and _spread(end[members]) <= NEARER * _spread(start[members]):
            points.append(SharedPoint.of(landings.take(near)))
            left = left[~np.isin(left, near)]
        else:
            left = left[1:]
    return points


def crowds(fixes: Fixes) -> list[SharedPoint]:
    """Find the points at which five vessels or more lie within 50 m by their last fixes.

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
    return points


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
        is_there[own[km <= 2 * POINT_KM]] = True
    return is_there


def without_nowhere(fixes: Fixes) -> Fixes:
    """Leave out the fixes that are nowhere: around latitude 0, longitude 0, or at a shared point.

    Canaries are no company for each other: each stands for one vessel.
    """
    fixes = fixes.take(~is_nowhere(fixes))
    points = shared_points(fixes.take(~is_reserved(fixes.mmsi)))
    return fixes.take(~is_at_shared_point(fixes, points)) if points else fixes


def _near(places: FloatArray, rows: NDArray[np.int64], row: int) -> NDArray[np.int64]:
    return rows[_km(places[rows], places[row]) <= POINT_KM]


def _km(places: FloatArray, place: FloatArray) -> FloatArray:
    return arc_km(np.linalg.norm(places - place, axis=1))


def _spread(places: FloatArray) -> float:
    """Return the median distance from the middle, kilometres."""
    middle = np.median(places, axis=0)
    return float(np.median(np.linalg.norm(places - middle, axis=1))) * EARTH_RADIUS_KM
