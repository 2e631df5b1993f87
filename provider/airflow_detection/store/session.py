"""Limits of a session: read-only, statement timeout, role."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_detection.store.connection import in_ms
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import storage_errors


def limit_session(db: Database, *, timeout_s: float | None = None, role: str | None = None) -> None:
    """Make a session read-only.

    Args:
        db: its connection is in autocommit mode.
        timeout_s: seconds after which the server ends a statement, or a transaction that does nothing; None
            leaves its own limits.
        role: act with this role's rights.

    Raises:
        StorageError: the login may not act as the role.
        RegistryUnavailable: the database did not answer.
    """
    session = db.queries("session")
    limit_ms = "0" if timeout_s is None else in_ms(timeout_s)
    with storage_errors():
        db.conn.execute(session["read_only_session"], {"idle_ms": limit_ms})
        if timeout_s is not None:
            db.conn.execute(session["limit_statements"], {"limit_ms": limit_ms})
        if role is not None:
            db.conn.execute(session["act_as"], {"role": role})


@contextmanager
def limited_statements(db: Database, timeout_s: float) -> Iterator[None]:
    """Limit each statement inside to `timeout_s` seconds; RegistryUnavailable without an answer."""
    with storage_errors():
        limit_ms = in_ms(timeout_s)
        db.conn.execute(db.queries("session")["limit_statements"], {"limit_ms": limit_ms})
    try:
        yield
    finally:
        with storage_errors():
            db.conn.execute("reset statement_timeout")


def backend_of(db: Database) -> dict[str, Any]:  # Any: JSON
    """Return the pid and start of this session's backend as JSON values, the arguments of `end_backend`."""
    with storage_errors():
        row = db.conn.execute(db.queries("session")["backend"]).fetchone()
    return {"pid": row[0], "backend_start": row[1].isoformat()} if row else {}


def end_backend(db: Database, pid: int, backend_start: str) -> None:
    """End another session of the same login; nothing happens if it has ended."""
    with storage_errors():
        params = {"pid": pid, "backend_start": backend_start}
        db.conn.execute(db.queries("session")["end_backend"], params)
