"""Cycles over a simulated day in a real database: history, canaries, events and the table behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_detection.cycle import planning
from airflow_detection.cycle.task import run_task
from airflow_detection.cycle.versions import VersionRequest
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, Outcome
from airflow_detection.maritime.ais.load import load_file
from airflow_detection.maritime.simulation.day import SimulatedTruth, write_day
from airflow_detection.registration.apply import apply_file
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]  # Any: rows as the statements give them

REGISTRY = Path(__file__).resolve().parents[2] / "dags/registry/maritime.yaml"
SETTINGS = Settings(schema="detection")
START = datetime(2026, 3, 1, tzinfo=UTC)
HOURS = [START + timedelta(hours=hour) for hour in range(1, 5)]
MODELS = ("track_quality", "spoofing", "identity_collision", "gear_identity_collision")

ROWS = """
select cycle_started_at, model_id, entity_id, score, input_ref, outputs
  from detection.detection_model_run_outputs order by 1, 2, 3
"""
EVENTS = """
select category, entity_id, severity::text, status::text, first_seen_at, last_seen_at
  from detection.detection_events where status <> 'RETRACTED' order by 1, 2, 5
"""
GEAR = """
select identity, severity::text, status::text, first_seen_at, last_seen_at, evidence->>'hours_seen'
  from detection.gear_identity_collisions order by 1, 4
"""


@pytest.fixture
def second(dsn: str) -> Iterator[Connection]:
    with connect(dsn) as conn:
        yield conn


@pytest.fixture
def truth(database: Connection, tmp_path: Path) -> SimulatedTruth:
    planted = write_day(tmp_path / "day.csv", start=START, hours=4, vessels=20)
    load_file(database, tmp_path / "day.csv")
    apply_file(Database(database, "detection"), REGISTRY)
    return planted


def run(database: Connection, second: Connection, order: Sequence[datetime]) -> None:
    for at in order:
        planning.open_cycle(Database(database, SETTINGS.schema), "maritime", at, mode=Mode.AS_OF)
        for model_id in MODELS:
            report = run_task(
                Database(database, SETTINGS.schema),
                SETTINGS,
                VersionRequest(
                    cycle_id="maritime", started_at=at, model_id=model_id, version=None, mode=Mode.AS_OF
                ),
            )
            assert report.outcome is Outcome.SUCCEEDED, report.error
            for canary in report.canaries:
                assert canary.is_present, (model_id, canary)
                assert canary.observed == pytest.approx(canary.expected, abs=1e-6), (model_id, canary)


def test_a_gear_collision_is_one_row_that_becomes_critical(
    database: Connection, second: Connection, truth: SimulatedTruth
) -> None:
    [scene] = truth.of("gear_collision")
    run(database, second, HOURS[:1])
    assert database.execute(GEAR).fetchall() == [
        (scene.identity, "HIGH", "OPEN", HOURS[0], HOURS[0], "1"),
    ]
    run(database, second, HOURS[1:])
    assert database.execute(GEAR).fetchall() == [
        (scene.identity, "CRITICAL", "OPEN", HOURS[0], HOURS[3], "4"),
    ]


def test_cycles_that_run_again_in_another_order_come_to_the_same_rows(
    database: Connection, second: Connection, truth: SimulatedTruth
) -> None:
    run(database, second, HOURS)
    rows, events, gear = (database.execute(query).fetchall() for query in (ROWS, EVENTS, GEAR))
    severities = {
        (row[0], row[2]): row[5]["severity"] for row in rows if row[1] == "identity_collision" and row[3]
    }
    [twin] = truth.twins
    assert [severities[at, str(twin)] for at in HOURS] == ["HIGH", "HIGH", "CRITICAL", "CRITICAL"]
    run(database, second, [HOURS[2], HOURS[0], HOURS[3], HOURS[1]])
    assert database.execute(ROWS).fetchall() == rows
    assert database.execute(EVENTS).fetchall() == events
    assert database.execute(GEAR).fetchall() == gear


def test_a_backfill_that_begins_with_the_last_cycle_comes_to_them_too(
    database: Connection, second: Connection, truth: SimulatedTruth
) -> None:
    run(database, second, HOURS[::-1])
    [scene] = truth.of("gear_collision")
    severity = (
        "select cycle_started_at, outputs->>'severity' from detection.detection_model_run_outputs"
        " where entity_id = %s order by 1"
    )
    expected = list(zip(HOURS, ("HIGH", "HIGH", "CRITICAL", "CRITICAL"), strict=True))
    assert database.execute(severity, (scene.identity,)).fetchall() == expected
    first, *others = database.execute(GEAR).fetchall()
    assert first[:5] == (scene.identity, "CRITICAL", "OPEN", HOURS[0], HOURS[3])
    assert {row[2] for row in others} == {"RETRACTED"}, "what was seen meanwhile became part of it"
