"""A simulated day of ship positions, in the format of the official daily file, with anomalies planted in it.

The same arguments give the same bytes. Every vessel is named `SIM ...`, so that nothing made here can pass
for an observation. What was planted is returned, and written beside the file as `<name>.truth.json`.
"""

from __future__ import annotations

import gzip
import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import IO

from airflow_detection.domain import require_utc
from airflow_detection.maritime.ais import SIMULATED_NAME

HEADER = (
    "MMSI,BaseDateTime,LAT,LON,SOG,COG,Heading,VesselName,IMO,CallSign,VesselType,Status,Length,Width,Draft,"
    "Cargo,TransceiverClass"
)
MIN_VESSELS = 20
REPORT_S = 180
_NM_PER_DEGREE = 60.0

# Open water: south, north, west, east, degrees.
_SEAS = (
    (24.5, 27.5, -94.0, -86.0),
    (29.0, 38.0, -73.0, -64.0),
    (31.0, 41.0, -135.0, -126.0),
    (50.0, 56.0, -150.0, -140.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """While it lasts, `[started_at, ended_at]`, a vessel reports positions `km` from where it is."""

    mmsi: int
    started_at: datetime
    ended_at: datetime
    km: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedTruth:
    """What was planted: MMSI by kind, and the jumps in order of time. Every other vessel is plain traffic.

    Twins are two transmitters with one MMSI, at sea in two places all the time. Frozen vessels report speed
    from one place. Of `partly_unavailable` a third of the reports says that it has no position.
    """

    start: datetime
    hours: float
    seed: int
    vessels: int
    rows: int = 0
    jumpers: tuple[int, ...] = ()
    twins: tuple[int, ...] = ()
    impossible_identities: tuple[int, ...] = ()
    frozen: tuple[int, ...] = ()
    partly_unavailable: tuple[int, ...] = ()
    jumps: tuple[Jump, ...] = ()


def write_day(
    path: Path, *, start: datetime, hours: float = 24, seed: int = 7, vessels: int = 200
) -> SimulatedTruth:
    """Write simulated traffic to `path` (gzip where the name ends in `.gz`) and what was planted beside it.

    Args:
        path: the CSV file to write; one that is there is replaced.
        start: the first instant; aware.
        hours: how long, > 0.
        seed: another seed, another day.
        vessels: how many vessels, at least 20; one in fifty (at least one) has each kind of anomaly.
    Raises:
        ValueError: `start` has no time zone, or a number is out of bounds.
    """
    start = require_utc("start", start).replace(microsecond=0)
    if vessels < MIN_VESSELS:
        raise ValueError(f"vessels must be at least {MIN_VESSELS}, not {vessels}")
    if not 0 < hours < math.inf:
        raise ValueError(f"hours must be above 0, not {hours}")
    rng = Random(seed)  # noqa: S311 - repeatable on purpose
    fleet = _fleet(rng, vessels)
    rows = sorted(row for ship in fleet for row in _reports(ship, rng, round(hours * 3600)))
    with _writer(path) as file:
        file.write(HEADER + "\n")
        for second, _, text in rows:
            head, tail = text.split(",", 1)
            file.write(f"{head},{(start + timedelta(seconds=second)):%Y-%m-%dT%H:%M:%S},{tail}\n")
    truth = _truth(fleet, start, hours=hours, seed=seed, vessels=vessels, rows=len(rows))
    text = json.dumps(asdict(truth), default=lambda instant: instant.isoformat(), indent=1)
    path.with_name(path.name + ".truth.json").write_text(text + "\n", encoding="utf-8")
    return truth


@dataclass(slots=True, kw_only=True)
class _Ship:
    """A transmitter on its way: a position in degrees, a speed in knots, a course in degrees."""

    mmsi: int
    name: str
    kind: str
    sea: tuple[float, float, float, float]
    lat: float
    lon: float
    kn: float
    course: float
    imo: str
    ship_type: int
    has_heading: bool
    jumps: list[tuple[int, int, float]] = field(default_factory=list)

    def sail(self, seconds: int, rng: Random) -> None:
        """Move on; now and then turn, and at the edge of the sea turn back to its middle."""
        south, north, west, east = self.sea
        if not (south < self.lat < north and west < self.lon < east):
            d_lon = ((west + east) / 2 - self.lon) * math.cos(math.radians(self.lat))
            self.course = math.degrees(math.atan2(d_lon, (south + north) / 2 - self.lat)) % 360
        elif rng.random() < 0.05:
            self.course = (self.course + rng.uniform(-40, 40)) % 360
        self.kn = min(max(self.kn + rng.uniform(-0.2, 0.2), 4.0), 20.0)
        degrees = self.kn * seconds / 3600 / _NM_PER_DEGREE
        self.lat += degrees * math.cos(math.radians(self.course))
        self.lon += degrees * math.sin(math.radians(self.course)) / math.cos(math.radians(self.lat))


def _fleet(rng: Random, vessels: int) -> list[_Ship]:
    each = max(1, vessels // 50)
    kinds = ["jumper", "twin", "impossible_identity", "frozen", "partly_unavailable"]
    wanted = [kind for kind in kinds for _ in range(each)]
    wanted += ["plain"] * (vessels - len(wanted))
    fleet = []
    for number, kind in enumerate(wanted):
        sea = number % len(_SEAS)
        mmsi = rng.choice((338, 366, 367, 538)) * 1_000_000 + 900_000 + number
        if kind == "impossible_identity":
            mmsi = 100_000_000 + number  # 100 is no country
        ship = _ship(rng, number, mmsi, kind, _SEAS[sea])
        fleet.append(ship)
        if kind == "twin":
            fleet.append(_ship(rng, number, mmsi, kind, _SEAS[(sea + 1) % len(_SEAS)]))
    return fleet


def _ship(rng: Random, number: int, mmsi: int, kind: str, sea: tuple[float, float, float, float]) -> _Ship:
    south, north, west, east = sea
    digits = f"{900_000 + number:06d}"
    check = sum(int(digit) * weight for digit, weight in zip(digits, range(7, 1, -1), strict=True)) % 10
    label = "VESSEL" if kind == "plain" else kind.upper().replace("_", " ")
    return _Ship(
        mmsi=mmsi,
        name=f"{SIMULATED_NAME}{label} {number:03d}",
        kind=kind,
        sea=sea,
        lat=rng.uniform(south + 0.5, north - 0.5),
        lon=rng.uniform(west + 0.5, east - 0.5),
        kn=rng.uniform(6, 16),
        course=rng.uniform(0, 360),
        imo=f"IMO{digits}{check}",
        ship_type=rng.choice((30, 60, 70, 70, 80)),
        has_heading=rng.random() < 0.8,
    )


def _reports(ship: _Ship, rng: Random, duration_s: int) -> Iterator[tuple[int, int, str]]:
    """Iterate over (second, MMSI, row without its time), one about every three minutes."""
    second = rng.randrange(REPORT_S)
    # the first within half an hour, then every 35 to 50 minutes: no hour is without one
    jump_at, off_until, off = second + rng.randrange(600, 1800), -1, (0.0, 0.0)
    number = 0
    while second < duration_s:
        if ship.kind == "jumper" and second >= jump_at:
            off_until, off = second + rng.randrange(200, 400), _offset(ship, rng, second)
            jump_at = second + rng.randrange(2100, 3000)
            ship.jumps[-1] = (second, min(off_until, duration_s - 1), ship.jumps[-1][2])
        shift = off if second <= off_until else (0.0, 0.0)
        yield second, ship.mmsi, _row(ship, rng, shift, has_position=number % 3 != 2)
        number += 1
        step = REPORT_S + rng.randrange(-10, 11)
        second += step
        if ship.kind != "frozen":
            ship.sail(step, rng)


def _offset(ship: _Ship, rng: Random, second: int) -> tuple[float, float]:
    """Choose where a jump goes, degrees of latitude and longitude; note it on the ship."""
    km, bearing = rng.uniform(60, 300), math.radians(rng.uniform(0, 360))
    degrees = km / 1.852 / _NM_PER_DEGREE
    ship.jumps.append((second, second, round(km, 1)))
    return degrees * math.cos(bearing), degrees * math.sin(bearing) / math.cos(math.radians(ship.lat))


def _row(ship: _Ship, rng: Random, shift: tuple[float, float], *, has_position: bool) -> str:
    lat, lon = f"{ship.lat + shift[0]:.5f}", f"{ship.lon + shift[1]:.5f}"
    sog = f"{max(ship.kn + rng.uniform(-0.1, 0.1), 0):.1f}"
    heading = str(round(ship.course) % 360) if ship.has_heading else "511"
    if ship.kind == "partly_unavailable" and not has_position:
        lat, lon, sog, heading = "91.0", "181.0", "102.3", "511"
    cog = f"{ship.course:.1f}" if ship.course < 359.95 else "0.0"
    described = f"{ship.name},{ship.imo},SIM{ship.mmsi % 10_000:04d},{ship.ship_type},0,100,20,8.0,,A"
    return f"{ship.mmsi},{lat},{lon},{sog},{cog},{heading},{described}"


def _truth(
    fleet: list[_Ship], start: datetime, *, hours: float, seed: int, vessels: int, rows: int
) -> SimulatedTruth:
    def of(kind: str) -> tuple[int, ...]:
        return tuple(sorted({ship.mmsi for ship in fleet if ship.kind == kind}))

    jumps = sorted((begin, ship.mmsi, end, km) for ship in fleet for begin, end, km in ship.jumps)
    return SimulatedTruth(
        start=start,
        hours=hours,
        seed=seed,
        vessels=vessels,
        rows=rows,
        jumpers=of("jumper"),
        twins=of("twin"),
        impossible_identities=of("impossible_identity"),
        frozen=of("frozen"),
        partly_unavailable=of("partly_unavailable"),
        jumps=tuple(
            Jump(
                mmsi=mmsi,
                started_at=start + timedelta(seconds=begin),
                ended_at=start + timedelta(seconds=end),
                km=km,
            )
            for begin, mmsi, end, km in jumps
        ),
    )


@contextmanager
def _writer(path: Path) -> Iterator[IO[str]]:
    with path.open("wb") as raw:
        if path.suffix != ".gz":
            with io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as text:
                yield text
            return
        # no name and no time in the header: the same day, the same bytes
        with (
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
            io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text,
        ):
            yield text
