"""Simulated ships that are under way on open water, and report about every three minutes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from airflow_detection.maritime.ais.load import SIMULATED_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

REPORT_S = 180
SPEED_KN = (4.0, 20.0)
TOO_FAST_KN = (44.0, 48.0)
"""Of a fishing vessel, a cargo ship or a tanker: none sails so fast, though other ships do."""
NM_PER_DEGREE = 60.0

Box = tuple[float, float, float, float]
Span = tuple[int, int]

SEAS: tuple[Box, ...] = (
    (24.5, 27.5, -94.0, -86.0),
    (29.0, 38.0, -73.0, -64.0),
    (31.0, 41.0, -135.0, -126.0),
    (50.0, 56.0, -150.0, -140.0),
)
"""Open water: south, north, west, east, degrees."""

OFFSHORE: tuple[Box, ...] = (
    (25.0, 27.0, -93.0, -87.0),
    (33.5, 36.5, -71.5, -67.0),
    (32.5, 39.5, -133.5, -128.0),
    (51.0, 55.0, -148.5, -141.5),
)
"""More than 100 nautical miles from any shore: the middle of the seas, without Bermuda."""

COAST: tuple[Box, ...] = ((27.0, 27.5, -97.19, -97.12), (44.2, 44.55, -124.35, -124.28))
"""3 to 18 nautical miles off Padre Island and off Oregon."""


class Transmitter(Protocol):
    """Something that reports positions."""

    def reports(self, rng: Random, duration_s: int) -> Iterator[tuple[int, int, str]]:
        """Iterate over (second, MMSI, row without its time)."""


@dataclass(slots=True, kw_only=True)
class Ship:
    """A transmitter on its way: a position in degrees, a speed in knots, a course in degrees.

    It reports only in `heard` (seconds, both ends included), and not in `silent` (both ends excluded).
    """

    mmsi: int
    name: str
    kind: str
    area: Box
    lat: float
    lon: float
    kn: float
    course: float
    imo: str
    ship_type: int
    has_heading: bool
    heard: Span | None = None
    silent: Span | None = None
    jumps: list[tuple[int, int, float]] = field(default_factory=list)

    def sail(self, seconds: int, rng: Random) -> None:
        """Move on; now and then turn, and outside of the area turn back to its middle."""
        south, north, west, east = self.area
        if not (south < self.lat < north and west < self.lon < east):
            d_lon = ((west + east) / 2 - self.lon) * math.cos(math.radians(self.lat))
            self.course = math.degrees(math.atan2(d_lon, (south + north) / 2 - self.lat)) % 360
        elif rng.random() < 0.05:
            self.course = (self.course + rng.uniform(-40, 40)) % 360
        slowest, fastest = TOO_FAST_KN if self.kind == "too_fast" else SPEED_KN
        self.kn = min(max(self.kn + rng.uniform(-0.2, 0.2), slowest), fastest)
        degrees = self.kn * seconds / 3600 / NM_PER_DEGREE
        self.lat += degrees * math.cos(math.radians(self.course))
        self.lon += degrees * math.sin(math.radians(self.course)) / math.cos(math.radians(self.lat))

    def reports(self, rng: Random, duration_s: int) -> Iterator[tuple[int, int, str]]:
        """Iterate over (second, MMSI, row without its time), one about every three minutes."""
        second = rng.randrange(REPORT_S)
        # the first within half an hour, then every 35 to 50 minutes: no hour is without one
        jump_at, number = second + rng.randrange(600, 1800), 0
        while second < duration_s:
            shift = (0.0, 0.0)
            if self.kind == "jumper" and second >= jump_at:
                shift = self._jump(rng, second, duration_s)
                jump_at = second + rng.randrange(2100, 3000)
            text = self._row(rng, shift, has_position=number % 3 != 2)
            if self._is_on_the_air(second):
                yield second, self.mmsi, text
            number += 1
            step = REPORT_S + rng.randrange(-10, 11)
            second += step
            if self.kind != "frozen":
                self.sail(step, rng)

    def _is_on_the_air(self, second: int) -> bool:
        is_heard = self.heard is None or self.heard[0] <= second <= self.heard[1]
        return is_heard and not (self.silent and self.silent[0] < second < self.silent[1])

    def _jump(self, rng: Random, second: int, duration_s: int) -> tuple[float, float]:
        """Choose where one false report goes, degrees of latitude and longitude, and note it.

        To the other side than the last time: two false reports in a row are not a track of a second ship.
        """
        km = rng.uniform(100, 300)
        bearing = math.radians(rng.uniform(-60, 60) + 180 * (len(self.jumps) % 2))
        degrees = km / 1.852 / NM_PER_DEGREE
        self.jumps.append((second, min(second + 60, duration_s - 1), round(km, 1)))
        return degrees * math.cos(bearing), degrees * math.sin(bearing) / math.cos(math.radians(self.lat))

    def _row(self, rng: Random, shift: tuple[float, float], *, has_position: bool) -> str:
        sog = max(self.kn + rng.uniform(-0.1, 0.1), 0)
        if self.kind == "partly_unavailable" and not has_position:
            return row_text(self, 91.0, 181.0, 102.3, self.course, "511")
        heading = str(round(self.course) % 360) if self.has_heading else "511"
        return row_text(self, self.lat + shift[0], self.lon + shift[1], sog, self.course, heading)


class Described(Protocol):
    """The parts of a row that describe a transmitter, beside its position."""

    @property
    def mmsi(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def imo(self) -> str: ...

    @property
    def ship_type(self) -> int: ...


def row_text(of: Described, lat: float, lon: float, sog: float, course: float, heading: str) -> str:
    """Write one row of the file without its time: degrees and knots."""
    where = "91.0,181.0" if lat == 91.0 else f"{lat:.5f},{lon:.5f}"
    cog = f"{course:.1f}" if course < 359.95 else "0.0"
    described = f"{of.name},{of.imo},SIM{of.mmsi % 10_000:04d},{of.ship_type},0,100,20,8.0,,A"
    return f"{of.mmsi},{where},{sog:.1f},{cog},{heading},{described}"


def ship(rng: Random, number: int, mmsi: int, kind: str, area: Box) -> Ship:
    """Return a ship in the middle of an area, with a name that marks it as simulated."""
    south, north, west, east = area
    margin = min(0.5, (north - south) / 4, (east - west) / 4)
    digits = f"{900_000 + number:06d}"
    check = sum(int(digit) * weight for digit, weight in zip(digits, range(7, 1, -1), strict=True)) % 10
    label = "VESSEL" if kind == "plain" else kind.upper().replace("_", " ")
    return Ship(
        mmsi=mmsi,
        name=f"{SIMULATED_NAME}{label} {number:03d}",
        kind=kind,
        area=area,
        lat=rng.uniform(south + margin, north - margin),
        lon=rng.uniform(west + margin, east - margin),
        kn=rng.uniform(*(TOO_FAST_KN if kind == "too_fast" else (6, 16))),
        course=rng.uniform(0, 360),
        imo=f"IMO{digits}{check}",
        ship_type=rng.choice((30, 70, 80) if kind == "too_fast" else (30, 60, 70, 70, 80)),
        has_heading=rng.random() < 0.8,
    )
