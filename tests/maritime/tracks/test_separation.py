"""Tracks that a ship can sail: one vessel's fixes separated, the others left alone."""

from __future__ import annotations

import itertools
import math
import random
import time
from typing import Any

import numpy as np
import pytest
from tests.maritime.conftest import COLUMNS, SHIP, Row, fix

from airflow_detection.domain.inputs import Inputs
from airflow_detection.maritime.tracks.fixes import Fixes, in_time_order, read_fixes
from airflow_detection.maritime.tracks.geo import haversine_km
from airflow_detection.maritime.tracks.separation import separate


def fixes_of(rows: list[Row]) -> Fixes:
    return in_time_order(read_fixes(Inputs.of_rows(rows, COLUMNS)))


def tracks_of(rows: list[Row], **options: float) -> list[int]:
    tracks: list[int] = separate(fixes_of(rows), **options).tolist()
    return tracks


def km_between(fixes: Fixes, i: int, j: int) -> float:
    one = [values[[i]] for values in (fixes.lat, fixes.lon)]
    return float(haversine_km(*one, fixes.lat[[j]], fixes.lon[[j]])[0])


def plainly_separated(fixes: Fixes, v_max_kn: float) -> list[int]:
    """Separate by the same rule, every fix of every vessel, one after the other."""
    tracks: list[list[int]] = []
    for i in range(len(fixes)):
        own = [t for t in tracks if fixes.mmsi[t[-1]] == fixes.mmsi[i]]
        possible = []
        for t in own:
            km = km_between(fixes, t[-1], i)
            kn = km / 1.852 * 3600 / max(fixes.observed_s[i] - fixes.observed_s[t[-1]], 1.0)
            if t[-1] == i - 1 and km < 1:
                possible = [(0.0, t)]
                break
            if km < 1 or kn <= v_max_kn:
                possible.append((km, t))
        if possible:
            min(possible, key=lambda candidate: candidate[0])[1].append(i)
        else:
            tracks.append([i])
    numbers = [0] * len(fixes)
    for number, members in enumerate(tracks):
        for i in members:
            numbers[i] = number
    return numbers


def test_a_ship_on_its_way_is_one_track() -> None:
    assert tracks_of([fix(60 * i, 10 + i * 0.005, 20) for i in range(30)]) == [0] * 30


def test_two_transmitters_under_one_mmsi_are_two_tracks() -> None:
    rows = [fix(60 * i, 10 + (i % 2) * 5 + i * 0.001, 20) for i in range(10)]
    assert tracks_of(rows) == [0, 1] * 5


def test_numbers_are_unique_over_vessels_and_in_their_order() -> None:
    rows = [fix(60 * i, 10 + (i % 2) * 5, 20, mmsi=SHIP + k) for k in (0, 2) for i in range(4)]
    rows += [fix(60 * i, 10, 20, mmsi=SHIP + 1) for i in range(3)]
    assert tracks_of(rows) == [0, 1, 0, 1, 2, 2, 2, 3, 4, 3, 4]


def test_a_single_false_fix_is_a_track_of_its_own() -> None:
    rows = [fix(60 * i, 40 if i == 3 else 10 + i * 0.001, 20) for i in range(7)]
    assert tracks_of(rows) == [0, 0, 0, 1, 0, 0, 0]


def test_of_two_tracks_in_reach_the_nearer_one_goes_on() -> None:
    rows = [fix(0, 10, 20), fix(30, 10.3, 20), fix(3000, 10.02, 20), fix(3300, 10.05, 20)]
    assert tracks_of(rows) == [0, 1, 0, 0]
    assert tracks_of([*rows[:2], fix(3000, 10.28, 20)]) == [0, 1, 1]
    rows = [fix(0, 10, 20), fix(30, 10.3, 20), fix(3000, 10.16, 20)]
    assert tracks_of(rows) == [0, 1, 1], "and not the one that was there first"


def test_a_ship_that_never_comes_back_goes_on_in_its_new_place() -> None:
    assert tracks_of([fix(60 * i, 10 if i < 3 else 12, 20) for i in range(6)]) == [0, 0, 0, 1, 1, 1]


def test_less_than_a_kilometre_is_the_same_place() -> None:
    assert tracks_of([fix(5, 10, 20), fix(5, 10.0089, 20)]) == [0, 0]
    assert tracks_of([fix(5, 10, 20), fix(5, 10.0091, 20)]) == [0, 1]


def test_the_speed_limit_is_the_limit() -> None:
    # 1 degree of latitude in 3600 s: 60.04 kn
    rows = [fix(0, 10, 20), fix(3599.9, 11, 20)]
    assert tracks_of(rows) == [0, 1]
    assert tracks_of(rows, v_max_kn=61) == [0, 0]


def test_the_date_line_and_the_poles_separate_nothing() -> None:
    assert tracks_of([fix(60 * i, -17, (-1) ** i * 179.999) for i in range(6)]) == [0] * 6
    assert tracks_of([fix(60 * i, 90, lon) for i, lon in enumerate((0.0, 90.0, 180.0, -90.0))]) == [0] * 4
    assert tracks_of([fix(60 * i, (-1) ** i * 90.0, 0) for i in range(4)]) == [0, 1, 0, 1]


def test_nothing_and_one_fix() -> None:
    assert tracks_of([]) == []
    assert tracks_of([fix(0, 10, 20)]) == [0]


@pytest.mark.parametrize("seed", range(20))
def test_the_separation_is_the_rule(seed: int) -> None:
    rng = random.Random(seed)
    rows = [
        fix(rng.randrange(3600), rng.uniform(10, 11.5), rng.uniform(20, 21.5), mmsi=SHIP + rng.randrange(3))
        for _ in range(60)
    ]
    fixes = fixes_of(rows)
    assert separate(fixes, v_max_kn=50).tolist() == plainly_separated(fixes, 50)


@pytest.mark.parametrize("seed", range(5))
def test_every_track_can_be_sailed(seed: int) -> None:
    rng = random.Random(seed)
    fixes = fixes_of(
        [fix(rng.randrange(3600), rng.uniform(-90, 90), rng.uniform(-180, 180)) for _ in range(40)]
        + [fix(rng.randrange(3600), rng.uniform(80, 90), rng.uniform(-180, 180)) for _ in range(40)]
    )
    tracks = separate(fixes)
    assert np.unique(tracks).tolist() == list(range(int(tracks.max()) + 1))
    for number in range(int(tracks.max()) + 1):
        for i, j in itertools.pairwise(np.flatnonzero(tracks == number).tolist()):
            km = km_between(fixes, i, j)
            seconds = max(fixes.observed_s[j] - fixes.observed_s[i], 1)
            assert km < 1 or km / 1.852 * 3600 / seconds <= 50.0001


def test_an_hour_of_the_noaa_day_is_separated_in_milliseconds(noaa_day: list[tuple[Any, ...]]) -> None:
    first = noaa_day[0][1] + 12 * 3600
    rows = [row for row in noaa_day if first <= row[1] < first + 3600]
    fixes = in_time_order(read_fixes(Inputs(dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)))))
    best = math.inf
    for _ in range(5):
        started = time.process_time()
        tracks = separate(fixes)
        best = min(best, time.process_time() - started)
    polar_sea = tracks[fixes.mmsi == 303457000]
    assert len(np.unique(polar_sea)) == 2
    assert best < 0.05, "about 0.002 s on an idle machine"
