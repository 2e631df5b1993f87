"""The track of a vessel over the shoreline, coloured by the scores of models: a drawing for the pages."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

import numpy as np

from airflow_detection.domain.drawings import DrawnEntity
from airflow_detection.domain.svg import picture, plain
from airflow_detection.maritime.tracks.geo import FloatArray
from airflow_detection.maritime.tracks.shores import Box, land_in
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import registry_errors
from airflow_detection.store.migrations import installed_packs

MAX_FIXES, MAX_POINTS = 50_000, 3_000
WIDTH, HEIGHT, LEGEND = 760.0, 480.0, 34.0
MIN_DEGREES, MARGIN = 0.04, 0.12
BOUNDS = (0.0, 0.3, 0.5, 0.7)
NAMES = ("no score", "above 0", "above 0.3", "above 0.5", "above 0.7")
STEPS_KM = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
KM_PER_DEGREE = 111.2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackFixes:
    """Usable fixes in order of time: instants (UTC), and degrees; longitudes do not jump at the date line."""

    at: Sequence[datetime]
    lat: FloatArray
    lon: FloatArray


class TrackDrawing:
    """Drawing of an entity whose id is an MMSI with positions in the period."""

    title = "Track"

    def is_known(self, db: Database, entity: DrawnEntity) -> bool:
        """Tell whether there is a usable position."""
        params = _params(entity)
        with registry_errors():
            if params is None or "maritime" not in installed_packs(db):
                return False
            row = db.conn.execute(db.queries("ais_positions")["has_track"], params).fetchone()
        return bool(row and row[0])

    def draw(self, db: Database, entity: DrawnEntity) -> str:
        """Return the track as SVG; without a position a sentence."""
        params = _params(entity)
        rows = []
        if params is not None:
            with registry_errors():
                rows = db.conn.execute(
                    db.queries("ais_positions")["track"], params | {"limit": MAX_FIXES}
                ).fetchall()
        if not rows:
            text = f"{entity.entity_id} has no position in this period"
            return picture(WIDTH, 40, text, [f'<text x="12" y="24">{plain(text)}</text>'])
        step = -(-len(rows) // MAX_POINTS)
        kept = [*rows[:-1:step], rows[-1]]
        lon = np.degrees(np.unwrap(np.radians([row[2] for row in kept])))
        fixes = TrackFixes(at=[row[0] for row in kept], lat=np.array([row[1] for row in kept]), lon=lon)
        return draw_track(entity, fixes)


def _params(entity: DrawnEntity) -> dict[str, object] | None:
    """Return the parameters of the statements; None where the id is no MMSI."""
    if not (entity.entity_id.isascii() and entity.entity_id.isdigit() and len(entity.entity_id) <= 9):
        return None
    return {"mmsi": int(entity.entity_id), "start": entity.start, "end": entity.end}


def draw_track(entity: DrawnEntity, fixes: TrackFixes) -> str:
    """Return the picture of a track over the shoreline."""
    frame = _Frame(fixes)
    parts = [f'<rect class="sea" x="0" y="0" width="{WIDTH:.0f}" height="{HEIGHT:.0f}"/>']
    for level, lat, lon in land_in(frame.box):
        path = frame.path(lat, lon)
        if path:
            parts.append(f'<path class="{"land" if level % 2 else "sea"}" d="{path}Z"/>')
    bins = _bins(entity, fixes.at)
    start = 0
    for number, group in groupby(bins):
        end = start + len(list(group))
        span = slice(start, min(end + 1, len(bins)))
        parts.append(f'<path class="track s{number}" d="{frame.path(fixes.lat[span], fixes.lon[span])}"/>')
        start = end
    parts += [*_ends(frame, fixes), *_legend(frame, entity)]
    title = f"track of {entity.entity_id}, {fixes.at[0]:%Y-%m-%d %H:%M} to {fixes.at[-1]:%Y-%m-%d %H:%M} UTC"
    return picture(WIDTH, HEIGHT + LEGEND, title, parts)


def _bins(entity: DrawnEntity, at: Sequence[datetime]) -> list[int]:
    """Return for each fix which colour it has: that of the first cycle that began after it."""
    instants = [instant for instant, _ in entity.scores]
    bins = []
    for fix in at:
        n = bisect_left(instants, fix)
        score = entity.scores[n][1] if n < len(instants) else -1.0
        bins.append(sum(score > bound for bound in BOUNDS))
    return bins


class _Frame:
    """What the picture shows: degrees to pixels, a degree of longitude as long as it is at its latitude."""

    def __init__(self, fixes: TrackFixes) -> None:
        south, north = float(fixes.lat.min()), float(fixes.lat.max())
        west, east = float(fixes.lon.min()), float(fixes.lon.max())
        self.lat, self.lon = (south + north) / 2, (west + east) / 2
        self.cosine = max(0.05, math.cos(math.radians(self.lat)))
        height = max(north - south, MIN_DEGREES) * (1 + 2 * MARGIN)
        width = max(east - west, MIN_DEGREES) * self.cosine * (1 + 2 * MARGIN)
        self.scale = min(WIDTH / width, HEIGHT / height)  # pixels per degree of latitude

    @property
    def box(self) -> Box:
        """The degrees that the picture shows."""
        half_lat = HEIGHT / self.scale / 2
        half_lon = WIDTH / self.scale / self.cosine / 2
        return Box(self.lat - half_lat, self.lat + half_lat, self.lon - half_lon, self.lon + half_lon)

    def points(self, lat: FloatArray, lon: FloatArray) -> Iterator[tuple[float, float]]:
        """Iterate over places in pixels."""
        x = WIDTH / 2 + (lon - self.lon) * self.cosine * self.scale
        y = HEIGHT / 2 - (lat - self.lat) * self.scale
        return zip(x.tolist(), y.tolist(), strict=True)

    def path(self, lat: FloatArray, lon: FloatArray) -> str:
        """Return a path through places, without those that would not be seen apart."""
        kept: list[str] = []
        for x, y in self.points(lat, lon):
            point = f"{x:.1f} {y:.1f}"
            if not kept or kept[-1] != point:
                kept.append(point)
        return "M" + "L".join(kept if len(kept) > 1 else kept * 2) if kept else ""


def _ends(frame: _Frame, fixes: TrackFixes) -> Iterator[str]:
    """Yield the first and the last fix, with their times."""
    for n, radius in ((0, 3), (-1, 5)):
        ((x, y),) = frame.points(fixes.lat[n : n + 1 or None], fixes.lon[n : n + 1 or None])
        anchor, shift = ("start", 8) if x < WIDTH - 90 else ("end", -8)
        yield f'<circle class="fill" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'
        time = f"{fixes.at[n]:%H:%M}"
        yield f'<text class="muted" x="{x + shift:.1f}" y="{y - 6:.1f}" text-anchor="{anchor}">{time}</text>'


def _legend(frame: _Frame, entity: DrawnEntity) -> Iterator[str]:
    """Yield the colours, and a bar of so many kilometres."""
    y = HEIGHT + 21
    for number, name in enumerate(NAMES):
        x = 12 + number * 92
        yield f'<path class="track s{number}" d="M{x} {y - 4}L{x + 18} {y - 4}"/>'
        yield f'<text class="muted" x="{x + 24}" y="{y}">{name}</text>'
    per_km = frame.scale / KM_PER_DEGREE
    km = next((step for step in reversed(STEPS_KM) if step * per_km <= 150), STEPS_KM[0])
    right = WIDTH - 12
    yield f'<path class="line" d="M{right - km * per_km:.1f} {y - 4}L{right:.1f} {y - 4}"/>'
    yield f'<text class="muted" x="{right:.1f}" y="{y - 10}" text-anchor="end">{km:g} km</text>'
