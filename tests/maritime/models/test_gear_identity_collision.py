"""The gear_identity_collision model: gear in two places, by its name and by its MMSI; and its table."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.maritime.conftest import COLUMNS, END, SHIP, Row, cycle_at, fix

from airflow_detection.domain.inputs import Inputs
from airflow_detection.engine.model import ModelContext
from airflow_detection.errors import TerminalModelError
from airflow_detection.maritime.models.gear_identity_collision import GearIdentityCollision
from airflow_detection.store.database import Database
from airflow_detection.store.queries import load_queries
from airflow_detection.store.reader import Reader

if TYPE_CHECKING:
    import psycopg

    from airflow_detection.engine.model import ReadOnlyDatabase

NAMED = (*COLUMNS, "vessel_name")
GEAR = "ZSY06159-32"


def model(**params: Any) -> GearIdentityCollision:
    return GearIdentityCollision("gear_identity_collision", "1.0", params)


def outputs_of(
    rows: list[Row], *, database: ReadOnlyDatabase | None = None, end: datetime = END, **params: Any
) -> dict[str, Row]:
    one = model(**params)
    ctx = ModelContext(
        cycle=cycle_at(end), params=one.params, inputs=Inputs.of_rows(rows, NAMED), database=database
    )
    return {output["entity_id"]: dict(output) for _, output in one.run(ctx).outputs_per_input}


def heard(second: float, km: float, name: str | None, mmsi: int = SHIP) -> Row:
    """Return a fix `km` north of a place on open water."""
    return {**fix(second, 30 + math.degrees(km / 6371.0088), 124, mmsi=mmsi), "vessel_name": name}


def two_buoys(km: float = 8, *, start: float = 0, n: int = 6, identity: str = GEAR) -> list[Row]:
    """Two transmitters with one gear id, each with a battery of its own that goes down."""
    return [
        heard(start + 300 * i, km * (i % 2), f"{identity}-{90 - i}%" if i % 2 else f"{identity}_8.{9 - i}V",
              mmsi=SHIP + i % 2)
        for i in range(n)
    ]  # fmt: skip


def test_one_gear_id_in_two_places_is_a_collision_whatever_the_battery() -> None:
    [(identity, output)] = outputs_of(two_buoys()).items()
    assert identity == GEAR
    strength = (1 - math.exp(-5 / 4)) * (1 - math.exp(-8 / 5))
    assert output["score"] == pytest.approx(0.5 + 0.2 * strength)
    assert (output["severity"], output["n_pos"]) == ("HIGH", 6)
    evidence = output["evidence"]
    assert (evidence["mmsis"], evidence["pairs"], evidence["separation_km"]) == ([SHIP, SHIP + 1], 5, 8.0)
    assert (evidence["is_open"], evidence["hours_seen"]) == (True, 1)
    began = END - timedelta(hours=1)
    assert datetime.fromisoformat(evidence["first_seen_at"]) == began
    assert datetime.fromisoformat(evidence["last_seen_at"]) == began + timedelta(minutes=25)
    assert [round(place[0], 3) for place in evidence["places"]] == [30.0, 30.072]


def test_two_fixes_in_two_places_are_enough() -> None:
    rows = [heard(0, 0, "ZSY06159-32-85%"), heard(1700, 5.1, "ZSY06159-32-84%", SHIP + 1)]
    assert outputs_of(rows)[GEAR]["severity"] == "HIGH"
    rows[1] = heard(1700, 4.9, "ZSY06159-32-84%", SHIP + 1)
    assert (outputs_of(rows)[GEAR]["score"], outputs_of(rows)[GEAR]["severity"]) == (0.0, None)


def test_two_places_longer_apart_in_time_are_none() -> None:
    rows = [heard(0, 0, "ZSY06159-32-85%"), heard(1700, 8, "ZSY06159-32-84%", SHIP + 1)]
    assert outputs_of(rows, within_minutes=28)[GEAR]["score"] == 0.0
    assert outputs_of(rows, within_minutes=29)[GEAR]["score"] > 0.5


def test_another_index_is_another_piece_of_gear() -> None:
    rows = [heard(0, 0, "ZSY06159-32-85%"), heard(60, 8, "ZSY06159-33-85%", SHIP + 1)]
    assert {identity: output["score"] for identity, output in outputs_of(rows * 2).items()} == {
        "ZSY06159-32": None,
        "ZSY06159-33": None,
    }


def test_one_mmsi_in_two_places_is_a_collision_of_nameless_gear() -> None:
    rows = [heard(300 * i, 8 * (i % 2), ("NET MARK", "7V")[i % 2]) for i in range(4)]
    output = outputs_of(rows)[str(SHIP)]
    assert (output["severity"], output["evidence"]["mmsis"]) == ("HIGH", [SHIP])
    apart = [{**row, "mmsi": SHIP + i % 2} for i, row in enumerate(rows)]
    assert {o["score"] for o in outputs_of(apart).values()} == {0.0}, "two net marks are no collision"


def test_one_mmsi_with_two_gear_ids_in_two_places_is_a_collision_of_both() -> None:
    rows = [heard(300 * i, 8 * (i % 2), f"ZSY06159-{32 + i % 2}-85%") for i in range(4)]
    assert {i: o["severity"] for i, o in outputs_of(rows).items()} == {
        "ZSY06159-32": "HIGH",
        "ZSY06159-33": "HIGH",
    }


def test_a_fix_without_a_name_is_its_transmitters() -> None:
    rows = [heard(0, 0, "ZSY06159-32-85%"), heard(300, 8, None), heard(600, 0, "")]
    output = outputs_of(rows)[GEAR]
    assert (output["severity"], output["n_pos"]) == ("HIGH", 3)


def test_gear_that_drifts_or_is_carried_is_in_one_place() -> None:
    drifting = [heard(300 * i, 0.15 * i, f"ZSY06159-32-{90 - i}%") for i in range(12)]
    carried = [heard(300 * i, 1.5 * i, f"ZSY06159-32-{90 - i}%") for i in range(12)]
    assert outputs_of(drifting)[GEAR]["score"] == outputs_of(carried)[GEAR]["score"] == 0.0


def test_ships_are_no_gear() -> None:
    rows = [heard(300 * i, 80 * (i % 2), "POLAR SEA") for i in range(6)]
    assert outputs_of(rows) == {}


def test_below_two_usable_fixes_the_score_is_null() -> None:
    for rows in (
        [heard(0, 0, "BOUY")],
        [heard(0, 0, "BOUY")] * 3,
        [heard(0, 0, "BOUY"), {**heard(60, 0, "BOUY"), "lat": 91.0}],
        [heard(0, 0, "BOUY"), {**heard(60, 0, "BOUY"), "observed_s": None}],
    ):
        [output] = outputs_of(rows).values()
        assert (output["score"], output["severity"], output["n_pos"]) == (None, None, 1)


def test_three_consecutive_hours_are_critical() -> None:
    hours = [row for back in range(3) for row in two_buoys(start=-3600 * back)]
    output = outputs_of(hours)[GEAR]
    assert (output["severity"], output["evidence"]["hours_seen"], output["n_pos"]) == ("CRITICAL", 3, 6)
    assert outputs_of(two_buoys() + two_buoys(start=-7200))[GEAR]["severity"] == "HIGH"


def test_a_pair_across_the_edge_of_two_hours_makes_no_hour() -> None:
    output = outputs_of([*two_buoys(), heard(-60, 8, f"{GEAR}-91%", SHIP + 1)])[GEAR]
    assert (output["severity"], output["evidence"]["hours_seen"]) == ("HIGH", 1)


def test_neither_order_nor_repetition_of_the_input_changes_anything() -> None:
    rng = random.Random(2)
    rows = two_buoys() + two_buoys(identity="LURONGYU65658-5", start=7) + [heard(5, 3, "BOUY", SHIP + 5)]
    expected = outputs_of(rows)
    assert len(expected) == 3
    for _ in range(10):
        shuffled = rows * 2
        rng.shuffle(shuffled)
        assert outputs_of(shuffled) == expected


def test_the_date_line_and_the_poles_are_no_two_places() -> None:
    rows = [{**heard(60 * i, 0, "ZSY06159-32-85%"), "lon": (-1) ** i * 179.99} for i in range(6)]
    assert outputs_of(rows)[GEAR]["score"] == 0.0
    polar = [{**row, "lat": 90.0, "lon": 90.0 * i} for i, row in enumerate(rows)]
    assert outputs_of(polar)[GEAR]["score"] == 0.0


def test_empty_and_all_null_inputs_give_no_output() -> None:
    assert outputs_of([]) == {}
    assert outputs_of([dict.fromkeys(NAMED)] * 3) == {}
    nameless = [{**row, "vessel_name": None} for row in two_buoys()]
    assert outputs_of(nameless) == {}
    [output] = outputs_of([{**dict.fromkeys(NAMED), "mmsi": SHIP, "vessel_name": "BOUY"}]).values()
    assert (output["score"], output["n_pos"]) == (None, 0)
    assert list(model().run(ModelContext(cycle=cycle_at())).outputs_per_input) == []


def test_an_input_without_names_is_terminal() -> None:
    with pytest.raises(TerminalModelError, match="selects no column 'vessel_name'"):
        model().run(ModelContext(cycle=cycle_at(), inputs=Inputs.of_rows([fix(0, 1, 2)], COLUMNS)))


@pytest.mark.parametrize("params", [{"separation_km": 0}, {"within_minutes": "60"}, {"critical_hours": 9}])
def test_a_param_that_makes_no_sense_is_terminal(params: dict[str, Any]) -> None:
    with pytest.raises(TerminalModelError, match=next(iter(params))):
        outputs_of(two_buoys(), **params)


@pytest.mark.parametrize("params", [{}, {"separation_km": 1}, {"critical_hours": 1}])
def test_canaries_have_the_scores_that_they_expect_and_are_in_no_metric(params: dict[str, Any]) -> None:
    one = model(**params)
    canaries = list(one.canaries(cycle_at()))
    rows = [*two_buoys(), *(row for canary in canaries for row in canary.rows)]
    result = one.run(ModelContext(cycle=cycle_at(), params=one.params, inputs=Inputs.of_rows(rows, NAMED)))
    outputs = {output["entity_id"]: output for _, output in result.outputs_per_input}
    assert len(outputs) == 1 + len(canaries)
    for canary in canaries:
        assert outputs[canary.entity_id]["score"] == pytest.approx(canary.expected, abs=1e-9)
    assert (result.metrics["gear_count"], result.metrics["collision_count"]) == (1, 1)
    buoys = sorted(two_buoys(), key=lambda row: row["mmsi"])
    assert list(result.features["lat"]) == [row["lat"] for row in buoys]


def test_the_hours_before_come_from_the_stored_positions(
    database: psycopg.Connection[tuple[Any, ...]],
) -> None:
    hours = [row for back in (-1, 0, 1, 2) for row in two_buoys(start=-3600 * back)]
    with database.cursor() as cursor:
        cursor.executemany(
            "insert into detection.ais_positions (mmsi, observed_at, lat, lon, vessel_name)"
            " values (%(mmsi)s, to_timestamp(%(observed_s)s), %(lat)s, %(lon)s, %(vessel_name)s)",
            hours,
        )

    def judged(opened_at: datetime) -> Row:
        at = {"window_start": END - timedelta(hours=1), "window_end": END, "opened_at": opened_at}
        return outputs_of(two_buoys(), database=Reader(Database(database, "detection"), at))[GEAR]

    now = datetime.now(UTC)
    output = judged(now + timedelta(minutes=1))
    assert (output["severity"], output["evidence"]["hours_seen"], output["n_pos"]) == ("CRITICAL", 3, 6)
    assert judged(now + timedelta(minutes=1)) == output, "run again, the same rows"
    assert judged(now - timedelta(hours=1))["severity"] == "HIGH", "what was loaded later is not seen"


def refreshed(database: psycopg.Connection[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    query = load_queries("gear_identity_collisions", "detection")["refresh"]
    database.execute(query, {"model_id": "gear_identity_collision"})
    return database.execute(
        "select identity, severity::text, status::text, first_seen_at, last_seen_at, evidence->>'pairs'"
        " from detection.gear_identity_collisions order by first_seen_at, identity"
    ).fetchall()


def test_the_table_follows_the_events(database: psycopg.Connection[tuple[Any, ...]]) -> None:
    def event(identity: str, first: datetime, *, model_id: str = "gear_identity_collision") -> None:
        database.execute(
            "insert into detection.detection_events (category, severity, model_id, version_id, entity_id,"
            " score, cycle_started_at, first_seen_at, last_seen_at, details)"
            " values (%s, 'HIGH', %s, 1, %s, 0.6, %s, %s, %s, %s)",
            (model_id, model_id, identity, first, first, first, '{"evidence": {"pairs": 5}}'),
        )

    assert refreshed(database) == []
    event("A-1", END)
    event("B-2", END)
    event("A-1", END, model_id="another_model")
    first = ("A-1", "HIGH", "OPEN", END, END, "5")
    assert refreshed(database) == [first, ("B-2", "HIGH", "OPEN", END, END, "5")]
    later = END + timedelta(hours=3)
    database.execute(
        "update detection.detection_events set severity = 'CRITICAL', last_seen_at = %s, status = 'CLOSED',"
        " details = '{\"evidence\": {\"pairs\": 9}}' where entity_id = 'A-1' and category <> 'another_model'",
        (later,),
    )
    database.execute("update detection.detection_events set status = 'RETRACTED' where entity_id = 'B-2'")
    event("A-1", later + timedelta(hours=2))
    expected = [
        ("A-1", "CRITICAL", "CLOSED", END, later, "9"),
        ("B-2", "HIGH", "RETRACTED", END, END, "5"),
        ("A-1", "HIGH", "OPEN", later + timedelta(hours=2), later + timedelta(hours=2), "5"),
    ]
    assert refreshed(database) == expected
    untouched = "select xmin::text, collision_id from detection.gear_identity_collisions order by 2"
    before = database.execute(untouched).fetchall()
    assert refreshed(database) == expected
    assert database.execute(untouched).fetchall() == before, "what is right already is not written again"


def test_the_model_names_the_table_that_follows_it() -> None:
    assert GearIdentityCollision.projection == "gear_identity_collisions"
