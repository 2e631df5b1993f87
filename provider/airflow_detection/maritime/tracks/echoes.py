"""Fixes that say again where their vessel was, and are no second transmitter.

A receiver with a wrong clock or time zone reports a vessel's own track late; a decoder that loses a sign, or
swaps two columns, reports its image elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from airflow_detection.maritime.tracks.geo import (
    EARTH_RADIUS_KM,
    KM_PER_NM,
    FloatArray,
    arc_km,
    speed_kn,
    unit_vectors,
)
from airflow_detection.maritime.tracks.history import merged
from airflow_detection.maritime.tracks.hops import NOISE_KM, REPORTED_FACTOR, hops
from airflow_detection.maritime.tracks.separation import SAME_PLACE_KM, separate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_detection.maritime.tracks.fixes import Fixes

MAX_LAG_H = 12.0
"""Hours by which a clock may be wrong: no time zone is further from UTC by much."""
LAG_STEP_S = 30.0
"""Seconds between the lags that are tried."""
MIN_SHARE = 0.9
"""Share of the fixes of which the place is known that must lie on the vessel's own track."""
UNDER_WAY_S, UNDER_WAY_KM, UNDER_WAY_KN = 600.0, 2.0, 3.0
"""A track tells the time where it leads so many kilometres in the twenty minutes around an instant."""
POLAR_DEG = 89.5
MARGIN_KN = 5.0
"""Knots that a current or a rounded speed may add to the speed reported."""
MAX_TRACKS, MAX_TRIED, MAX_GAP_S = 8, 40, 3600.0
BOX = 2.0 / EARTH_RADIUS_KM
"""Radians around a course beyond which no point lies on it."""


@dataclass(frozen=True, slots=True)
class _Course:
    """Where a track was between fixes at most an hour apart: seconds since 1970, unit vectors."""

    seconds: FloatArray
    points: FloatArray

    @classmethod
    def of(cls, fixes: Fixes) -> _Course:
        return cls(fixes.observed_s, unit_vectors(fixes.lat, fixes.lon))

    def passes_near(self, points: FloatArray) -> bool:
        """Tell whether one of the points may lie on the course: within the box around all of it."""
        low, high = self.points.min(axis=0) - BOX, self.points.max(axis=0) + BOX
        return bool(((points >= low) & (points <= high)).all(axis=1).any())

    def at(self, seconds: FloatArray) -> FloatArray:
        """Return the points at some instants, with an axis of three behind; NaN where none is known."""
        after = np.clip(np.searchsorted(self.seconds, seconds, side="right"), 1, len(self.seconds) - 1)
        span = np.maximum(self.seconds[after] - self.seconds[after - 1], 1.0)
        share = (seconds - self.seconds[after - 1]) / span
        is_known = (share >= 0) & (share <= 1) & (span <= MAX_GAP_S)
        share = np.where(is_known, share, np.nan)[..., None]
        point = self.points[after - 1] * (1 - share) + self.points[after] * share
        return np.asarray(point / np.linalg.norm(point, axis=-1, keepdims=True))


def echoes(
    fixes: Fixes, v_max_kn: float, since_s: float = -math.inf
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which fixes repeat the longest track of their vessel late, and which are an image of it.

    Args:
        fixes: in order of (MMSI, time), of few vessels, from as long ago as a clock may be wrong.
        v_max_kn: the speed that no ship exceeds, knots.
        since_s: the fixes from when on are judged, seconds since 1970 UTC.
    """
    is_late, is_image = np.zeros((2, len(fixes)), dtype=np.bool_)
    for longest, others in _tracks(fixes, v_max_kn, since_s):
        course = _Course.of(fixes.take(longest))
        for rows in others:
            own = fixes.take(rows)
            if _is_image(own, course):
                is_image[rows] = True
            elif _is_late(own, course):
                is_late[rows] = True
    return is_late, is_image


def may_be_late(fixes: Fixes, v_max_kn: float) -> NDArray[np.int64]:
    """Return the vessels (MMSI) that jump no further than they may have sailed since a late clock's time.

    `fixes` are in order of (MMSI, time).
    """
    own = hops(fixes)
    km = own.km(fixes)
    is_jump = (km >= SAME_PLACE_KM) & (speed_kn(km, own.seconds(fixes)) > v_max_kn)
    vessels, group = np.unique(fixes.mmsi, return_inverse=True)
    fastest = np.full(len(vessels), np.nan)
    np.fmax.at(fastest, group, fixes.sog_kn)
    fastest = np.where(np.isnan(fastest), v_max_kn, REPORTED_FACTOR * fastest)[group[own.first]]
    is_jump &= (fastest >= UNDER_WAY_KN) & (km <= fastest * KM_PER_NM * MAX_LAG_H)
    return np.unique(fixes.mmsi[own.first[is_jump]])


def without(fixes: Fixes, left_out: Fixes) -> Fixes:
    """Return the fixes without those of the same vessel, time and place."""
    if not len(left_out):
        return fixes
    return fixes.take(~np.isin(_keys(fixes), _keys(left_out)))


def late_fixes(fixes: Fixes, before: Fixes, v_max_kn: float, *, with_images: bool = False) -> Fixes:
    """Return the fixes that repeat their vessel's own track; `before` are earlier ones of the same vessels.

    Those that are an image of it are positions that are wrong, and count only `with_images`.
    """
    own = merged(before, fixes)
    is_late, is_image = echoes(own, v_max_kn, float(fixes.observed_s.min(initial=math.inf)))
    return own.take(is_late | is_image if with_images else is_late)


def _keys(fixes: Fixes) -> NDArray[np.void]:
    columns = np.column_stack((fixes.mmsi.astype(np.float64), fixes.observed_s, fixes.lat, fixes.lon))
    return np.ascontiguousarray(columns + 0.0).view([("", np.float64)] * 4).ravel()


def _tracks(
    fixes: Fixes, v_max_kn: float, since_s: float
) -> Iterator[tuple[NDArray[np.int64], list[NDArray[np.int64]]]]:
    """Iterate over vessels with several tracks: all rows of the longest, those since then of the others."""
    for vessel in np.unique(fixes.mmsi).tolist():
        own = np.flatnonzero(fixes.mmsi == vessel)
        tracks = separate(fixes.take(own), v_max_kn=min(_fastest_kn(fixes.sog_kn[own]), v_max_kn))
        is_late = fixes.observed_s[own] >= since_s
        first, *others = np.argsort(-np.bincount(tracks[is_late], minlength=1), kind="stable").tolist()
        longest = own[tracks == first]
        late = [own[is_late & (tracks == number)] for number in others[:MAX_TRACKS]]
        if len(longest) > 1:
            yield longest, [rows for rows in late if len(rows)]


def _fastest_kn(reported: FloatArray) -> float:
    """Return a speed that a ship does not exceed by what it reports: a lag may be that of minutes."""
    known = reported[~np.isnan(reported)]
    return REPORTED_FACTOR * float(known.max()) + MARGIN_KN if len(known) else math.inf


def _is_image(fixes: Fixes, course: _Course) -> bool:
    """Tell whether fixes lie on a course once a sign that was lost, or two columns, are put right.

    Not around a pole, where the longitude says nothing: there all images are near each other.
    """
    if np.abs(fixes.lat).max() > POLAR_DEG:
        return False
    here = course.at(fixes.observed_s)
    lat, lon = fixes.lat, fixes.lon
    images = [(-lat, lon), (lat, -lon), (-lat, -lon)]
    if np.abs(lon).max() <= 90:
        images.append((lon, lat))
    return any(_lies_on(here, unit_vectors(*image), SAME_PLACE_KM) for image in images)


def _lies_on(course: FloatArray, points: FloatArray, within_km: float) -> bool:
    km = arc_km(np.linalg.norm(course - points, axis=-1))
    known = km[~np.isnan(km)]
    return bool(len(known)) and float(np.mean(known <= within_km)) >= MIN_SHARE


def _is_late(fixes: Fixes, course: _Course) -> bool:
    """Tell whether fixes follow a course by one lag: all of them, where they are known to be under way."""
    tried = np.unique(np.linspace(0, len(fixes) - 1, MAX_TRIED).astype(np.int64))
    seconds, points = fixes.observed_s[tried], unit_vectors(fixes.lat[tried], fixes.lon[tried])
    anchors = [0, len(tried) // 2, len(tried) - 1]
    if not course.passes_near(points[anchors]):
        return False
    lags = np.arange(LAG_STEP_S, MAX_LAG_H * 3600.0 + LAG_STEP_S, LAG_STEP_S)
    lags = np.append(-lags[::-1], lags)
    is_likely = np.zeros(len(lags), dtype=np.bool_)
    for row in anchors:
        at = seconds[row] - lags
        is_near = arc_km(np.linalg.norm(course.at(at) - points[row], axis=-1)) <= 2 * NOISE_KM
        is_likely[is_near] |= _sailed_km(course, at[is_near]) >= UNDER_WAY_KM
    lags = lags[is_likely]
    if not len(lags):
        return False
    at = seconds[None, :] - lags[:, None]
    km = arc_km(np.linalg.norm(course.at(at) - points, axis=-1))
    is_known = ~np.isnan(km)
    is_on = is_known & (km <= NOISE_KM + _sailed_km(course, at) * LAG_STEP_S / 2 / (2 * UNDER_WAY_S))
    return bool((is_on.any(axis=1) & (is_on.sum(axis=1) >= MIN_SHARE * is_known.sum(axis=1))).any())


def _sailed_km(course: _Course, at: FloatArray) -> FloatArray:
    """Return how far a course leads around some instants, kilometres; 0 where that is not known."""
    ends = course.at(at - UNDER_WAY_S), course.at(at + UNDER_WAY_S)
    return np.asarray(np.nan_to_num(arc_km(np.linalg.norm(ends[1] - ends[0], axis=-1))))
