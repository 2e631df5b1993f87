"""Distance offshore, compared with charts."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from airflow_detection.maritime.tracks.coast import offshore_km


def at(lat: float, lon: float) -> float:
    return float(offshore_km(np.array([lat]), np.array([lon]))[0])


@pytest.mark.parametrize(
    ("place", "lat", "lon", "low_km", "high_km"),
    [
        ("the Gulf of Mexico, north of the cays of Alacranes Reef", 25.0, -90.0, 260, 290),
        ("the pole", 90.0, 0.0, 700, 715),
        ("the equator in mid-Atlantic", 0.0, -25.0, 900, 1100),
        ("Lake Huron, which has an offshore of its own", 44.8, -82.4, 60, 80),
        ("the Caspian Sea", 42.0, 50.5, 120, 150),
        ("a harbour", 40.65, -74.05, 0, 4),
        ("the Mississippi at St. Louis, far from any shoreline", 38.6, -90.19, 0, 0),
        ("dry land", 38.5, -98.5, 0, 0),
        ("the other pole, under ice", -90.0, 0.0, 0, 1),
        ("40 km south of the straight shore of Long Island", 40.36, -72.6, 38, 50),
    ],
)
def test_known_places(place: str, lat: float, lon: float, low_km: float, high_km: float) -> None:
    assert low_km <= at(lat, lon) <= high_km, place


@pytest.mark.parametrize(
    ("beach", "lat", "lon"),
    [("Ninety Mile Beach", -38.436, 147.294), ("Ivory Coast", 4.943, -2.854), ("Somalia", 4.139, 47.785)],
)
def test_a_straight_beach_has_shore_between_its_distant_corners(beach: str, lat: float, lon: float) -> None:
    assert at(lat, lon) == pytest.approx(10, abs=1.5), f"{beach}: the corners are 40 km away"


def test_the_date_line_is_no_edge() -> None:
    for lat in (-17.0, 60.0, 71.0, 0.0):
        assert at(lat, 180.0) == at(lat, -180.0)
        assert at(lat, 179.999) == pytest.approx(at(lat, -179.999), abs=1.0)
    assert at(90.0, 0.0) == pytest.approx(at(90.0, 123.0))


def test_what_is_not_known_stays_unknown() -> None:
    km = offshore_km(np.array([np.nan, 25.0, 25.0]), np.array([-90.0, np.nan, -90.0]))
    assert np.isnan(km[:2]).all()
    assert km[2] > 200
    assert len(offshore_km(np.zeros(0), np.zeros(0))) == 0


def test_beyond_the_shores_land_and_water_agree_with_their_surroundings() -> None:
    rng = np.random.default_rng(5)
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, 4000))), rng.uniform(-180, 180, 4000)
    near = offshore_km(lat, lon)
    # a place more than 20 km offshore is surrounded by water 8 km around it
    is_offshore = near > 20
    assert 0.6 < is_offshore.mean() < 0.75, "two thirds of the Earth are open water"
    for shift in (0.07, -0.07):
        assert (
            offshore_km(lat[is_offshore] + shift * (np.abs(lat[is_offshore]) < 89.9), lon[is_offshore]) > 10
        ).all()


def test_no_shoreline_is_read_before_a_distance_is_asked_for() -> None:
    code = (
        "import sys, airflow_detection.maritime.tracks.coast as c, airflow_detection.dags.cycles;"
        "assert 'mpl_toolkits' not in sys.modules and 'scipy' not in sys.modules;"
        "assert c._shore_points.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_good_coastal_fixes_are_not_far_inland(noaa_day: list[tuple[Any, ...]]) -> None:
    rows = np.array([(row[2], row[3]) for row in noaa_day[::20]], dtype=np.float64)
    km = offshore_km(rows[:, 0], rows[:, 1])
    assert (km[~np.isnan(km)] >= 0).all()
    assert (km > 0).mean() > 0.9, "0 only beyond 7 km from any shore: rivers"
