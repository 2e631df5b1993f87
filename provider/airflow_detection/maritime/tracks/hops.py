"""Hops from one fix of a vessel to a later one, as far as receivers can tell where and when it was.

Receivers write down times of their own, and positions are rounded: two fixes may be 120 s and 500 m off each
other, and a ship is then elsewhere by what it sails meanwhile. A hop within that is no evidence of anything.
Between fixes that are many minutes apart it explains little: there a speed shows that is kept up.
"""

from __future__ import annotations

from dataclasses import dataclass
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
"""A vessel without a known type may be so much faster than it reports, up to that speed."""
STRETCH_S = 900.0
"""Seconds over which the speed made good shows what single hops leave open."""


@dataclass(frozen=True, slots=True)
class Hops:
    """Rows of the two fixes of each hop, of one vessel, the earlier one first; shape (n,)."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Hops:
        """Return the hops at `index`, in its order."""
        return Hops(self.first[index], self.second[index])

    def km(self, fixes: Fixes) -> FloatArray:
        """Return the distances, kilometres."""
        one, other = self.first, self.second
        return haversine_km(fixes.lat[one], fixes.lon[one], fixes.lat[other], fixes.lon[other])

    def seconds(self, fixes: Fixes) -> FloatArray:
        """Return the durations, seconds, at least one."""
        return np.maximum(fixes.observed_s[self.second] - fixes.observed_s[self.first], MIN_DURATION_S)

    def reported_kn(self, fixes: Fixes) -> FloatArray:
        """Return the higher of the two speeds reported, knots; NaN where neither is known."""
        return np.fmax(fixes.sog_kn[self.first], fixes.sog_kn[self.second])


def hops(fixes: Fixes) -> Hops:
    """Return the hops from each of time-ordered fixes to the next one of the same vessel."""
    first = np.flatnonzero(fixes.mmsi[1:] == fixes.mmsi[:-1])
    return Hops(first, first + 1)


def stretches(fixes: Fixes, broken: Hops) -> Hops:
    """Return hops over a quarter of an hour at least, and what is left at the end of a track.

    Args:
        fixes: in order of (MMSI, time).
        broken: hops across which nothing is compared: what is at either side may not be one ship.
    Returns:
        Hops over three fixes or more; those of one track follow each other.
    """
    n = len(fixes)
    begins = np.append(True, fixes.mmsi[1:] != fixes.mmsi[:-1])[:n]
    begins[broken.second] = True
    track = np.cumsum(begins) - 1
    part = (fixes.observed_s - fixes.observed_s[begins][track]) // STRETCH_S if n else fixes.observed_s
    is_end = begins.copy()
    is_end[1:] |= part[1:] != part[:-1]
    is_end[:-1] |= begins[1:]
    is_end[-1:] = True
    ends = np.flatnonzero(is_end)
    found = Hops(ends[:-1], ends[1:])
    return found.take((track[found.first] == track[found.second]) & (found.second - found.first > 1))


def uncertainty_km(speed_kn: FloatArray) -> FloatArray:
    """Return how far two fixes of a ship at this speed may be off each other, kilometres."""
    return NOISE_KM + speed_kn * KM_PER_NM * CLOCK_S / 3600.0


def surplus_km(km: FloatArray, reported: FloatArray, limit_kn: FloatArray) -> FloatArray:
    """Return the part of a distance that the uncertainty does not explain, kilometres, at least 0.

    Where no speed is reported the ship may have sailed at its limit.
    """
    speed = np.minimum(np.where(np.isnan(reported), limit_kn, reported), limit_kn)
    return np.maximum(km - uncertainty_km(speed), 0.0)


def reported_limits_kn(limit_kn: FloatArray, reported: FloatArray) -> FloatArray:
    """Return the limits of hops of vessels without a known type: higher where one reports to be fast."""
    return np.fmax(limit_kn, np.minimum(REPORTED_FACTOR * reported, REPORTED_MAX_KN))


def is_impossible(fixes: Fixes, of: Hops, limit_kn: float) -> NDArray[np.bool_]:
    """Tell which hops no ship of unknown type can sail at a limit, knots, whatever the receivers' clocks."""
    reported = of.reported_kn(fixes)
    limits = np.full(len(of), limit_kn)
    surplus = surplus_km(of.km(fixes), reported, limits)
    limits = reported_limits_kn(limits, reported)
    return np.asarray(surplus > limits * KM_PER_NM * of.seconds(fixes) / 3600.0)
