"""Distance and speed on a sphere, vectorised: degrees in, kilometres and knots out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

EARTH_RADIUS_KM = 6371.0088
"""Mean radius: distances are within 0.6 % of those on the ellipsoid."""

KM_PER_NM = 1.852


def haversine_km(lat1: FloatArray, lon1: FloatArray, lat2: FloatArray, lon2: FloatArray) -> FloatArray:
    """Return great-circle distances.

    Args:
        lat1, lon1, lat2, lon2: degrees, shapes that broadcast; longitudes may lie on either side of the
            date line.
    Returns:
        Kilometres, NaN where any argument is NaN.
    """
    phi1, phi2 = np.radians(lat1), np.radians(lat2)
    half_lat = np.sin((phi2 - phi1) / 2)
    half_lon = np.sin(np.radians(lon2 - lon1) / 2)
    chord = half_lat * half_lat + np.cos(phi1) * np.cos(phi2) * half_lon * half_lon
    # by rounding, antipodes can come out slightly above 1
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(chord, 1.0))), dtype=np.float64)


def speed_kn(distance_km: FloatArray, duration_s: FloatArray) -> FloatArray:
    """Return speeds in knots; `duration_s` must be > 0."""
    return np.asarray(distance_km / KM_PER_NM / (duration_s / 3600.0), dtype=np.float64)


def unit_vectors(lat: FloatArray, lon: FloatArray) -> FloatArray:
    """Return points on the unit sphere, (n, 3): the poles and the date line are like any other place."""
    phi, lam = np.radians(lat), np.radians(lon)
    return np.column_stack((np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)))


def arc_km(chord: FloatArray) -> FloatArray:
    """Return great-circle distances of points on the unit sphere that are `chord` apart, in [0, 2]."""
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2, 1.0)), dtype=np.float64)
