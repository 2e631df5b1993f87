"""A simulated day of ship positions, in the format of the official daily file, with anomalies planted in it.

The same arguments give the same bytes. Every vessel is named `SIM ...`, so that a simulated row cannot
pass for an observation. The planted anomalies are returned, and written beside the file as
`<name>.truth.json`.
"""

from __future__ import annotations

import gzip
import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import IO

from airflow_detection.domain.specs import require_utc
from airflow_detection.maritime.simulation.fleet import SEAS, Ship, Transmitter, ship
from airflow_detection.maritime.simulation.scenes import SCENES, Cast

HEADER = (
    "MMSI,BaseDateTime,LAT,LON,SOG,COG,Heading,VesselName,IMO,CallSign,VesselType,Status,Length,Width,Draft,"
    "Cargo,TransceiverClass"
)
MIN_VESSELS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """The one report in `[started_at, ended_at]` is a position `km` from where the vessel is."""

    mmsi: int
    started_at: datetime
    ended_at: datetime
    km: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """An event in `[started_at, ended_at]`, UTC; `identity` is that of a piece of gear.

    A `satellite_gap` (far offshore) and a `terrestrial_gap` (near the coast) are silences; in `clone_once` an
    MMSI is in two seas for twenty minutes; in an `encounter` two ships lie side by side; `loitering` is one
    alone; `gear` is a buoy, and in a `gear_collision` two have one identity. The ends of gaps are up to three
    minutes inside of the fixes around them.
    """

    kind: str
    mmsis: tuple[int, ...]
    started_at: datetime
    ended_at: datetime
    identity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedTruth:
    """The planted anomalies: MMSI by kind, jumps in order of time, scenes. All others are plain traffic.

    Twins are two transmitters with one MMSI, at sea in two places all the time. Frozen vessels report speed
    from one place. Of `partly_unavailable` a third of the reports says that it has no position. `too_fast`
    are fishing vessels, cargo ships and tankers at 44 to 48 knots.
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
    too_fast: tuple[int, ...] = ()
    jumps: tuple[Jump, ...] = ()
    scenes: tuple[Scene, ...] = ()

    def of(self, kind: str) -> tuple[Scene, ...]:
        """Return the scenes of one kind."""
        return tuple(scene for scene in self.scenes if scene.kind == kind)


def write_day(
    path: Path, *, start: datetime, hours: float = 24, seed: int = 7, vessels: int = 200
) -> SimulatedTruth:
    """Write simulated traffic to `path` (gzip where the name ends in `.gz`) and what was planted beside it.

    Args:
        path: the CSV file to write; one that is there is replaced.
        start: the first instant; aware.
        hours: how long, > 0.
        seed: another seed, another day.
        vessels: how many MMSI, at least 20; of each kind of anomaly there is one in fifty (at least one),
            and of `too_fast` there are two. What takes longer than the file is not planted: all kinds need
            16.5 hours.
    Raises:
        ValueError: `start` has no time zone, or a number is out of bounds.
    """
    start = require_utc("start", start).replace(microsecond=0)
    if vessels < MIN_VESSELS:
        raise ValueError(f"vessels is {vessels}: must be at least {MIN_VESSELS}")
    if not 0 < hours < math.inf:
        raise ValueError(f"hours is {hours}: must be a number above 0")
    rng = Random(seed)  # noqa: S311 - repeatable on purpose
    each, duration_s = max(1, vessels // 50), round(hours * 3600)
    casts, taken = _casts(rng, each, duration_s)
    fleet = _fleet(rng, range(taken, vessels), each)
    on_air: list[Transmitter] = [*fleet, *(one for cast in casts for one in cast.transmitters)]
    rows = sorted(row for one in on_air for row in one.reports(rng, duration_s))
    with _writer(path) as file:
        file.write(HEADER + "\n")
        for second, _, text in rows:
            head, tail = text.split(",", 1)
            file.write(f"{head},{(start + timedelta(seconds=second)):%Y-%m-%dT%H:%M:%S},{tail}\n")
    truth = _truth(fleet, casts, start, hours=hours, seed=seed, vessels=vessels, rows=len(rows))
    text = json.dumps(asdict(truth), default=lambda instant: instant.isoformat(), indent=1)
    truth_path(path).write_text(text + "\n", encoding="utf-8")
    return truth


def truth_path(path: Path) -> Path:
    """Return where the truth of a simulated file is written: beside it."""
    return path.with_name(f"{path.name}.truth.json")


def _fleet(rng: Random, numbers: range, each: int) -> list[Ship]:
    """Return ships that are under way all the time: `each` of a kind, twice as many too fast."""
    kinds = ["jumper", "twin", "impossible_identity", "frozen", "partly_unavailable", "too_fast", "too_fast"]
    planted = [kind for kind in kinds for _ in range(each)]
    planted += ["plain"] * (len(numbers) - len(planted))
    fleet = []
    for number, kind in zip(numbers, planted, strict=True):
        mmsi = rng.choice((338, 366, 367, 538)) * 1_000_000 + 900_000 + number
        if kind == "impossible_identity":
            mmsi = 100_000_000 + number  # 100 is not a country
        fleet.append(ship(rng, number, mmsi, kind, SEAS[number % len(SEAS)]))
        if kind == "twin":
            fleet.append(ship(rng, number, mmsi, kind, SEAS[(number + 1) % len(SEAS)]))
    return fleet


def _casts(rng: Random, each: int, duration_s: int) -> tuple[list[Cast], int]:
    """Return the scenes that end within the file, `each` of a kind, and how many MMSI they take."""
    casts: list[Cast] = []
    number = 0
    for make, size, hours in SCENES.values():
        for _ in range(each if duration_s >= hours * 3600 else 0):
            casts.append(make(rng, number, duration_s))
            number += size
    return casts, number


def _truth(
    fleet: list[Ship], casts: list[Cast], start: datetime, *, hours: float, seed: int, vessels: int, rows: int
) -> SimulatedTruth:
    def of(kind: str) -> tuple[int, ...]:
        return tuple(sorted({ship.mmsi for ship in fleet if ship.kind == kind}))

    def at(second: int) -> datetime:
        return start + timedelta(seconds=second)

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
        too_fast=of("too_fast"),
        jumps=tuple(
            Jump(mmsi=mmsi, started_at=at(begin), ended_at=at(end), km=km) for begin, mmsi, end, km in jumps
        ),
        scenes=tuple(
            Scene(
                kind=cast.kind,
                mmsis=cast.mmsis,
                started_at=at(cast.span[0]),
                ended_at=at(cast.span[1]),
                identity=cast.identity,
            )
            for cast in casts
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
