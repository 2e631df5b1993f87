"""Fixtures for tests of models: `pytest_plugins = ["airflow_detection.pytest_plugin"]` in a conftest.py."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from airflow_detection.testing import migrated_postgres


@pytest.fixture(scope="session")
def detection_server() -> Iterator[str]:
    """Connection string of an embedded Postgres with the package's tables, to copy databases from."""
    with migrated_postgres() as dsn:
        yield dsn


@pytest.fixture
def detection_database(detection_server: str) -> Iterator[str]:
    """Connection string of a database of this test alone, with the package's tables, in schema detection."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    admin = make_conninfo(detection_server, dbname="template1")
    statement = sql.SQL("create database {} template postgres").format(sql.Identifier(name))
    with psycopg.connect(admin, autocommit=True) as conn:
        conn.execute(statement)
    yield make_conninfo(detection_server, dbname=name)
    with psycopg.connect(admin, autocommit=True) as conn:
        conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
