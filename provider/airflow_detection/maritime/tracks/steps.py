"""Tracks on common time steps, so that ships can be compared at one instant; and stretches of steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from airflow_detection.maritime.tracks.geo import KM_PER_NM, FloatArray, arc_km, unit_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_detection.maritime.tracks.fixes import Fixes

MAX_BREAK_STEPS = 2
"""A stretch may be interrupted for so many steps: one false fix does not end it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Positions of tracks at steps, by (track, step), shape (n,); `point` is a unit vector, (n, 3).

    `step` counts steps since 1970 UTC: the same instants whatever the window. `in_gap` tells which steps lie
    between fixes that are far apart in time.
    """

    track: NDArray[np.int64]
    step: NDArray[np.int64]
    mmsi: NDArray[np.int64]
    point: FloatArray
    speed_kn: FloatArray
    in_gap: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.track)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Steps:
        """Return the steps at `index`, in its order."""
        return Steps(
            track=self.track[index],
            step=self.step[index],
            mmsi=self.mmsi[index],
            point=self.point[index],
            speed_kn=self.speed_kn[index],
            in_gap=self.in_gap[index],
        )

    @property
    def lat(self) -> FloatArray:
        """Latitudes, degrees."""
        return np.degrees(np.arcsin(np.clip(self.point[:, 2], -1.0, 1.0)))

    @property
    def lon(self) -> FloatArray:
        """Longitudes, degrees in [-180, 180]; anything at a pole."""
        return np.degrees(np.arctan2(self.point[:, 1], self.point[:, 0]))


def resampled(
    fixes: Fixes,
    track: NDArray[np.int64],
    *,
    step_s: float,
    max_gap_s: float,
    long_gap_s: float = math.inf,
) -> Steps:
    """Interpolate tracks to common steps, only between fixes of a track at most `max_gap_s` apart.

    The speed at a step is the higher of two: the one reported, interpolated, where it is known, and the one
    made good to the next step (of the last step before a hole: from the one before).

    Args:
        fixes: usable fixes in order of time within each track, shape (n,).
        track: the number of each fix's track, shape (n,).
        step_s: seconds from step to step, > 0.
        max_gap_s: seconds, > 0.
        long_gap_s: seconds; steps between fixes further apart are `in_gap`.
    """
    order = np.lexsort((fixes.observed_s, track))
    fixes, track = fixes.take(order), track[order]
    duration = np.diff(fixes.observed_s)
    pair = np.flatnonzero((track[1:] == track[:-1]) & (duration > 0) & (duration <= max_gap_s))
    first_step = np.ceil(fixes.observed_s[pair] / step_s).astype(np.int64)
    count = np.maximum(np.floor(fixes.observed_s[pair + 1] / step_s).astype(np.int64) - first_step + 1, 0)
    at = np.repeat(pair, count)
    step = np.repeat(first_step, count) + np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
    is_new = np.ones(len(at), dtype=np.bool_)  # a fix on a step ends one pair and begins the next
    is_new[1:] = (track[at[1:]] != track[at[:-1]]) | (step[1:] != step[:-1])
    at, step = at[is_new], step[is_new]

    share = (step * step_s - fixes.observed_s[at]) / duration[at] if len(at) else np.zeros(0)
    points = unit_vectors(fixes.lat, fixes.lon)
    point = points[at] * (1 - share)[:, None] + points[at + 1] * share[:, None]
    length = np.linalg.norm(point, axis=1)
    point /= np.where(length > 0, length, 1.0)[:, None]  # 0: halfway between antipodes
    reported = fixes.sog_kn[at] * (1 - share) + fixes.sog_kn[at + 1] * share
    in_gap = duration[at] > long_gap_s if len(at) else np.zeros(0, dtype=np.bool_)
    steps = Steps(
        track=track[at], step=step, mmsi=fixes.mmsi[at], point=point, speed_kn=reported, in_gap=in_gap
    )
    made_good = _made_good_kn(steps, step_s)
    paired = arc_km(np.linalg.norm(points[at + 1] - points[at], axis=1)) / KM_PER_NM * 3600 / duration[at]
    made_good = np.where(np.isnan(made_good), paired, made_good)
    return replace(steps, speed_kn=np.fmax(reported, made_good))


def _made_good_kn(steps: Steps, step_s: float) -> FloatArray:
    """Return the speed from each step to the next, else from the one before; NaN without a neighbour."""
    follows = (steps.track[1:] == steps.track[:-1]) & (steps.step[1:] == steps.step[:-1] + 1)
    km = arc_km(np.linalg.norm(np.diff(steps.point, axis=0), axis=1))
    speed = np.where(follows, km / KM_PER_NM * 3600 / step_s, np.nan)
    ahead, behind = np.append(speed, np.nan)[: len(steps)], np.insert(speed, 0, np.nan)[: len(steps)]
    return np.where(np.isnan(ahead), behind, ahead)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Stretches of steps, shape (n,): row numbers of the first and the last step of each."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]


def runs(group: NDArray[np.int64], step: NDArray[np.int64]) -> Runs:
    """Find stretches of steps, interrupted for at most two steps, in rows ordered by (group, step)."""
    if not len(group):
        return Runs(first=np.zeros(0, dtype=np.int64), last=np.zeros(0, dtype=np.int64))
    ends = (group[1:] != group[:-1]) | (step[1:] - step[:-1] > MAX_BREAK_STEPS + 1)
    edges = np.flatnonzero(ends)
    return Runs(first=np.append(0, edges + 1), last=np.append(edges, len(group) - 1))
