"""Shorelines as polygons, cut to what a picture shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from airflow_detection.maritime.tracks.coast import source
from airflow_detection.maritime.tracks.geo import FloatArray


@dataclass(frozen=True, slots=True)
class Box:
    """Degrees from south to north and from west to east; longitudes may go beyond 180."""

    south: float
    north: float
    west: float
    east: float


@dataclass(frozen=True, slots=True)
class Shore:
    """A shoreline: its level (1 land, 2 a lake, 3 an island in it, 4 a pond on that), and its corners."""

    level: int
    lat: FloatArray
    lon: FloatArray
    box: Box


def land_in(box: Box) -> Iterator[tuple[int, FloatArray, FloatArray]]:
    """Iterate over land and lakes in a box, the outer ones first: level, latitudes, longitudes of corners.

    GSHHG 2.3.6 in intermediate resolution (shores within 1 km), as the distances offshore are measured.

    Raises:
        TerminalModelError: the package with the shorelines is not installed.
    """
    for shore in shores():
        for turn in (-360.0, 0.0, 360.0):
            own = shore.box
            if (
                own.north < box.south
                or own.south > box.north
                or own.east + turn < box.west
                or own.west + turn > box.east
            ):
                continue
            points = _clipped(np.stack((shore.lon + turn, shore.lat), axis=1), box)
            if len(points) > 2:
                yield shore.level, points[:, 1], points[:, 0]


@lru_cache(maxsize=1)
def shores() -> tuple[Shore, ...]:
    """Return all shorelines, by level and size; read at the first call in a process."""
    root = source()
    degrees = np.frombuffer(root.joinpath("gshhs_i.dat").read_bytes(), dtype="<f4").reshape(-1, 2)
    fields = root.joinpath("gshhsmeta_i.dat").read_bytes().split()
    levels, counts = fields[0::8], np.array(fields[2::8], dtype=np.int64)
    ends = np.cumsum(counts)
    found = []
    for level, begin, end in zip(levels, ends - counts, ends, strict=True):
        lon, lat = degrees[begin:end, 0].astype(float), degrees[begin:end, 1].astype(float)
        found.append(Shore(int(level), lat, lon, Box(lat.min(), lat.max(), lon.min(), lon.max())))
    return tuple(sorted(found, key=lambda s: (s.level, -len(s.lat))))


def _clipped(points: FloatArray, box: Box) -> FloatArray:
    """Cut a polygon of (x, y) to a box, edge by edge (Sutherland and Hodgman)."""
    for axis, bound, sign in ((0, box.west, 1), (0, box.east, -1), (1, box.south, 1), (1, box.north, -1)):
        if not len(points):
            break
        inside = sign * (points[:, axis] - bound) >= 0
        if inside.all():
            continue
        following, is_next = np.roll(points, -1, axis=0), np.roll(inside, -1)
        crosses = inside != is_next
        step = following - points
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (bound - points[:, axis]) / step[:, axis]
        crossing = points + np.where(crosses, share, 0.0)[:, None] * step
        pairs = np.stack((points, crossing), axis=1).reshape(-1, 2)
        points = pairs[np.stack((inside, crosses), axis=1).reshape(-1)]
    return points
