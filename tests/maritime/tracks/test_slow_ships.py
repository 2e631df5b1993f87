"""Encounters and loitering: durations, starts, tracks, and vessels that cannot be judged."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.maritime.conftest import COLUMNS, END, SHIP, Row, cycle_at, fix, outputs_of
from tests.maritime.stored import cycles, put, replayed, run_at

from airflow_detection.domain.inputs import Inputs
from airflow_detection.engine.model import BaseDetectionModel, ModelContext
from airflow_detection.errors import TerminalModelError
from airflow_detection.maritime.models.encounter import Encounter
from airflow_detection.maritime.models.loitering import Loitering
from airflow_detection.store.connection import Connection

OTHER = SHIP + 1
OCEAN, HARBOUR = (0.0, -25.0), (40.65, -74.05)
HOUR = 3600.0
METRE = 1 / 111_195  # of latitude, degrees
BOTH = [Encounter("encounter"), Loitering("loitering")]


def adrift(
    begin_h: float,
    end_h: float = 0.0,
    *,
    mmsi: int = SHIP,
    place: tuple[float, float] = OCEAN,
    every_s: float = 300.0,
    kn: float = 0.5,
    north_m: float = 0.0,
) -> list[Row]:
    """Fixes from `begin_h` to `end_h` hours before the end of the window, all in one place."""
    count = round((begin_h - end_h) * HOUR / every_s) + 1
    lat = place[0] + north_m * METRE
    return [fix(HOUR - begin_h * HOUR + every_s * k, lat, place[1], kn, mmsi) for k in range(count)]


def side_by_side(begin_h: float, end_h: float = 0.0, metres: float = 300.0, **options: Any) -> list[Row]:
    rows = adrift(begin_h, end_h, **options)
    return rows + adrift(begin_h, end_h, mmsi=OTHER, north_m=metres, **options)


def met(rows: list[Row], **params: Any) -> Row:
    return outputs_of(Encounter("encounter", "1", params), rows)[str(SHIP)]


def stayed(rows: list[Row], **params: Any) -> Row:
    return outputs_of(Loitering("loitering", "1", params), rows)[str(SHIP)]


@pytest.mark.parametrize(
    ("hours", "metres", "params", "score"),
    [
        (2, 300, {}, 0.5),
        (4, 300, {}, 0.75),
        (1.8, 300, {}, 0.0),
        (2, 490, {}, 0.5),
        (2, 510, {}, 0.0),
        (0.5, 240, {"within_m": 250, "min_duration_h": 0.5}, 0.5),
        (0.5, 260, {"within_m": 250, "min_duration_h": 0.5}, 0.0),
    ],
)
def test_two_ships_side_by_side(hours: float, metres: float, params: dict[str, float], score: float) -> None:
    output = met(side_by_side(hours, metres=metres), **params)
    assert output["score"] == pytest.approx(score)
    if score:
        evidence = output["evidence"]
        assert evidence["encounter"] == f"{SHIP}-{OTHER}"
        assert evidence["partner_mmsi"] == OTHER
        assert evidence["duration_s"] == hours * HOUR
        assert evidence["nearest_m"] == pytest.approx(metres, abs=1)
        assert evidence["is_open"]


@pytest.mark.parametrize(
    ("hours", "params", "score"),
    [(4, {}, 0.5), (8, {}, 0.75), (3.8, {}, 0.0), (8, {"min_duration_h": 8}, 0.5)],
)
def test_a_ship_adrift(hours: float, params: dict[str, float], score: float) -> None:
    output = stayed(adrift(hours), **params)
    assert output["score"] == pytest.approx(score)
    if score:
        assert datetime.fromisoformat(output["evidence"]["started_at"]) == END - timedelta(hours=hours)
        assert output["evidence"]["is_open"]


def test_who_moves_or_is_near_the_shore_neither_loiters_nor_meets() -> None:
    for rows in (side_by_side(10, place=HARBOUR), side_by_side(10, kn=2.1)):
        assert met(rows)["score"] == 0
        assert stayed(rows)["score"] == 0
    sailing = [fix(HOUR - 300 * k, 0.03 * k, -25.0, None) for k in range(100)]  # 21 kn, speed not reported
    assert stayed(sailing)["score"] == 0
    silent_about_speed = [row | {"sog_kn": None} for row in side_by_side(10)]
    assert stayed(silent_about_speed)["score"] > 0.5
    assert met(silent_about_speed)["score"] > 0.5


def test_one_false_fix_ends_nothing_and_a_long_break_does() -> None:
    rows = side_by_side(4)
    false = fix(HOUR - 2 * HOUR + 10, 30.0, -40.0, 0.5)
    assert met([*rows, false])["score"] == pytest.approx(0.75)
    assert stayed([*rows, false])["score"] == pytest.approx(0.5)
    broken = side_by_side(4, 2.6) + side_by_side(1.0)
    assert met(broken)["score"] == 0


def test_two_transmitters_under_one_mmsi_are_not_averaged() -> None:
    """Ten minutes here, ten minutes two degrees away: the mean would be adrift in between."""
    rows = []
    for k in range(6 * 12 + 1):
        place = OCEAN if k % 4 < 2 else (2.0, -25.0)
        rows.append(fix(HOUR - 300 * k, *place, 0.3))
    output = stayed(rows)
    assert output["score"] >= 0.5
    assert output["evidence"]["place"] in ([0.0, -25.0], [2.0, -25.0])
    rows += adrift(6, mmsi=OTHER, place=(1.0, -25.0))
    assert met(rows)["score"] == 0, "nobody is at one degree but the other ship"


@pytest.mark.parametrize("model", BOTH, ids=lambda m: m.model_id)
def test_what_lasts_has_one_start_and_then_an_end(database: Connection, model: BaseDetectionModel) -> None:
    """Over midnight and the edges of many windows, in order and shuffled."""
    midnight = datetime(2020, 1, 2, tzinfo=UTC)
    begin, end = midnight - timedelta(hours=5), midnight + timedelta(hours=1, minutes=20)
    offset = (END - end) / timedelta(hours=1)
    put(database, [_moved(row, offset) for row in side_by_side(6 + 1 / 3)])
    ends = cycles(midnight - timedelta(minutes=30), 40, minutes=10)
    outputs = {at: rows.get(str(SHIP)) for at, rows in replayed(database, ends, model).items()}
    scored = {at: row for at, row in outputs.items() if row and row["score"]}
    assert {row["evidence"]["started_at"] for row in scored.values()} == {begin.isoformat()}
    assert all(row["evidence"]["is_start_seen"] for row in scored.values())
    last = max(scored)
    assert last >= end + timedelta(minutes=50)
    assert not scored[last]["evidence"]["is_open"]
    assert scored[last]["evidence"]["last_seen_at"] == end.isoformat()
    assert outputs[ends[-1]] is None
    durations = [scored[at]["evidence"]["duration_s"] for at in sorted(scored)]
    assert durations == sorted(durations)


def _moved(row: Row, hours: float) -> Row:
    return row | {"observed_s": row["observed_s"] - hours * HOUR}


def test_a_start_beyond_the_history_is_reported_as_unseen(database: Connection) -> None:
    put(database, adrift(40))
    output = run_at(database, END, Loitering("loitering"))[str(SHIP)]
    assert not output["evidence"]["is_start_seen"]
    assert output["evidence"]["duration_s"] == pytest.approx(24 * HOUR, abs=600)


def test_what_arrived_after_the_cycle_was_opened_is_not_seen(database: Connection) -> None:
    opened_at = datetime.now(UTC)
    put(database, adrift(1), opened_at - timedelta(hours=1))
    put(database, adrift(10, 1.01), opened_at + timedelta(hours=1))
    model = Loitering("loitering")
    assert run_at(database, END, model, opened_at)[str(SHIP)]["score"] == 0
    assert run_at(database, END, model, opened_at + timedelta(hours=2))[str(SHIP)]["score"] > 0.5


@pytest.mark.parametrize("model", BOTH, ids=lambda m: m.model_id)
def test_neither_order_nor_repetition_changes_anything(model: BaseDetectionModel) -> None:
    rows = side_by_side(5) + adrift(6, mmsi=SHIP + 5, place=(5.0, -25.0))
    expected = outputs_of(model, rows)
    shuffled = rows * 2
    random.Random(3).shuffle(shuffled)
    repeated = outputs_of(model, shuffled)
    assert repeated == expected


@pytest.mark.parametrize("model", BOTH, ids=lambda m: m.model_id)
@pytest.mark.parametrize("place", [(0.0, 179.9999), (0.0, -180.0), (89.9999, 10.0), (-65.0, -120.0)])
def test_the_date_line_and_the_pole_are_like_any_other_place(
    model: BaseDetectionModel, place: tuple[float, float]
) -> None:
    """The second ship is across the date line, or across the pole."""
    across = (
        (place[0], -place[1]) if abs(place[1]) > 179 else (place[0], place[1] - (180 if place[0] > 89 else 0))
    )
    if across[0] == place[0] and abs(across[1] - place[1]) in (0, 360):
        across = (place[0] + 0.001, across[1])  # two ships are not at one point
    rows = adrift(5, place=place) + adrift(5, mmsi=OTHER, place=across)
    assert outputs_of(model, rows)[str(SHIP)]["score"] > 0.5


@pytest.mark.parametrize("model", BOTH, ids=lambda m: m.model_id)
def test_what_cannot_be_judged_is_null(model: BaseDetectionModel) -> None:
    for rows in (
        [fix(0, *OCEAN)],
        [fix(0, *OCEAN), fix(0, *OCEAN)],
        [fix(0, 91, 181), fix(60, 91, 181)],
        [dict.fromkeys(COLUMNS[1:]) | {"mmsi": SHIP}] * 2,
    ):
        output = outputs_of(model, rows)[str(SHIP)]
        assert (output["score"], output["severity"]) == (None, None)
    assert outputs_of(model, [dict.fromkeys(COLUMNS)]) == {}
    assert outputs_of(model, Inputs()) == {}
    assert outputs_of(model, [fix(0, *OCEAN), fix(60, *OCEAN)])[str(SHIP)]["score"] == 0


@pytest.mark.parametrize(
    "model",
    [
        *BOTH,
        Encounter("encounter", "2", {"within_m": 250, "min_duration_h": 0.5}),
        Loitering("loitering", "2", {"min_duration_h": 8}),
    ],
    ids=["encounter", "loitering", "encounter 2", "loitering 2"],
)
@pytest.mark.parametrize("minute", [0, 3])
def test_canaries_have_the_scores_that_they_expect(model: BaseDetectionModel, minute: int) -> None:
    cycle = cycle_at(END + timedelta(minutes=minute))
    canaries = list(model.canaries(cycle))
    rows = [row for canary in canaries for row in canary.rows]
    ctx = ModelContext(cycle=cycle, params=model.params, inputs=Inputs.of_rows(rows, COLUMNS))
    scores = {output["entity_id"]: output["score"] for _, output in model.run(ctx).outputs_per_input}
    assert scores == {canary.entity_id: pytest.approx(canary.expected) for canary in canaries}
    assert {None, 0.0} <= set(scores.values())


@pytest.mark.parametrize("model", [Encounter, Loitering])
def test_a_param_that_makes_no_sense_is_named(model: type[BaseDetectionModel]) -> None:
    for name, value in (("max_speed_kn", "two"), ("min_duration_h", 0), ("history_h", True)):
        with pytest.raises(TerminalModelError, match=name):
            outputs_of(model("m", "1", {name: value}), [fix(0, *OCEAN)])
    with pytest.raises(TerminalModelError, match="'history_h' is 1: must be at least 'min_duration_h', 3"):
        outputs_of(model("m", "1", {"history_h": 1, "min_duration_h": 3}), [fix(0, *OCEAN)])


def test_what_lasts_just_long_enough_is_found_off_the_five_minute_grid() -> None:
    assert met([_moved(row, 100 / HOUR) for row in side_by_side(2)])["score"] == pytest.approx(0.5)
    assert stayed([_moved(row, 100 / HOUR) for row in adrift(4)])["score"] == pytest.approx(0.5)


def test_a_ship_beside_a_canary_does_not_meet_it() -> None:
    model = Encounter("encounter")
    canaries = list(model.canaries(cycle_at()))
    rows = [row for canary in canaries for row in canary.rows]
    beside = [row | {"mmsi": SHIP, "lat": row["lat"] + 50 * METRE} for row in canaries[0].rows]
    scores = outputs_of(model, [*rows, *beside])
    assert scores[str(SHIP)]["score"] == 0
    assert scores[canaries[0].entity_id]["score"] == pytest.approx(canaries[0].expected)
