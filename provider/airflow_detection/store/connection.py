"""Connections to the registry's database, opened at once or on first use."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import Any, cast

import psycopg
from psycopg import conninfo as libpq

from airflow_detection.errors import ConfigurationError, RegistryUnavailable
from airflow_detection.store.queries import load_queries

Connection = psycopg.Connection[tuple[Any, ...]]  # Any: a row holds what its statement selects


def in_ms(limit: float | timedelta) -> str:
    """Return a limit (seconds or a timedelta) as a Postgres setting in ms, at least 1: 0 means no limit."""
    limit_s = limit.total_seconds() if isinstance(limit, timedelta) else limit
    return str(max(1, round(limit_s * 1000)))


def connect(
    conninfo: str, *, connect_timeout_s: int = 5, statement_timeout_s: float | None = None
) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection in autocommit mode whose session time zone is UTC.

    Args:
        conninfo: a connection string or URI, as libpq reads it.
        connect_timeout_s: seconds to wait for each address of the server.
        statement_timeout_s: seconds after which the server ends a statement; None leaves its own setting.

    Raises:
        ConfigurationError: `conninfo` is malformed.
        RegistryUnavailable: the server did not answer or refused the connection.
    """
    try:
        target = libpq.make_conninfo(conninfo, connect_timeout=connect_timeout_s)
    except psycopg.ProgrammingError as error:
        raise ConfigurationError("the connection string is malformed") from error
    session = load_queries("session", "public")
    try:
        conn = psycopg.connect(target, autocommit=True)
    except psycopg.OperationalError as error:
        raise RegistryUnavailable(f"no connection to the database: {str(error).strip()}") from error
    try:
        conn.execute(session["use_utc"])
        if statement_timeout_s is not None:
            conn.execute(session["limit_statements"], {"limit_ms": in_ms(statement_timeout_s)})
    except psycopg.OperationalError as error:
        conn.close()
        raise RegistryUnavailable(f"the connection was lost: {str(error).strip()}") from error
    return conn


class LazyConnection:
    """Connection that is opened on first use; whoever opens it also closes it.

    Args:
        open_connection: called once; what it raises is raised where the connection is first used.
    """

    def __init__(self, open_connection: Callable[[], Connection]) -> None:
        self._open = open_connection

    @cached_property
    def _conn(self) -> Connection:
        return self._open()

    def __getattr__(self, name: str) -> Any:  # Any: whatever a connection has
        return getattr(self._conn, name)

    @property
    def as_connection(self) -> Connection:
        """This object, typed as a connection."""
        return cast("Connection", self)


def conninfo_of(conn: Connection) -> str:
    """Return the connection string that opens another connection like this one."""
    return libpq.make_conninfo(**conn.info.get_parameters(), password=conn.info.password or None)
