"""The drawing of a track: what is drawn is the vessel's way, over land where there is land."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from airflow_detection.domain.drawings import DrawnEntity
from airflow_detection.maritime.tracks.coast import offshore_km
from airflow_detection.maritime.tracks.drawing import TrackDrawing
from airflow_detection.maritime.tracks.shores import Box, land_in
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate

START = datetime(2026, 3, 1, tzinfo=UTC)
MMSI = 366000001
SVG = "{http://www.w3.org/2000/svg}"


def store(conn: Connection, *places: tuple[float, float], step: timedelta = timedelta(minutes=1)) -> None:
    with conn.cursor() as cursor:
        cursor.executemany(
            "insert into detection.ais_positions (mmsi, observed_at, lat, lon) values (%s, %s, %s, %s)",
            [(MMSI, START + n * step, lat, lon) for n, (lat, lon) in enumerate(places)],
        )


def entity(entity_id: str = str(MMSI), **more: Any) -> DrawnEntity:
    return DrawnEntity(entity_id=entity_id, start=START, end=START + timedelta(hours=2), **more)


def drawn(conn: Connection, **more: Any) -> ET.Element:
    return ET.fromstring(TrackDrawing().draw(Database(conn), entity(**more)))  # noqa: S314 - our own text


def classes(root: ET.Element) -> list[str]:
    return [path.get("class", "") for path in root.iter(f"{SVG}path")]


def test_a_track_has_the_colours_of_the_cycles_that_saw_it(database: Connection) -> None:
    store(database, *((29.0 + n / 100, -94.0) for n in range(60)))
    scores = [(START + timedelta(minutes=20), 0.1), (START + timedelta(minutes=40), 0.9)]
    root = drawn(database, scores=scores)
    track = [name for name in classes(root) if name.startswith("track")][:3]
    assert track == ["track s1", "track s4", "track s0"], "up to 00:20, up to 00:40, and what no cycle saw"
    assert root.find(f"{SVG}title").text == (  # type: ignore[union-attr]
        f"track of {MMSI}, 2026-03-01 00:00 to 2026-03-01 00:59 UTC"
    )


def test_without_the_tables_of_the_pack_nothing_is_known(empty_dsn: str) -> None:
    with connect(empty_dsn) as conn:
        migrate(Database(conn))
        assert not TrackDrawing().is_known(Database(conn), entity())


def test_land_is_drawn_where_there_is_land(database: Connection) -> None:
    store(database, (29.3, -94.8), (29.35, -94.7))  # off Galveston
    assert "land" in classes(drawn(database))


def test_on_the_open_sea_there_is_no_land(database: Connection) -> None:
    store(database, (0.0, -30.0), (0.1, -30.1))
    assert "land" not in classes(drawn(database))


def test_a_track_over_the_date_line_is_one_line(database: Connection) -> None:
    store(database, *((-17.0, 179.9 + n / 100 if n < 10 else -180.1 + n / 100) for n in range(20)))
    root = drawn(database)
    path = next(p for p in root.iter(f"{SVG}path") if p.get("class") == "track s0")
    xs = [float(x) for x in re.findall(r"[ML](-?[\d.]+) ", path.get("d", ""))]
    assert xs == sorted(xs)
    assert max(b - a for a, b in itertools.pairwise(xs)) < 80
    assert "land" in classes(root), "Fiji, on the other side of the line"


def test_a_vessel_that_lies_still_and_one_fix_can_be_drawn(database: Connection) -> None:
    store(database, (51.9, 4.1))
    assert "track s0" in classes(drawn(database))


@pytest.mark.parametrize("name", ["", "x", "12 34", "-5", "1" * 40, "\u0661\u0662", "<b>", "366000002"])
def test_what_is_no_vessel_with_positions_has_no_drawing(database: Connection, name: str) -> None:
    store(database, (51.9, 4.1))
    assert not TrackDrawing().is_known(Database(database), entity(name))
    assert "no position" in TrackDrawing().draw(Database(database), entity(name))
    assert "<b>" not in TrackDrawing().draw(Database(database), entity(name))
    assert TrackDrawing().is_known(Database(database), entity())


def test_the_polygons_agree_with_the_distances_offshore() -> None:
    box = Box(28.5, 30.5, -96.0, -93.0)
    shapes = [(level, np.stack((lon, lat), axis=1)) for level, lat, lon in land_in(box)]
    rng = np.random.default_rng(7)
    lat, lon = rng.uniform(28.6, 30.4, 200), rng.uniform(-95.9, -93.1, 200)
    km = offshore_km(lat, lon)
    is_land = np.array(
        [max((level for level, shape in shapes if _contains(shape, x, y)), default=0) % 2 == 1
         for x, y in zip(lon, lat, strict=True)]
    )  # fmt: skip
    assert not is_land[km > 8].any(), "what is far offshore is sea"
    assert is_land[km == 0].mean() > 0.97, "what is far inland is land"
    assert 0.3 < is_land.mean() < 0.9


def _contains(shape: Any, x: float, y: float) -> bool:
    inside = False
    for (x0, y0), (x1, y1) in zip(shape, np.roll(shape, -1, axis=0), strict=True):
        if (y0 > y) != (y1 > y) and x < (x1 - x0) * (y - y0) / (y1 - y0) + x0:
            inside = not inside
    return inside
