"""Scenes of a simulated day: ships that fall silent, meet, lie still or are in two places, and gear."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_detection.maritime.ais.load import SIMULATED_NAME
from airflow_detection.maritime.simulation.fleet import (
    COAST,
    NM_PER_DEGREE,
    OFFSHORE,
    REPORT_S,
    SEAS,
    Span,
    Transmitter,
    row_text,
    ship,
)

if TYPE_CHECKING:
    from random import Random

LEG_NM = 20.0
GEAR_DRIFT_KN = 0.25
_GEAR_APART_DEGREES = 0.1  # of latitude: 11 km


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """The transmitters of a scene, and its span in seconds; `identity` is that of a piece of gear."""

    kind: str
    transmitters: tuple[Transmitter, ...]
    mmsis: tuple[int, ...]
    span: Span
    identity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drifter:
    """A transmitter that drifts in `span` and sails to and fro before and after, on legs of 20 miles.

    The place, degrees, is where the drift begins. A piece of gear drifts all the time; its battery goes down.
    """

    mmsi: int
    name: str
    imo: str
    ship_type: int
    lat: float
    lon: float
    span: Span
    drift_kn: float
    drift_course: float
    leg_kn: float = 10.0
    leg_course: float = 0.0
    battery: int | None = None

    def at(self, second: int) -> tuple[float, float, float, float]:
        """Return latitude, longitude, speed in knots and course at an instant."""
        begin, end = self.span
        drifted_nm = self.drift_kn * (min(max(second, begin), end) - begin) / 3600
        lat, lon = _moved(self.lat, self.lon, drifted_nm, self.drift_course)
        if begin <= second <= end:
            return lat, lon, self.drift_kn, self.drift_course
        since_s = second - end if second > end else second - begin
        sailed_nm = self.leg_kn * abs(since_s) / 3600 % (2 * LEG_NM)
        lat, lon = _moved(lat, lon, LEG_NM - abs(LEG_NM - sailed_nm), self.leg_course)
        is_outward = (sailed_nm < LEG_NM) == (since_s > 0)
        return lat, lon, self.leg_kn, self.leg_course if is_outward else (self.leg_course + 180) % 360

    def reports(self, rng: Random, duration_s: int) -> Iterator[tuple[int, int, str]]:
        """Iterate over (second, MMSI, row without its time), one about every three minutes."""
        second = rng.randrange(REPORT_S)
        while second < duration_s:
            lat, lon, kn, course = self.at(second)
            text = row_text(self, lat, lon, max(kn + rng.uniform(-0.1, 0.1), 0.0), course, "511")
            if self.battery is not None:
                left = max(self.battery - second // 1800, 1)
                text = text.replace(self.name, f"{self.name}-{left}%", 1)
            yield second, self.mmsi, text
            second += REPORT_S + rng.randrange(-10, 11)


def _moved(lat: float, lon: float, nm: float, course: float) -> tuple[float, float]:
    degrees = nm / NM_PER_DEGREE
    d_lon = degrees * math.sin(math.radians(course)) / math.cos(math.radians(lat))
    return lat + degrees * math.cos(math.radians(course)), lon + d_lon


def _span(rng: Random, begin_s: Span, hours: tuple[float, float]) -> Span:
    begin = rng.randrange(*begin_s)
    return begin, begin + round(3600 * rng.uniform(*hours))


def _drifter(rng: Random, number: int, kind: str, span: Span, place: tuple[float, float]) -> Drifter:
    of = ship(rng, number, 366_900_000 + number, kind, SEAS[0])
    return Drifter(
        mmsi=of.mmsi,
        name=of.name,
        imo=of.imo,
        ship_type=of.ship_type,
        lat=place[0],
        lon=place[1],
        span=span,
        drift_kn=rng.uniform(0.3, 0.9),
        drift_course=rng.uniform(0, 360),
        leg_kn=rng.uniform(8, 12),
        leg_course=rng.uniform(0, 360),
    )


def _offshore_place(rng: Random, number: int) -> tuple[float, float]:
    south, north, west, east = OFFSHORE[number % len(OFFSHORE)]
    return rng.uniform(south + 0.4, north - 0.4), rng.uniform(west + 0.5, east - 0.5)


def satellite_gap(rng: Random, number: int, duration_s: int) -> Cast:
    """Heard well for hours, more than 100 nautical miles offshore; then silent for 12.5 to 13.5 hours."""
    return _silent(rng, number, "satellite_gap", OFFSHORE[number % len(OFFSHORE)], (12.5, 13.5))


def terrestrial_gap(rng: Random, number: int, duration_s: int) -> Cast:
    """Near the coast, silent for 4 to 5 hours."""
    return _silent(rng, number, "terrestrial_gap", COAST[number % len(COAST)], (4, 5))


def _silent(
    rng: Random, number: int, kind: str, box: tuple[float, float, float, float], hours: tuple[float, float]
) -> Cast:
    one = ship(rng, number, 367_900_000 + number, kind, box)
    one.silent = _span(rng, (5400, 9000), hours)
    return Cast(kind=kind, transmitters=(one,), mmsis=(one.mmsi,), span=one.silent)


def clone_once(rng: Random, number: int, duration_s: int) -> Cast:
    """A second transmitter under a ship's MMSI, in another sea, for 20 minutes."""
    mmsi = 338_900_000 + number
    one, other = (ship(rng, number, mmsi, "clone_once", SEAS[(number + k) % len(SEAS)]) for k in (0, 1))
    begin = rng.randrange(600, max(duration_s - 1800, 601))
    other.heard = (begin, begin + 1200)
    return Cast(kind="clone_once", transmitters=(one, other), mmsis=(mmsi,), span=other.heard)


def encounter(rng: Random, number: int, duration_s: int) -> Cast:
    """Two ships side by side, 200 to 350 m apart, for 2.5 to 3.2 hours far offshore."""
    lat, lon = _offshore_place(rng, number)
    span = _span(rng, (4000, 7000), (2.5, 3.2))
    one = _drifter(rng, number, "encounter", span, (lat, lon))
    beside = _moved(lat, lon, rng.uniform(0.2, 0.35) / 1.852, rng.uniform(0, 360))
    other = _drifter(rng, number + 1, "encounter", span, beside)
    other = Drifter(
        mmsi=other.mmsi,
        name=other.name,
        imo=other.imo,
        ship_type=other.ship_type,
        lat=beside[0],
        lon=beside[1],
        span=span,
        drift_kn=one.drift_kn,
        drift_course=one.drift_course,
        leg_kn=other.leg_kn,
        leg_course=(one.leg_course + 120) % 360,
    )
    return Cast(kind="encounter", transmitters=(one, other), mmsis=(one.mmsi, other.mmsi), span=span)


def loitering(rng: Random, number: int, duration_s: int) -> Cast:
    """A ship alone that drifts for 4.7 to 5.5 hours far offshore."""
    span = _span(rng, (4000, 7000), (4.7, 5.5))
    one = _drifter(rng, number, "loitering", span, _offshore_place(rng, number))
    return Cast(kind="loitering", transmitters=(one,), mmsis=(one.mmsi,), span=span)


def gear(rng: Random, number: int, duration_s: int) -> Cast:
    """A buoy that drifts along the coast, with its battery in its name."""
    one = _buoy(rng, number, f"ZSY{6_000 + number:05d}-{rng.randrange(1, 99)}", duration_s)
    return _gear_cast("gear", (one,), duration_s)


def gear_collision(rng: Random, number: int, duration_s: int) -> Cast:
    """Two buoys with one gear id, about 11 km apart."""
    identity = f"ZSY{6_000 + number:05d}-{rng.randrange(1, 99)}"
    one = _buoy(rng, number, identity, duration_s)
    other = _buoy(rng, number, identity, duration_s, is_second=True)
    return _gear_cast("gear_collision", (one, other), duration_s)


def _gear_cast(kind: str, buoys: tuple[Drifter, ...], duration_s: int) -> Cast:
    mmsis = tuple(buoy.mmsi for buoy in buoys)
    return Cast(kind=kind, transmitters=buoys, mmsis=mmsis, span=(0, duration_s), identity=buoys[0].name)


def _buoy(rng: Random, number: int, identity: str, duration_s: int, *, is_second: bool = False) -> Drifter:
    """A buoy in a row along the coast; all drift alike, and so never come near each other."""
    south, _, west, _ = COAST[number % len(COAST)]
    place, apart = number // len(COAST), _GEAR_APART_DEGREES if is_second else 0.0
    return Drifter(
        mmsi=412_900_000 + number + is_second,
        name=f"{SIMULATED_NAME}{identity}",
        imo="",
        ship_type=0,
        lat=south + 0.0125 * (place % 8) + apart,
        lon=west + 0.008 * (place // 8 % 4) + apart / 4,
        span=(0, duration_s),
        drift_kn=GEAR_DRIFT_KN,
        drift_course=0.0,
        battery=rng.randrange(70, 100),
    )


SCENES: Mapping[str, tuple[Callable[[Random, int, int], Cast], int, float]] = {
    "satellite_gap": (satellite_gap, 1, 16.5),
    "terrestrial_gap": (terrestrial_gap, 1, 8.0),
    "clone_once": (clone_once, 1, 1.0),
    "gear": (gear, 1, 0.0),
    "gear_collision": (gear_collision, 2, 0.0),
    "encounter": (encounter, 2, 6.0),
    "loitering": (loitering, 1, 8.0),
}
"""Kind -> its function, how many MMSI it takes, how many hours it needs to end before the file does."""
