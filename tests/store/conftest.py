"""Fixtures of the upkeep tests: one database, and a schema of its own for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import psycopg
import pytest
from tests.store.partition_schema import PartitionSchema

from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def home(server: str) -> Iterator[str]:
    """One database for all of them: each test has a schema of its own in it."""
    with connect(server) as conn:
        conn.execute("drop database if exists detection_retention with (force)")
        conn.execute("create database detection_retention")
    yield psycopg.conninfo.make_conninfo(server, dbname="detection_retention")
    with connect(server) as conn:
        conn.execute("drop database detection_retention with (force)")


@pytest.fixture
def place(home: str) -> Iterator[PartitionSchema]:
    made = PartitionSchema(home, f"s{next(NUMBERS)}")
    migrate(Database(made.conn, made.schema))
    made.only_metrics()
    yield made
    made.conn.close()
