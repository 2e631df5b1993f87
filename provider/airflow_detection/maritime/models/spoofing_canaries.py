"""Canaries of the spoofing model, each of which tests one constant or rule."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from airflow_detection.engine.model import Canary
from airflow_detection.maritime.tracks.geo import EARTH_RADIUS_KM, KM_PER_NM
from airflow_detection.maritime.tracks.hops import STRETCH_S, uncertainty_km
from airflow_detection.maritime.vessel_canaries import vessel_canary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_detection.domain.json_values import JsonMapping

LONG_ID = -123_456_789
"""As long as a real MMSI, so that an identity that was cut or rounded shows."""


def edge_canaries(start_s: float, v_max_kn: float, max_dropped_share: float) -> Iterator[Canary]:
    """A speed contradicted in part (beside a repeated fix); contradicted too late; two places in one second.

    And a speed that is kept up for a quarter of an hour, in hops too short to show it; and a strong track of
    which `track_quality` dropped just not too much. All sail north from one place.
    """
    kn = min(0.5 * v_max_kn, 20.0)
    share = min(max((kn - 5 - 0.2 / KM_PER_NM * 12) / 25, 0.0), 1.0)
    yield _north(-8, 0.3 * share, start_s, (0, 0, 300), kn * KM_PER_NM / 12, sog_kn=0.0)
    late_km = min(0.9 * v_max_kn, 40.0) * KM_PER_NM / 4
    yield _north(-9, 0.0, start_s, (0, 900), late_km, sog_kn=0.0)
    near_km, uncertain_km = 1.5 * v_max_kn * KM_PER_NM / 3600, float(uncertainty_km(np.array(v_max_kn)))
    expected = 0.95 * 0.4 * 0.5 * -math.expm1(-near_km / 5)
    yield _north(LONG_ID, expected, start_s, (0, 0), near_km + uncertain_km)
    yield _kept_up(-101, start_s, v_max_kn)
    nearly = {"entity_id": "-100", "score": 0.99 * max_dropped_share}
    fast_s = 20 / KM_PER_NM / (4 * v_max_kn) * 3600
    strong = 0.95 * 0.4 * -math.expm1(-20 / 5)
    far_km = 20.0 + uncertain_km
    yield _north(-100, strong, start_s, (0, fast_s), far_km, upstream={"track_quality": (({}, nearly),)})


def _kept_up(mmsi: int, start_s: float, v_max_kn: float) -> Canary:
    """Sail north at twice the limit, with a fix each minute."""
    km = 2 * v_max_kn * KM_PER_NM * STRETCH_S / 3600
    surplus_km = km - float(uncertainty_km(np.array(v_max_kn)))
    excess = surplus_km / KM_PER_NM / STRETCH_S * 3600 / v_max_kn - 1
    share = min(max(excess, 0.0), 1.0) * -math.expm1(-surplus_km / 5)
    fixes = [
        (start_s + second, 27.0 + math.degrees(km * second / STRETCH_S / EARTH_RADIUS_KM), -89.5)
        for second in range(0, round(STRETCH_S) + 1, 60)
    ]
    expected = 0.95 * (1 - (1 - 0.4 * share) ** (STRETCH_S / 150))
    return vessel_canary(mmsi, expected, fixes, sog_kn=None, vessel_type=None)


def _north(
    mmsi: int,
    expected: float,
    start_s: float,
    seconds: tuple[float, ...],
    km: float,
    *,
    sog_kn: float | None = None,
    upstream: dict[str, tuple[tuple[JsonMapping, JsonMapping], ...]] | None = None,
) -> Canary:
    """Return a canary with a fix at each of these seconds: the last one `km` north of all others."""
    last = len(seconds) - 1
    north = math.degrees(km / EARTH_RADIUS_KM)
    fixes = [
        (start_s + second, 27.0 + (north if i == last else 0.0), -89.5) for i, second in enumerate(seconds)
    ]
    return vessel_canary(mmsi, expected, fixes, upstream=upstream, sog_kn=sog_kn, vessel_type=None)
