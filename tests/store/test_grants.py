"""The roles of the database: each can do its work, and not more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from tests import fleet
from tests.fleet import AT, SCHEMA, SETTINGS

from airflow_detection import pipeline, planning
from airflow_detection.domain import Mode, Outcome, Role
from airflow_detection.store import registry
from airflow_detection.store.connection import connect
from airflow_detection.store.grants import ROLES, grant
from airflow_detection.store.partitions import ensure_cycle_months

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def granted(database: Connection) -> Connection:
    fleet.register(database)
    ensure_cycle_months(database, SCHEMA, AT)
    grant(database, SCHEMA)
    grant(database, SCHEMA)
    return database


@contextmanager
def acting(dsn: str, role: str) -> Iterator[Connection]:
    with connect(dsn) as conn:
        conn.execute("select set_config('role', %s, false)", [role])
        yield conn


WRITES = (
    "insert into detection.detection_models (model_id, cycle_id, entrypoint) values ('x', 'fleet', 'm')",
    "update detection.detection_cycles set schedule = '* * * * *'",
    "update detection.detection_model_roles set superseded_at = now()",
    "delete from detection.detection_model_versions",
    "insert into detection.detection_confirmations (cycle_id, models) values ('fleet', '{}')",
    "create table detection.mine ()",
    "truncate detection.detection_model_run_outputs",
    "drop table detection.detection_events",
    "alter table detection.detection_events add column x int",
)


@pytest.mark.parametrize("role", ["detection_reader", "detection_writer"])
@pytest.mark.parametrize("statement", WRITES)
def test_neither_reader_nor_writer_touches_registry_or_schema(
    granted: Connection, dsn: str, role: str, statement: str
) -> None:
    with acting(dsn, role) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(statement.encode())


def test_a_reader_reads_and_writes_no_results(granted: Connection, dsn: str) -> None:
    with acting(dsn, "detection_reader") as conn:
        assert [m.model_id for m in registry.models_at(conn, SCHEMA, "fleet", AT)] == ["spoofing", "tracks"]
        for table in ("detection_model_runs", "detection_model_run_outputs", "detection_events"):
            name = psycopg.sql.Identifier("detection", table)
            conn.execute(psycopg.sql.SQL("select * from {}").format(name))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(psycopg.sql.SQL("delete from {}").format(name))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("select nextval('detection.detection_attempts')")


def test_a_writer_runs_a_whole_cycle_twice(granted: Connection, dsn: str) -> None:
    for _ in range(2):
        with acting(dsn, "detection_writer") as conn, acting(dsn, "detection_writer") as reader:
            spec_opened = planning.open_cycle(conn, SETTINGS, "fleet", AT, mode=Mode.AS_OF)
            spec = registry.cycle_spec(conn, SCHEMA, "fleet")
            for step in spec_opened.steps:
                report = pipeline.run_step(conn, reader, SETTINGS, spec, spec_opened, step)
                assert report.outcome is Outcome.SUCCEEDED, report.error
            pipeline.close_cycle(conn, SETTINGS, "fleet", AT, mode=Mode.AS_OF, task_states={})
    assert set(fleet.outcomes(granted).values()) == {"SUCCEEDED"}


def test_an_admin_changes_the_registry(granted: Connection, dsn: str) -> None:
    with acting(dsn, "detection_admin") as conn:
        fleet.put_model(conn, "more")
        fleet.put_version(conn, "more@1", Role.PRIMARY, since=None)
        registry.assign_role(conn, SCHEMA, model_id="tracks", version="2", role=Role.PRIMARY)


def test_no_role_can_log_in_or_rule(granted: Connection) -> None:
    found = granted.execute(
        "select bool_or(rolcanlogin or rolsuper or rolcreaterole or rolcreatedb or rolbypassrls)"
        " from pg_roles where rolname = any(%s)",
        [list(ROLES)],
    ).fetchone()
    assert found == (False,)
