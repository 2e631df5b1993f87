"""Kinds of traffic that are hard to judge, and the scores that are right: places and rates at random."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_detection.maritime.simulation.fleet import NM_PER_DEGREE, OFFSHORE

if TYPE_CHECKING:
    from random import Random

HOUR = 3600.0
NOISE_DEG = 4e-5
Bounds = tuple[float | None, float]
NOTHING: Bounds = (None, 0.0)
LOW: Bounds = (None, 0.3)
FOUND: Bounds = (0.3, 1.0)
Place = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedReport:
    """One report: seconds from the start of the day, degrees, knots."""

    mmsi: int
    second: float
    lat: float
    lon: float
    sog_kn: float | None = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficKind:
    """Reports, and by model the bounds (above, at most) of each vessel's highest score."""

    reports: tuple[SimulatedReport, ...]
    expect: Mapping[str, Bounds]
    vessel_type: int | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    judged: tuple[int, ...] = field(default=())

    @property
    def mmsis(self) -> tuple[int, ...]:
        """The vessels that are judged: by default all."""
        return self.judged or tuple(sorted({r.mmsi for r in self.reports}))


def _mmsi(rng: Random, number: int = 0) -> int:
    return rng.randrange(201, 775) * 1_000_000 + 900_000 + number


def _at_sea(rng: Random) -> Place:
    south, north, west, east = rng.choice(OFFSHORE)
    return rng.uniform(south + 0.4, north - 0.4), rng.uniform(west + 0.5, east - 0.5)


def _moved(place: Place, nm: float, course: float) -> Place:
    degrees = nm / NM_PER_DEGREE
    d_lon = degrees * math.sin(math.radians(course)) / math.cos(math.radians(place[0]))
    return place[0] + degrees * math.cos(math.radians(course)), (place[1] + d_lon + 180) % 360 - 180


def _report(rng: Random, mmsi: int, second: float, place: Place, kn: float | None) -> SimulatedReport:
    """A report with the noise of a receiver's position."""
    lat, lon = (degrees + rng.gauss(0, NOISE_DEG) for degrees in place)
    return SimulatedReport(mmsi=mmsi, second=second, lat=lat, lon=lon, sog_kn=kn)


def _under_way(
    rng: Random, mmsi: int, begin: float, end: float, step: float, place: Place, kn: float, course: float
) -> list[SimulatedReport]:
    """A ship on one course from `begin` to `end`, seconds."""
    count = int((end - begin) // step) + 1
    return [
        _report(rng, mmsi, begin + i * step, _moved(place, kn * i * step / HOUR, course), round(kn, 1))
        for i in range(count)
    ]


def _lying(
    rng: Random, mmsi: int, begin: float, end: float, step: float, place: Place
) -> list[SimulatedReport]:
    return _under_way(rng, mmsi, begin, end, step, place, 0.0, 0.0)


def null_island(rng: Random) -> TrafficKind:
    """Ships that lose their position and say 0, 0 for hours."""
    begin, hours = rng.uniform(3, 6) * HOUR, rng.uniform(2.5, 6)
    off = rng.choice((0.0, rng.uniform(0, 0.02)))
    reports: list[SimulatedReport] = []
    for number in range(rng.randrange(4, 10)):
        mmsi, home = _mmsi(rng, number), _at_sea(rng)
        step = rng.uniform(60, 300)
        reports += _lying(rng, mmsi, begin - HOUR, begin, step, home)
        reports += _lying(rng, mmsi, begin + step, begin + hours * HOUR, step, (off, -off))
        reports += _lying(rng, mmsi, begin + hours * HOUR + step, begin + (hours + 1) * HOUR, step, home)
    expect = {
        "spoofing": FOUND,
        "encounter": NOTHING,
        "loitering": NOTHING,
        "position_unavailable": (0.5, 1.0),
    }
    return TrafficKind(reports=tuple(reports), expect=expect)


def interference(rng: Random) -> TrafficKind:
    """Anchored ships that jump to one point together for some time, and back."""
    begin, minutes, middle = rng.uniform(3, 6) * HOUR, rng.uniform(15, 240), _at_sea(rng)
    point = _moved(middle, rng.uniform(20, 120), rng.uniform(0, 360))
    reports: list[SimulatedReport] = []
    for number in range(rng.randrange(5, 13)):
        mmsi, step = _mmsi(rng, number), rng.uniform(30, 120)
        home = _moved(_moved(middle, 0.9 * (number % 4), 90), 0.9 * (number // 4), 0)
        end = begin + 60 * minutes
        reports += _lying(rng, mmsi, begin - 1.5 * HOUR, begin, step, home)
        reports += _lying(rng, mmsi, begin + step, end, step, point)
        reports += _lying(rng, mmsi, end + step, end + 1.5 * HOUR, step, home)
    expect = {
        "spoofing": FOUND, "identity_collision": NOTHING, "encounter": NOTHING,
        "position_unavailable": (0.5, 1.0),
    }  # fmt: skip
    return TrafficKind(reports=tuple(reports), expect=expect)


def jump_across_a_silence(rng: Random) -> TrafficKind:
    """A ship that is silent for an hour or several, and back where it cannot have sailed."""
    mmsi, place, begin = _mmsi(rng), _at_sea(rng), rng.uniform(2, 6) * HOUR
    silent, kn, step = rng.uniform(61 / 60, 6) * HOUR, rng.uniform(6, 16), rng.uniform(30, 600)
    there = _moved(place, 100 * silent / HOUR + rng.uniform(100, 1500), rng.uniform(60, 120))
    reports = _under_way(rng, mmsi, begin, begin + 2 * HOUR, step, place, kn, 0)
    back = begin + 2 * HOUR + silent
    reports += _under_way(rng, mmsi, back, back + 2 * HOUR, step, there, kn, 0)
    return TrafficKind(reports=tuple(reports), expect={"spoofing": FOUND})


def honest_silence(rng: Random) -> TrafficKind:
    """A ship that is silent for hours, and back where it has sailed meanwhile."""
    mmsi, place, begin = _mmsi(rng), _at_sea(rng), rng.uniform(2, 6) * HOUR
    silent, kn, step = rng.uniform(1, 6) * HOUR, rng.uniform(6, 38), rng.uniform(30, 600)
    reports = _under_way(rng, mmsi, begin, begin + 2 * HOUR, step, place, kn, 90)
    back = begin + 2 * HOUR + silent
    there = _moved(place, kn * (back - begin) / HOUR, 90)
    reports += _under_way(rng, mmsi, back, back + 2 * HOUR, step, there, kn, 90)
    return TrafficKind(reports=tuple(reports), expect={"spoofing": NOTHING, "identity_collision": NOTHING})


def clone_in_turns(rng: Random) -> TrafficKind:
    """Two ships under one MMSI that transmit in turns, with more than a window of silence between."""
    mmsi, places = _mmsi(rng), (_at_sea(rng), (rng.uniform(-40, 10), rng.uniform(60, 90)))
    at, reports = rng.uniform(0, 2) * HOUR, list[SimulatedReport]()
    step = rng.uniform(30, 300)
    for number in range(6):
        on = rng.uniform(1, 3) * HOUR
        reports += _lying(rng, mmsi, at, at + on, step, places[number % 2])
        at += on + rng.uniform(61, 120) * 60
    return TrafficKind(reports=tuple(reports), expect={"spoofing": FOUND})


def two_receivers(rng: Random) -> TrafficKind:
    """An honest ship that two receivers hear, whose clocks differ by seconds or a minute and a half."""
    mmsi, place, begin = _mmsi(rng), _at_sea(rng), rng.uniform(2, 6) * HOUR
    late, kn, step = (
        rng.choice((rng.uniform(1, 6), rng.uniform(30, 100))),
        rng.uniform(10, 40),
        rng.uniform(4, 40),
    )
    heard = _under_way(rng, mmsi, begin, begin + 1.5 * HOUR, step, place, kn, rng.uniform(0, 360))
    again = [_report(rng, mmsi, r.second + late, (r.lat, r.lon), r.sog_kn) for r in heard]
    return TrafficKind(reports=(*heard, *again), expect={"spoofing": LOW, "identity_collision": NOTHING})


def no_ship(rng: Random) -> TrafficKind:
    """Aids to navigation, base stations, rescue aircraft, groups and boats of a parent ship, far offshore."""
    mid, number = rng.randrange(201, 775), rng.randrange(100, 999)
    place, begin, end = _at_sea(rng), rng.uniform(1, 3) * HOUR, rng.uniform(9, 12) * HOUR
    aid, base, boat = (
        99_0000000 + mid * 10_000 + number,
        mid * 10_000 + number,
        98_0000000 + mid * 10_000 + number,
    )
    group, aircraft, ship = mid * 100_000 + number, 111_000_000 + mid * 1000 + number, _mmsi(rng)
    reports: list[SimulatedReport] = []
    for mmsi, step in ((aid, 180.0), (base, 60.0), (boat, 120.0), (group, 300.0)):
        reports += _lying(
            rng, mmsi, begin, end, step, _moved(place, rng.uniform(0.02, 0.2), rng.uniform(0, 360))
        )
    reports += _lying(rng, ship, begin + HOUR, begin + 4 * HOUR, 120.0, _moved(place, 0.1, 45))
    reports += _under_way(rng, aircraft, begin, begin + HOUR, 10.0, place, rng.uniform(100, 160), 30)
    expect = {"spoofing": LOW, "identity_collision": NOTHING, "encounter": NOTHING, "loitering": NOTHING}
    return TrafficKind(reports=tuple(reports), expect=expect, judged=(aid, base, boat, group, aircraft))


def satellite_encounter(rng: Random) -> TrafficKind:
    """Two ships side by side for hours, each heard by satellite only."""
    place, begin, hours = _at_sea(rng), rng.uniform(1, 4) * HOUR, rng.uniform(5, 9)
    beside = _moved(place, rng.uniform(0.05, 0.15), rng.uniform(0, 360))
    step, reports = rng.uniform(30, 45) * 60, list[SimulatedReport]()
    for number, at in enumerate((place, beside)):
        first = begin + rng.uniform(0, 600)
        reports += _lying(rng, _mmsi(rng, number), first, begin + hours * HOUR, step, at)
    return TrafficKind(reports=tuple(reports), expect={"encounter": FOUND, "loitering": FOUND})


def encounter_with_a_hole(rng: Random) -> TrafficKind:
    """Two ships side by side for five hours, both silent for 35 to 50 minutes in between."""
    place, begin = _at_sea(rng), rng.uniform(1, 6) * HOUR
    beside = _moved(place, rng.uniform(0.05, 0.15), rng.uniform(0, 360))
    hole, silent, reports = (
        begin + rng.uniform(1, 3.5) * HOUR,
        rng.uniform(35, 50) * 60,
        list[SimulatedReport](),
    )
    for number, at in enumerate((place, beside)):
        mmsi, step = _mmsi(rng, number), rng.uniform(60, 420)
        heard = _lying(rng, mmsi, begin, begin + 5 * HOUR, step, at)
        reports += [r for r in heard if not hole < r.second < hole + silent]
    return TrafficKind(reports=tuple(reports), expect={"encounter": (0.74, 1.0)})


def gap_with_a_ghost(rng: Random) -> TrafficKind:
    """A long silence far offshore, with one false fix somewhere in the middle."""
    mmsi, place, begin = _mmsi(rng), _at_sea(rng), rng.uniform(0.5, 2) * HOUR
    step, silent, kn = rng.uniform(300, 600), rng.uniform(13, 18) * HOUR, rng.uniform(6, 12)
    reports = _under_way(rng, mmsi, begin, begin + 3 * HOUR, step, place, kn, 180)
    ghost = begin + 3 * HOUR + rng.uniform(0.3, 0.7) * silent
    reports.append(_report(rng, mmsi, ghost, _moved(place, rng.uniform(900, 2500), 90), kn))
    back = begin + 3 * HOUR + silent
    reports += _under_way(
        rng, mmsi, back, back + HOUR, step, _moved(place, kn * (back - begin) / HOUR, 180), kn, 180
    )
    return TrafficKind(reports=tuple(reports), expect={"ais_gap": FOUND})


def repeated_false_fix(rng: Random) -> TrafficKind:
    """A ship of which one false fix comes again and again, always at the same wrong place."""
    mmsi, place, begin, hours = _mmsi(rng), _at_sea(rng), rng.uniform(1, 4) * HOUR, rng.uniform(4, 10)
    wrong, kn, step = _moved(place, rng.uniform(100, 900), rng.uniform(0, 360)), rng.uniform(0, 12), 60.0
    reports = _under_way(rng, mmsi, begin, begin + hours * HOUR, step, place, kn, 0)
    at = begin + rng.uniform(0, 900)
    while at < begin + hours * HOUR:
        reports.append(_report(rng, mmsi, at + 30, wrong, round(kn, 1)))
        at += rng.uniform(8, 25) * 60
    return TrafficKind(reports=tuple(reports), expect={"identity_collision": NOTHING, "spoofing": FOUND})


def fast_craft(rng: Random) -> TrafficKind:
    """A craft of a fast type at 40 to 60 knots."""
    mmsi, place, begin = _mmsi(rng), _at_sea(rng), rng.uniform(1, 9) * HOUR
    kn, step = rng.uniform(40, 60), rng.uniform(5, 180)
    reports = _under_way(rng, mmsi, begin, begin + 2 * HOUR, step, place, kn, rng.uniform(0, 360))
    code = rng.choice((35, 37, 40, 45, 49, 51, 55))
    return TrafficKind(
        reports=tuple(reports), expect={"spoofing": NOTHING, "identity_collision": NOTHING}, vessel_type=code
    )


def tow(rng: Random) -> TrafficKind:
    """A tug and its tow, or two radios in one hull: under way side by side, then adrift for hours."""
    place, begin, apart = _at_sea(rng), rng.uniform(1, 4) * HOUR, rng.choice((0.008, rng.uniform(0.03, 0.15)))
    course, kn, sailed = rng.uniform(0, 360), rng.uniform(3, 9), rng.uniform(1.5, 3) * HOUR
    step, reports = rng.uniform(60, 300), list[SimulatedReport]()
    for number in range(2):
        mmsi, own = _mmsi(rng, number), _moved(place, number * apart, course)
        reports += _under_way(rng, mmsi, begin, begin + sailed, step, own, kn, course)
        end = _moved(own, kn * sailed / HOUR, course)
        reports += _lying(rng, mmsi, begin + sailed + step, begin + sailed + 4 * HOUR, step, end)
    return TrafficKind(reports=tuple(reports), expect={"encounter": NOTHING})


def interference_in_turns(rng: Random) -> TrafficKind:
    """Anchored ships whose receivers are deceived now and then: one place and the other in turns."""
    begin, minutes, middle = rng.uniform(3, 6) * HOUR, rng.uniform(60, 240), _at_sea(rng)
    point = _moved(middle, rng.uniform(25, 120), rng.uniform(0, 360))
    on, reports = rng.uniform(120, 900), list[SimulatedReport]()
    for number in range(rng.randrange(6, 13)):
        mmsi, step = _mmsi(rng, number), rng.uniform(20, 90)
        home = _moved(_moved(middle, 0.9 * (number % 4), 90), 0.9 * (number // 4), 0)
        for report in _lying(rng, mmsi, begin - HOUR, begin + 60 * minutes, step, home):
            is_deceived = report.second > begin and (report.second - begin) // on % 2 == 0
            if is_deceived:
                report = _report(rng, mmsi, report.second, point, 0.1)
            reports.append(report)
    expect = {
        "spoofing": FOUND, "identity_collision": NOTHING, "encounter": NOTHING,
        "position_unavailable": (0.5, 1.0),
    }  # fmt: skip
    return TrafficKind(reports=tuple(reports), expect=expect)


def interference_on_a_ring(rng: Random) -> TrafficKind:
    """Anchored ships that are made to believe that they sail on a ring around one place."""
    begin, minutes, middle = rng.uniform(3, 6) * HOUR, rng.uniform(60, 240), _at_sea(rng)
    centre = _moved(middle, rng.uniform(30, 120), rng.uniform(0, 360))
    radius_nm, kn, reports = rng.uniform(0.1, 2.0), rng.uniform(8, 25), list[SimulatedReport]()
    for number in range(rng.randrange(6, 13)):
        mmsi, step, phase = _mmsi(rng, number), rng.uniform(20, 90), rng.uniform(0, 360)
        home = _moved(_moved(middle, 0.9 * (number % 4), 90), 0.9 * (number // 4), 0)
        end = begin + 60 * minutes
        reports += _lying(rng, mmsi, begin - 1.5 * HOUR, begin, step, home)
        for report in _lying(rng, mmsi, begin + step, end, step, centre):
            turned = math.degrees(kn * (report.second - begin) / HOUR / radius_nm)
            reports.append(
                _report(rng, mmsi, report.second, _moved(centre, radius_nm, phase + turned), round(kn, 1))
            )
        reports += _lying(rng, mmsi, end + step, end + 1.5 * HOUR, step, home)
    expect = {
        "spoofing": FOUND, "identity_collision": NOTHING, "encounter": NOTHING,
        "position_unavailable": (0.5, 1.0),
    }  # fmt: skip
    return TrafficKind(reports=tuple(reports), expect=expect)


def default_point(rng: Random) -> TrafficKind:
    """Ships that never say anything but one point at sea where nobody is, for hours."""
    point, begin, hours = _at_sea(rng), rng.uniform(1, 6) * HOUR, rng.uniform(2.5, 6)
    reports: list[SimulatedReport] = []
    for number in range(rng.randrange(5, 12)):
        mmsi, step, end = _mmsi(rng, number), rng.uniform(60, 300), begin + hours * HOUR
        times = (end - k * step for k in range(int((hours * HOUR - rng.uniform(0, 900)) // step)))
        reports += [
            SimulatedReport(mmsi=mmsi, second=second, lat=point[0], lon=point[1], sog_kn=0.0)
            for second in times
        ]
    expect = {
        "spoofing": FOUND, "identity_collision": NOTHING, "encounter": NOTHING, "loitering": NOTHING,
        "position_unavailable": (0.5, 1.0),
    }  # fmt: skip
    return TrafficKind(reports=tuple(reports), expect=expect)


def long_silence(rng: Random) -> TrafficKind:
    """A ship far offshore that is silent for longer than the history, and back."""
    mmsi, place = _mmsi(rng), _at_sea(rng)
    step, silent, kn = rng.uniform(300, 600), rng.uniform(40, 80) * HOUR, rng.uniform(0.5, 3)
    reports = _under_way(rng, mmsi, HOUR, 4 * HOUR, step, place, kn, 180)
    last = reports[-1].second
    back = _moved(place, kn * (last + silent - HOUR) / HOUR, 180)
    reports += _under_way(rng, mmsi, last + silent, last + silent + 0.5 * HOUR, step, back, kn, 180)
    return TrafficKind(reports=tuple(reports), expect={"ais_gap": (0.9, 1.0), "spoofing": NOTHING})


def satellite_loitering(rng: Random) -> TrafficKind:
    """A ship adrift alone for hours, heard by satellite only, with one hole of nearly an hour."""
    mmsi, place, hours = _mmsi(rng), _at_sea(rng), rng.uniform(6, 10)
    begin, step = rng.uniform(1, 6) * HOUR, rng.uniform(25, 40) * 60
    heard = _under_way(rng, mmsi, begin, begin + hours * HOUR, step, place, rng.uniform(0.1, 0.9), 45)
    late = rng.uniform(0, 55 * 60 - step)
    half = len(heard) // 2
    reports = heard[:half] + [
        SimulatedReport(mmsi=mmsi, second=r.second + late, lat=r.lat, lon=r.lon, sog_kn=r.sog_kn)
        for r in heard[half:]
    ]
    return TrafficKind(reports=tuple(reports), expect={"loitering": FOUND, "encounter": NOTHING})


def kept_up_speed(rng: Random) -> TrafficKind:
    """A tanker, cargo ship or fishing vessel that keeps a speed that none has."""
    mmsi, place, begin = _mmsi(rng), _at_sea(rng), rng.uniform(1, 9) * HOUR
    kn, step = rng.uniform(75, 150), rng.uniform(5, 180)
    reports = _under_way(rng, mmsi, begin, begin + 1.5 * HOUR, step, place, kn, rng.uniform(0, 360))
    return TrafficKind(
        reports=tuple(reports), expect={"spoofing": FOUND}, vessel_type=rng.choice((30, 70, 80))
    )


def rescue_craft(rng: Random) -> TrafficKind:
    """A helicopter that sends a ship's MMSI and the type of rescue craft."""
    mmsi, place, begin = _mmsi(rng), _at_sea(rng), rng.uniform(1, 9) * HOUR
    kn, step = rng.uniform(60, 150), rng.uniform(5, 120)
    reports = _under_way(rng, mmsi, begin, begin + HOUR, step, place, kn, rng.uniform(0, 360))
    back = reports[-1]
    reports += _lying(rng, mmsi, back.second + step, back.second + HOUR, step, (back.lat, back.lon))
    expect = {"spoofing": LOW, "identity_collision": NOTHING, "encounter": NOTHING}
    return TrafficKind(reports=tuple(reports), expect=expect, vessel_type=51)


def stuck_false_fix(rng: Random) -> TrafficKind:
    """A ship of which one old fix, to the last digit, comes again and again among those that are right."""
    mmsi, place, begin, hours = _mmsi(rng), _at_sea(rng), rng.uniform(1, 4) * HOUR, rng.uniform(4, 10)
    kn, step = rng.uniform(8, 14), rng.uniform(20, 90)
    wrong = _moved(place, rng.uniform(100, 900), rng.uniform(0, 360))
    reports = _under_way(rng, mmsi, begin, begin + hours * HOUR, step, place, kn, 0)
    at = begin + rng.uniform(0, 900)
    while at < begin + hours * HOUR:
        reports.append(SimulatedReport(mmsi=mmsi, second=at + 1, lat=wrong[0], lon=wrong[1], sog_kn=0.0))
        at += rng.uniform(6, 20) * 60
    return TrafficKind(reports=tuple(reports), expect={"identity_collision": NOTHING, "spoofing": FOUND})


def clone_all_day(rng: Random) -> TrafficKind:
    """Two ships under one MMSI, far apart, heard at rates of their own."""
    mmsi, place = _mmsi(rng), _at_sea(rng)
    other = _moved(place, rng.uniform(30, 900), rng.uniform(0, 360))
    begin, hours = rng.uniform(1, 6) * HOUR, rng.uniform(4.5, 8)
    first, second = rng.uniform(20, 300), rng.uniform(20, 900)
    reports = _lying(rng, mmsi, begin, begin + hours * HOUR, first, place)
    reports += _under_way(
        rng, mmsi, begin + 7, begin + hours * HOUR, second, other, rng.uniform(4, 12), rng.uniform(0, 360)
    )
    return TrafficKind(
        reports=tuple(reports), expect={"identity_collision": (0.7, 1.0), "spoofing": (0.3, 1.0)}
    )


def frozen_position(rng: Random) -> TrafficKind:
    """A ship that says one position to the last digit for hours, and a speed."""
    mmsi, place, begin = _mmsi(rng), _at_sea(rng), rng.uniform(1, 6) * HOUR
    kn, step = rng.uniform(6, 20), rng.uniform(10, 180)
    count = int(rng.uniform(1, 4) * HOUR // step)
    reports = [
        SimulatedReport(mmsi=mmsi, second=begin + i * step, lat=place[0], lon=place[1], sog_kn=round(kn, 1))
        for i in range(count)
    ]
    return TrafficKind(reports=tuple(reports), expect={"track_quality": (0.5, 0.9), "spoofing": LOW})


def berth_circle(rng: Random) -> TrafficKind:
    """A ship at its berth that is made to believe that it sails in a circle."""
    mmsi, place, begin = _mmsi(rng), _at_sea(rng), rng.uniform(1, 6) * HOUR
    radius_nm, step = rng.uniform(0.05, 0.6), rng.uniform(5, 60)
    round_nm = 2 * math.pi * radius_nm
    slowest = max(5, 2.5 * round_nm)  # twice round within an hour
    kn = rng.uniform(slowest, max(slowest, min(25, round_nm / 3 * HOUR / step)))  # three fixes a turn
    end, reports = begin + rng.uniform(1, 4) * HOUR, list[SimulatedReport]()
    for report in _lying(rng, mmsi, begin, end, step, place):
        turned = math.degrees(kn * (report.second - begin) / HOUR / radius_nm)
        reports.append(_report(rng, mmsi, report.second, _moved(place, radius_nm, turned), round(kn, 1)))
    return TrafficKind(reports=tuple(reports), expect={"track_quality": (0.5, 0.9), "spoofing": LOW})


def honest_manoeuvres(rng: Random) -> TrafficKind:
    """Ships at anchor, at a berth, dredging to and fro, and drifting in a turn: nothing is wrong."""
    reports: list[SimulatedReport] = []
    begin, end, step = HOUR, 6 * HOUR, rng.uniform(10, 120)
    anchored, moored, dredging, turning = (_mmsi(rng, number) for number in range(4))
    place, swing = _at_sea(rng), rng.uniform(0.03, 0.15)
    for report in _lying(rng, anchored, begin, end, step, place):
        course = 180 + 100 * math.sin(report.second / 4 / HOUR)
        reports.append(_report(rng, anchored, report.second, _moved(place, swing, course), 0.3))
    berth = _at_sea(rng)
    reports += [
        SimulatedReport(mmsi=moored, second=begin + i * step, lat=berth[0], lon=berth[1], sog_kn=0.0)
        for i in range(int((end - begin) // step))
    ]
    lane, kn = _at_sea(rng), rng.uniform(4, 10)
    for report in _lying(rng, dredging, begin, end, step, lane):
        nm = kn * (report.second - begin) / HOUR % 4
        place = _moved(lane, min(nm, 4 - nm), 20)
        reports.append(_report(rng, dredging, report.second, place, round(kn, 1)))
    once = _at_sea(rng)
    for report in _lying(rng, turning, begin, end, step, once):
        turned = min(math.degrees(8 * max(report.second - begin - HOUR, 0) / HOUR / 0.2), 400.0)
        nm = 8 * max(begin + HOUR - report.second, 0) / HOUR
        reports.append(
            _report(rng, turning, report.second, _moved(_moved(once, 0.2, turned), nm, 180), 8.0)
            if turned < 400
            else _report(rng, turning, report.second, _moved(once, 0.2, turned), 0.1)
        )
    expect = {"track_quality": NOTHING, "spoofing": NOTHING, "identity_collision": NOTHING}
    return TrafficKind(reports=tuple(reports), expect=expect)


def late_receiver(rng: Random) -> TrafficKind:
    """An honest ship of which a second receiver writes minutes or whole hours too late."""
    mmsi, place, begin = _mmsi(rng), _at_sea(rng), rng.uniform(0.5, 2) * HOUR
    kn, course, step = rng.uniform(9, 20), rng.uniform(0, 360), rng.uniform(20, 120)
    late = rng.choice((rng.uniform(240, 900), 0.5 * HOUR * rng.randrange(1, 20)))
    heard = _under_way(rng, mmsi, begin, begin + 14 * HOUR, step, place, kn, course)
    also = begin + HOUR + rng.uniform(0, HOUR)
    again = [
        _report(rng, mmsi, r.second + late, (r.lat, r.lon), r.sog_kn)
        for r in heard[:: rng.randrange(1, 6)]
        if also < r.second < also + 4 * HOUR
    ]
    return TrafficKind(reports=(*heard, *again), expect={"spoofing": LOW, "identity_collision": NOTHING})


def lost_sign(rng: Random) -> TrafficKind:
    """An honest ship of which some reports lose a sign of their position, or have its columns swapped."""
    mmsi, begin, step = _mmsi(rng), rng.uniform(0.5, 6) * HOUR, rng.uniform(20, 120)
    place = rng.uniform(30, 50) * rng.choice((1, -1)), rng.uniform(10, 25) * rng.choice((1, -1))
    kn, every = rng.uniform(0, 18), rng.randrange(2, 25)
    image = rng.choice(((-1, 1), (1, -1), (-1, -1), None))
    reports = _under_way(rng, mmsi, begin, begin + 7 * HOUR, step, place, kn, rng.uniform(0, 360))
    for number in range(0, len(reports), every):
        r = reports[number]
        lat, lon = (r.lon, r.lat) if image is None else (image[0] * r.lat, image[1] * r.lon)
        reports[number] = SimulatedReport(mmsi=mmsi, second=r.second, lat=lat, lon=lon, sog_kn=r.sog_kn)
    return TrafficKind(reports=tuple(reports), expect={"identity_collision": NOTHING, "spoofing": FOUND})


def drifting_gear(rng: Random) -> TrafficKind:
    """Buoys of a net under ships' MMSI and names of gear, adrift near each other and their boat."""
    place, begin, hours = _at_sea(rng), rng.uniform(1, 4) * HOUR, rng.uniform(6, 12)
    kn, course, step = rng.uniform(0.2, 1.5), rng.uniform(0, 360), rng.uniform(120, 600)
    reports: list[SimulatedReport] = []
    boat, names = _mmsi(rng, 99), dict[int, str]()
    end = begin + hours * HOUR
    for number in range(rng.randrange(2, 8)):
        mmsi, at = _mmsi(rng, number), _moved(place, rng.uniform(0.08, 0.2) * number, 90)
        names[mmsi] = f"LUYU{rng.randrange(10_000, 99_999)}-{number + 1}-{rng.randrange(10, 100)}%"
        reports += _under_way(rng, mmsi, begin, end, step, at, kn, course)
    reports += _under_way(rng, boat, begin, begin + 3.5 * HOUR, 60, _moved(place, 0.05, 0), kn, course)
    expect = {"encounter": NOTHING, "loitering": NOTHING, "identity_collision": NOTHING}
    return TrafficKind(reports=tuple(reports), expect=expect, names=names, judged=tuple(names))


KINDS: tuple[Callable[[Random], TrafficKind], ...] = (
    null_island, interference, jump_across_a_silence, honest_silence, clone_in_turns, two_receivers, no_ship,
    satellite_encounter, encounter_with_a_hole, gap_with_a_ghost, repeated_false_fix, fast_craft, tow,
    interference_in_turns, interference_on_a_ring, default_point, long_silence, satellite_loitering,
    kept_up_speed, rescue_craft, stuck_false_fix, clone_all_day, frozen_position, berth_circle,
    honest_manoeuvres, late_receiver, lost_sign, drifting_gear,
)  # fmt: skip
"""Functions that each make one variant of a kind."""
