"""Sessions of the registry's database for requests: read-only, few, each statement limited in time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic

import psycopg

from airflow_detection.domain.settings import Settings
from airflow_detection.errors import RegistryUnavailable, StorageError
from airflow_detection.hooks.connection import connect
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import registry_errors
from airflow_detection.store.session import limit_session

MAX_IDLE, MAX_IDLE_S = 4, 30.0
"""Connections of one process that are kept open between requests, and for how long."""


class SessionPool:
    """Connections that are kept for the next request, the one that was used last first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[float, str, Connection]] = []

    def take(self, conn_id: str) -> Connection | None:
        """Return a connection that was given back not long ago, if there is one."""
        now, stale, found = monotonic(), [], None
        with self._lock:
            kept = []
            for entry in reversed(self._idle):
                since, name, conn = entry
                if now - since > MAX_IDLE_S:
                    stale.append(conn)
                elif found is None and name == conn_id:
                    found = conn
                else:
                    kept.append(entry)
            self._idle = list(reversed(kept))
        for conn in stale:
            conn.close()
        return found

    def give_back(self, conn_id: str, conn: Connection) -> None:
        """Keep a connection that is in no transaction and is not another session's as well."""
        is_usable = (
            not conn.closed
            and conn.autocommit
            and conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        )
        with self._lock:
            if is_usable and len(self._idle) < MAX_IDLE:
                self._idle.append((monotonic(), conn_id, conn))
                return
        conn.close()


_POOL = SessionPool()


@contextmanager
def read_session(settings: Settings, timeout_s: float) -> Iterator[Database]:
    """A read-only session, through the connection for reading where there is one.

    Raises:
        RegistryUnavailable: the database did not answer.
        ConfigurationError: the connection is missing or malformed.
    """
    conn_id = settings.reader_conn_id or settings.conn_id
    conn = _limited(conn_id, settings, timeout_s)
    try:
        with registry_errors():
            yield Database(conn, settings.schema)
    except BaseException:
        with suppress(psycopg.Error):
            conn.rollback()
        raise
    finally:
        _POOL.give_back(conn_id, conn)


def _limited(conn_id: str, settings: Settings, timeout_s: float) -> Connection:
    """Return a connection whose limits are set: one that was kept, if it still answers."""
    kept = _POOL.take(conn_id)
    if kept is not None:
        try:
            limit_session(Database(kept, settings.schema), timeout_s=timeout_s)
        except (RegistryUnavailable, StorageError):
            kept.close()
        else:
            return kept
    conn = connect(conn_id, read_only=True)
    limit_session(Database(conn, settings.schema), timeout_s=timeout_s)
    return conn


@contextmanager
def write_session(settings: Settings) -> Iterator[Database]:
    """A session that may write, through the registry's own connection, for one change.

    Raises:
        RegistryUnavailable, ConfigurationError: as `read_session`.
    """
    with connect(settings.conn_id) as conn, registry_errors():
        yield Database(conn, settings.schema)
