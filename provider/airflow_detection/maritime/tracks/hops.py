"""Hops from one fix of a vessel to the next, as far as receivers can tell where and when it was.

Receivers write down times of their own, and positions are rounded: two fixes may be 120 s and 500 m off each
other, and a ship is then elsewhere by what it sails meanwhile. A hop within that is no evidence of anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from airflow_detection.maritime.tracks.geo import KM_PER_NM, FloatArray, haversine_km

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_detection.maritime.tracks.fixes import Fixes

CLOCK_S = 120.0
"""Seconds by which the clocks of two receivers may differ."""
NOISE_KM = 0.5
"""Kilometres by which two reports of one position may differ: the grid of message 27, and rounding."""
MIN_DURATION_S = 1.0
"""AIS times are whole seconds: two places in one second are one second apart."""
REPORTED_FACTOR, REPORTED_MAX_KN = 1.15, 75.0
"""A ship may be so much faster than it reports, up to that speed: fast craft that send no type."""


def uncertainty_km(speed_kn: FloatArray) -> FloatArray:
    """Return how far two fixes of a ship at this speed may be off each other, kilometres."""
    return NOISE_KM + speed_kn * KM_PER_NM * CLOCK_S / 3600.0


def reported_kn(fixes: Fixes, first: NDArray[np.int64]) -> FloatArray:
    """Return the higher of the two speeds reported at each hop, knots; NaN where neither is known."""
    return np.fmax(fixes.sog_kn[first], fixes.sog_kn[first + 1])


def hop_km(fixes: Fixes, first: NDArray[np.int64]) -> FloatArray:
    """Return the distance from each fix at `first` to the one behind it, kilometres."""
    return haversine_km(fixes.lat[first], fixes.lon[first], fixes.lat[first + 1], fixes.lon[first + 1])


def hop_s(fixes: Fixes, first: NDArray[np.int64]) -> FloatArray:
    """Return the time from each fix at `first` to the one behind it, seconds, at least one."""
    return np.maximum(fixes.observed_s[first + 1] - fixes.observed_s[first], MIN_DURATION_S)


def surplus_km(km: FloatArray, reported: FloatArray, limit_kn: FloatArray) -> FloatArray:
    """Return the part of a distance that the uncertainty does not explain, kilometres, at least 0.

    Where no speed is reported the ship may have sailed at its limit.
    """
    speed = np.minimum(np.where(np.isnan(reported), limit_kn, reported), limit_kn)
    return np.maximum(km - uncertainty_km(speed), 0.0)


def pair_limits_kn(limit_kn: FloatArray, reported: FloatArray) -> FloatArray:
    """Return the speed limit of each hop, knots: a higher one where the ship reports that it is fast."""
    return np.fmax(limit_kn, np.minimum(REPORTED_FACTOR * reported, REPORTED_MAX_KN))


def pairs(fixes: Fixes) -> NDArray[np.int64]:
    """Return the rows of time-ordered fixes behind which another fix of the same vessel follows."""
    return np.flatnonzero(fixes.mmsi[1:] == fixes.mmsi[:-1])


def is_impossible(fixes: Fixes, first: NDArray[np.int64], limit_kn: float) -> NDArray[np.bool_]:
    """Tell which hops no ship can sail at a limit, knots, whatever the receivers' clocks."""
    reported = reported_kn(fixes, first)
    limits = np.full(len(first), limit_kn)
    surplus = surplus_km(hop_km(fixes, first), reported, limits)
    limits = pair_limits_kn(limits, reported)
    return np.asarray(surplus > limits * KM_PER_NM * hop_s(fixes, first) / 3600.0)
