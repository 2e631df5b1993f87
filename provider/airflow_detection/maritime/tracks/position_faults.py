"""Positions that do not follow the ship: one that is frozen while a speed is reported, and circles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from airflow_detection.maritime.tracks.geo import EARTH_RADIUS_KM, FloatArray
from airflow_detection.maritime.tracks.hops import Hops, hops

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from airflow_detection.maritime.tracks.fixes import Fixes

SAME_KM, STILL_KM = 0.002, 0.005
"""Kilometres from fix to fix, and in all, of one that is frozen."""
MIN_FROZEN_S, MIN_FROZEN_FIXES, UNDER_WAY_KN = 300.0, 4, 3.0
MIN_CIRCLE_FIXES, MIN_TURNS, MIN_STEADINESS = 12, 2.0, 0.95
RADIUS_KM, MAX_DEVIATION = (0.05, 2.0), 0.15
"""Kilometres from the middle, and by what share of it the distances may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """Turns around one middle, degrees; the radius is in kilometres."""

    turns: float
    radius_km: float
    lat: float
    lon: float


def frozen_s(fixes: Fixes) -> Mapping[int, float]:
    """Return for how long each vessel said one position and a speed, seconds, by MMSI: the longest time.

    Below five minutes there is none: two receivers may hear one report. `fixes` are in order of (MMSI, time).
    """
    own = hops(fixes)
    is_same = np.zeros(len(fixes), dtype=np.bool_)  # as the fix before
    is_same[own.second] = own.km(fixes) <= SAME_KM
    is_same &= fixes.sog_kn >= UNDER_WAY_KN
    edges = np.flatnonzero(np.diff(np.append(is_same, False).astype(np.int8), prepend=0))
    longest: dict[int, float] = {}
    for begin, end in edges.reshape(-1, 2).tolist():
        whole = Hops(np.array([begin - 1]), np.array([end - 1]))
        seconds = float(whole.seconds(fixes)[0])
        is_long = seconds >= MIN_FROZEN_S and end - begin >= MIN_FROZEN_FIXES - 1
        if is_long and whole.km(fixes)[0] <= STILL_KM:
            mmsi = int(fixes.mmsi[begin])
            longest[mmsi] = max(longest.get(mmsi, 0.0), seconds)
    return longest


def circles(fixes: Fixes) -> Mapping[int, Circle]:
    """Find the vessels that go round one middle twice or more, at one distance: in all, or in the last half.

    `fixes` are in order of (MMSI, time).
    """
    found: dict[int, Circle] = {}
    if not len(fixes):
        return found
    _, start, count = np.unique(fixes.mmsi, return_index=True, return_counts=True)
    sailed = np.zeros(len(fixes))  # from each fix to the next
    own = hops(fixes)
    sailed[own.first] = own.km(fixes)
    for first in (start, start + count // 2):
        end = start + count
        edges = np.column_stack((first, end)).ravel()[:-1]
        highest, lowest = np.maximum.reduceat(fixes.lat, edges), np.minimum.reduceat(fixes.lat, edges)
        tall = (highest - lowest)[::2] * math.radians(1) * EARTH_RADIUS_KM  # cheap tests before the fit
        is_far = np.add.reduceat(sailed, edges)[::2] >= MIN_TURNS * 2.0 * tall
        is_near = (
            is_far & (tall >= RADIUS_KM[0]) & (tall <= 2.5 * RADIUS_KM[1]) & (end - first >= MIN_CIRCLE_FIXES)
        )
        for begin, stop in zip(first[is_near].tolist(), end[is_near].tolist(), strict=True):
            circle = _circle(fixes.lat[begin:stop], fixes.lon[begin:stop])
            if circle is not None:
                found.setdefault(int(fixes.mmsi[begin]), circle)
    return found


def _circle(lat: FloatArray, lon: FloatArray) -> Circle | None:
    """Fit a circle by least squares (Kasa); None where there is none."""
    middle_lat, east = float(lat.mean()), (lon - lon[0] + 180) % 360 - 180
    km = math.radians(1) * EARTH_RADIUS_KM
    wide = math.cos(math.radians(middle_lat)) * km
    if wide <= 0:
        return None
    x, y = (east - east.mean()) * wide, (lat - middle_lat) * km
    design = np.column_stack((2 * x, 2 * y, np.ones(len(x))))
    (a, b, c), *_ = np.linalg.lstsq(design, x**2 + y**2, rcond=None)
    radius = math.sqrt(max(c + a**2 + b**2, 0.0))
    if not RADIUS_KM[0] <= radius <= RADIUS_KM[1]:
        return None
    distance = np.hypot(x - a, y - b)
    turned = np.diff(np.arctan2(y - b, x - a))
    turned = (turned + math.pi) % (2 * math.pi) - math.pi
    turns = float(turned.sum()) / (2 * math.pi)
    is_round = bool(np.abs(distance - radius).max() <= MAX_DEVIATION * radius)
    is_steady = abs(turned.sum()) >= MIN_STEADINESS * np.abs(turned).sum()
    if not (is_round and is_steady and abs(turns) >= MIN_TURNS):
        return None
    lon_middle = (float(lon[0]) + float(east.mean()) + a / wide + 180) % 360 - 180
    return Circle(turns=abs(turns), radius_km=radius, lat=middle_lat + b / km, lon=lon_middle)


def fault_scores(
    vessels: NDArray[np.int64], frozen: Mapping[int, float], circling: Mapping[int, Circle]
) -> FloatArray:
    """Score faults, shape (n,): 0 without one, above 0.5 with one, at most 0.85."""
    minutes = np.array([frozen.get(mmsi, 0.0) / 60 for mmsi in vessels.tolist()])
    turns = np.array([circling[mmsi].turns if mmsi in circling else 0.0 for mmsi in vessels.tolist()])
    clear = np.fmax(np.clip(minutes / 60, 0, 1), np.clip(turns / 6, 0, 1))
    return np.asarray(np.where(clear > 0, 0.5 + 0.35 * clear, 0.0))
