"""Fixtures of the store tests: a registered version; for upkeep one database, with a schema for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import psycopg
import pytest
from tests.store.partition_schema import Clock, PartitionSchema

from airflow_detection.domain.specs import Role, VersionSpec
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate
from airflow_detection.store.partitions.catalog import Step

NUMBERS = itertools.count()


@pytest.fixture
def registered_version(database: Connection) -> VersionSpec:
    """Version 1 of model `spoofing` in cycle `sea`, as its champion; without table partitions."""
    database.execute(
        "insert into detection.detection_cycles (cycle_id, schedule, lookback, start_date) "
        "values ('sea', '0 * * * *', '1 hour', '2020-01-01Z')"
    )
    database.execute(
        "insert into detection.detection_models (model_id, cycle_id, entrypoint) "
        "values ('spoofing', 'sea', 'x')"
    )
    row = database.execute(
        "insert into detection.detection_model_versions (model_id, version) values ('spoofing', '1') "
        "returning version_id"
    ).fetchone()
    assert row
    return VersionSpec(model_id="spoofing", version="1", role=Role.PRIMARY, version_id=row[0])


@pytest.fixture(scope="session")
def upkeep_dsn(server: str) -> Iterator[str]:
    """Connection string of one database for all tests of upkeep: each has a schema of its own in it."""
    with connect(server) as conn:
        conn.execute("drop database if exists detection_retention with (force)")
        conn.execute("create database detection_retention")
    yield psycopg.conninfo.make_conninfo(server, dbname="detection_retention")
    with connect(server) as conn:
        conn.execute("drop database detection_retention with (force)")


@pytest.fixture
def schema(upkeep_dsn: str, request: pytest.FixtureRequest) -> Iterator[PartitionSchema]:
    created = PartitionSchema(upkeep_dsn, f"s{next(NUMBERS)}")
    migrate(Database(created.conn, created.name))
    created.only_metrics()
    Clock.step = getattr(request, "param", Step.MONTH)
    if Clock.step is Step.DAY:
        created.use_days()
    yield created
    Clock.step = Step.MONTH
    created.conn.close()
