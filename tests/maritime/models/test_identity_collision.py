"""The identity_collision model: one MMSI in two places, once or for hours."""

from __future__ import annotations

import math
import random
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.maritime.conftest import COLUMNS, END, SHIP, Row, cycle_at, fix, outputs_of

from airflow_detection.domain.inputs import Inputs
from airflow_detection.engine.model import ModelContext
from airflow_detection.errors import TerminalModelError
from airflow_detection.maritime.models.identity_collision import IdentityCollision
from airflow_detection.store.database import Database
from airflow_detection.store.reader import Reader

if TYPE_CHECKING:
    import psycopg


def model(**params: Any) -> IdentityCollision:
    return IdentityCollision("identity_collision", "1.0", params)


def output_of(rows: list[Row], **params: Any) -> Row:
    outputs = outputs_of(model(**params), rows)
    assert list(outputs) == [str(SHIP)]
    return outputs[str(SHIP)]


def turns(n: int, km: float, *, start: float = 0, step: float = 60, mmsi: int = SHIP) -> list[Row]:
    """`n` fixes that take turns between two places on a meridian."""
    degrees = math.degrees(km / 6371.0088)
    return [fix(start + step * i, 10 + degrees * (i % 2), 20, mmsi=mmsi) for i in range(n)]


def hourly(n: int, *hours_before: int) -> list[Row]:
    return [row for hour in hours_before for row in turns(n, 100, start=-3600 * hour)]


def test_two_transmitters_that_take_turns_are_a_collision() -> None:
    output = output_of(turns(8, 100))
    strength = (1 - math.exp(-7 / 4)) * (1 - math.exp(-100 / 20))
    assert output["score"] == pytest.approx(0.5 + 0.2 * strength)
    assert (output["severity"], output["n_pos"]) == ("HIGH", 8)
    evidence = output["evidence"]
    assert (evidence["is_open"], evidence["alternations"], evidence["hours_seen"]) == (True, 7, 1)
    assert evidence["separation_km"] == 100.0
    assert [track["fixes"] for track in evidence["tracks"]] == [4, 4]
    assert evidence["tracks"][0]["last"] == [10, 20]
    started = END - timedelta(hours=1)
    assert datetime.fromisoformat(evidence["first_seen_at"]) == started
    assert datetime.fromisoformat(evidence["last_seen_at"]) == started + timedelta(minutes=7)


@pytest.mark.parametrize(
    "rows",
    [
        [fix(60 * i, 10 + i * 0.002, 20) for i in range(20)],
        [fix(60 * i, 40 if i == 3 else 10, 20) for i in range(9)],
        [fix(60 * i, 10 if i < 4 else 40, 20) for i in range(9)],
        turns(9, 19.9),
        turns(2, 100),
        turns(3, 100),
    ],
    ids=["under way", "one false fix", "to another place", "too near", "one turn", "one fix there"],
)
def test_anything_less_is_none(rows: list[Row]) -> None:
    output = output_of(rows)
    assert (output["score"], output["severity"]) == (0.0, None)
    assert output["evidence"] == {"is_open": False, "alternations": 0, "hours_seen": 0}


def test_a_ship_that_passes_where_one_false_fix_was_is_no_second_transmitter() -> None:
    # 33 km to the north in an hour, past the place of the false fix, 22 to 25 km away
    rows = [fix(300 * i, 10 + i * 0.027, 20) for i in range(12)] + [fix(310, 10.25, 20)]
    assert output_of(rows)["score"] == 0.0


def test_three_transmitters_are_three_tracks() -> None:
    rows = [fix(60 * i, 10 + 2 * (i % 3), 20) for i in range(12)]
    evidence = output_of(rows)["evidence"]
    assert (evidence["track_count"], evidence["alternations"]) == (3, 11)


def test_below_two_usable_fixes_the_score_is_null() -> None:
    for rows in ([fix(0, 10, 20)], [fix(0, 10, 20), fix(60, 91, 181)], [fix(0, 10, 20)] * 3):
        assert (output_of(rows)["score"], output_of(rows)["n_pos"]) == (None, 1)
    assert output_of([fix(0, None, None)])["score"] is None
    assert outputs_of(model(), [dict.fromkeys(COLUMNS)] * 3) == {}


def test_three_consecutive_hours_are_critical() -> None:
    assert output_of(hourly(6, 0, 1))["severity"] == "HIGH"
    output = output_of(hourly(6, 0, 1, 2))
    assert (output["severity"], output["evidence"]["hours_seen"]) == ("CRITICAL", 3)
    assert 0.7 < output["score"] <= 1
    began = END - timedelta(hours=3)
    assert datetime.fromisoformat(output["evidence"]["first_seen_at"]) == began
    assert output["n_pos"] == 6, "fixes of the window alone"
    interrupted = output_of(hourly(6, 0, 1, 3, 4))
    assert (interrupted["severity"], interrupted["evidence"]["hours_seen"]) == ("CRITICAL", 4)
    over = output_of(hourly(6, 0, 1, 5, 6))
    assert (over["severity"], over["evidence"]["hours_seen"]) == ("HIGH", 2), "three hours without it end it"
    assert output_of(hourly(6, 0, 1), critical_hours=2)["severity"] == "CRITICAL"


def test_a_collision_of_earlier_hours_is_over() -> None:
    rows = hourly(6, 1, 2, 3) + [fix(60 * i, 10, 20) for i in range(5)]
    assert output_of(rows)["score"] == 0.0
    assert output_of(hourly(6, 1, 2, 3))["score"] is None, "and nobody was heard in the window"


def test_a_weak_collision_is_high_and_a_strong_one_not_yet_critical() -> None:
    assert 0.5 < output_of(turns(4, 20.1))["score"] < 0.7
    assert 0.5 < output_of(turns(3000, 8000, step=1))["score"] <= 0.7
    assert output_of(turns(3000, 8000, step=1))["severity"] == "HIGH"


def test_each_clock_hour_can_be_judged_alone() -> None:
    # the window is a clock hour: then the two are the same; moved by 30 minutes they differ
    across = turns(4, 100, start=1800 - 90)  # two fixes on either side of the half hour
    cycle = cycle_at(END + timedelta(minutes=30))
    moved = Inputs.of_rows([{**row, "observed_s": row["observed_s"] + 1800} for row in across], COLUMNS)
    for bins, expected in (("window", "HIGH"), ("clock_hour", None)):
        one = model(bins=bins)
        ctx = ModelContext(cycle=cycle, params=one.params, inputs=moved)
        [(_, output)] = one.run(ctx).outputs_per_input
        assert output["severity"] == expected
    assert output_of(turns(8, 100), bins="clock_hour") == output_of(turns(8, 100))


def test_neither_order_nor_repetition_of_the_input_changes_anything() -> None:
    rng = random.Random(3)
    rows = hourly(6, 0, 1, 2) + turns(9, 300, start=7, mmsi=SHIP + 1) + [fix(5, 3, 3, mmsi=SHIP + 2)]
    expected = outputs_of(model(), rows)
    for _ in range(10):
        shuffled = rows * 2
        rng.shuffle(shuffled)
        assert outputs_of(model(), shuffled) == expected


def test_the_date_line_and_the_poles_are_no_two_places() -> None:
    assert output_of([fix(60 * i, -17, (-1) ** i * 179.99) for i in range(9)])["score"] == 0.0
    assert output_of([fix(60 * i, 90, (i % 4) * 90.0) for i in range(9)])["score"] == 0.0
    assert output_of([fix(60 * i, (-1) ** i * 90.0, 0) for i in range(9)])["severity"] == "HIGH"


def test_no_input_gives_no_output() -> None:
    for inputs in (Inputs(), Inputs(dict.fromkeys(COLUMNS, ()))):
        result = model().run(ModelContext(cycle=cycle_at(), inputs=inputs))
        assert list(result.outputs_per_input) == []
        assert (result.metrics["vessel_count"], result.metrics["score_null_rate"]) == (0, None)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"separation_km": 0}, "separation_km"),
        ({"separation_km": 0.5}, "must be at least 1 km"),
        ({"v_max_kn": math.nan}, "v_max_kn"),
        ({"bins": "day"}, "one of window, clock_hour"),
        ({"history_hours": 2}, "must be at least 'critical_hours'"),
    ],
)
def test_a_param_that_makes_no_sense_is_terminal(params: dict[str, Any], reason: str) -> None:
    with pytest.raises(TerminalModelError, match=reason):
        outputs_of(model(**params), turns(4, 100))


@pytest.mark.parametrize("minutes", [0, 5, 55])
@pytest.mark.parametrize(
    "params",
    [{}, {"separation_km": 50}, {"bins": "clock_hour"}, {"separation_km": 1, "critical_hours": 1}],
    ids=["20 km", "50 km", "clock hours", "1 km"],
)
def test_canaries_have_the_scores_that_they_expect(params: dict[str, Any], minutes: int) -> None:
    one, cycle = model(**params), cycle_at(END + timedelta(minutes=minutes))
    canaries = list(one.canaries(cycle))
    rows = [row for canary in canaries for row in canary.rows]
    real = [fix(4000, 10, 20), fix(4100, 10, 20)]
    for inputs in (rows, real + rows):
        result = one.run(ModelContext(cycle=cycle, params=one.params, inputs=Inputs.of_rows(inputs, COLUMNS)))
        outputs = {output["entity_id"]: output for _, output in result.outputs_per_input}
        for canary in canaries:
            assert outputs[canary.entity_id]["score"] == pytest.approx(canary.expected, abs=1e-9)
        assert result.metrics["collision_count"] == 0, "canaries are in no metric"
    assert [canary.expected for canary in canaries][2:] == [0.0, 0.0, None]


def stored(database: psycopg.Connection[tuple[Any, ...]], rows: list[Row]) -> None:
    with database.cursor() as cursor:
        cursor.executemany(
            "insert into detection.ais_positions (mmsi, observed_at, lat, lon)"
            " values (%(mmsi)s, to_timestamp(%(observed_s)s), %(lat)s, %(lon)s)",
            rows,
        )


def reader(database: psycopg.Connection[tuple[Any, ...]], opened_at: datetime, end: datetime = END) -> Reader:
    at = {"window_start": end - timedelta(hours=1), "window_end": end, "opened_at": opened_at}
    return Reader(Database(database, "detection"), at)


def test_the_hours_before_come_from_the_stored_positions(
    database: psycopg.Connection[tuple[Any, ...]],
) -> None:
    stored(database, hourly(8, -1) + hourly(6, 0, 1, 2, 3) + turns(6, 100, start=-3600, mmsi=SHIP + 1))
    now, never = datetime.now(UTC) + timedelta(minutes=1), datetime.now(UTC) - timedelta(hours=1)
    window = Inputs.of_rows([*hourly(6, 0), fix(0, 10, 20, mmsi=SHIP + 1)], COLUMNS)

    def judged(opened_at: datetime) -> dict[str, Any]:
        one = model()
        ctx = ModelContext(
            cycle=cycle_at(), params=one.params, inputs=window, database=reader(database, opened_at)
        )
        return {output["entity_id"]: output for _, output in one.run(ctx).outputs_per_input}

    outputs = judged(now)
    assert outputs[str(SHIP)]["severity"] == "CRITICAL"
    assert outputs[str(SHIP)]["evidence"]["hours_seen"] == 4
    assert outputs[str(SHIP)] == output_of(hourly(6, 0, 1, 2, 3)), "and what comes later is left alone"
    assert outputs[str(SHIP + 1)]["score"] is None, "a collision of the hour before does not count now"
    assert judged(now) == outputs, "run again, the same rows"
    assert judged(never)[str(SHIP)]["severity"] == "HIGH", "what was loaded later is not seen"


def test_polar_sea_is_critical_from_the_third_hour_on(noaa_day: list[tuple[Any, ...]]) -> None:
    midnight = datetime(2020, 1, 1, tzinfo=UTC)
    own = [row for row in noaa_day if row[0] == 303457000]
    severities = []
    for hour in range(1, 25):
        end = midnight + timedelta(hours=hour)
        rows = [row for row in own if row[1] < end.timestamp()]
        inputs = Inputs(dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)))
        [(_, output)] = model().run(ModelContext(cycle=cycle_at(end), inputs=inputs)).outputs_per_input
        severities.append(output["severity"])
    assert severities == ["HIGH"] * 2 + ["CRITICAL"] * 22


def test_an_hour_of_the_noaa_day_is_judged_in_milliseconds(noaa_day: list[tuple[Any, ...]]) -> None:
    end = datetime(2020, 1, 1, 12, tzinfo=UTC)
    first, last = end.timestamp() - 3600, end.timestamp()
    rows = [row for row in noaa_day if first <= row[1] < last]
    inputs = Inputs(dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)))
    best = math.inf
    for _ in range(5):
        started = time.process_time()
        result = model().run(ModelContext(cycle=cycle_at(end), inputs=inputs))
        best = min(best, time.process_time() - started)
    assert 0 < result.metrics["collision_count"] < 10  # type: ignore[operator]  # counted, so no None
    assert best < 0.05, "about 0.012 s on an idle machine"
