"""Limits of a session: read-only, statement timeout, role."""

from __future__ import annotations

from typing import Any

from airflow_detection.store.connection import hold_transaction, in_ms
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import storage_errors


def limit_session(
    db: Database, *, timeout_s: float | None = None, role: str | None = None
) -> dict[str, Any]:  # Any: JSON
    """Make a session read-only, and return its backend, the arguments of `end_backend`.

    Behind a pooler the session is others' as well: all that is read is one transaction, then.

    Args:
        db: its connection is in autocommit mode, or holds one transaction.
        timeout_s: seconds after which the server ends a statement, or a transaction that does nothing; None
            leaves its own limits.
        role: act with this role's rights.

    Raises:
        StorageError: the login may not act as the role.
        RegistryUnavailable: the database did not answer.
    """
    conn, session = db.conn, db.queries("session")
    backend = backend_of(db)
    is_pooled = backend.get("pid") != conn.info.backend_pid
    if is_pooled and conn.autocommit:
        hold_transaction(conn)
        backend = backend_of(db)
    limit_ms = None if timeout_s is None else in_ms(timeout_s)
    # A transaction that lasts as long as the model is idle while that computes.
    idle_ms = "0" if is_pooled or limit_ms is None else limit_ms
    with storage_errors():
        limits = {"idle_ms": idle_ms, "limit_ms": limit_ms, "is_local": is_pooled}
        conn.execute(session["read_only_session"], limits)
        if role is not None:
            conn.execute(session["act_as"], {"role": role, "is_local": is_pooled})
    return backend


def backend_of(db: Database) -> dict[str, Any]:  # Any: JSON
    """Return the pid and start of this session's backend as JSON values, the arguments of `end_backend`.

    Without the start where the session acts as a role that may not see it.
    """
    with storage_errors():
        row = db.conn.execute(db.queries("session")["backend"]).fetchone()
    pid, started_at = row or (None, None)
    return {"pid": pid} | ({"backend_start": started_at.isoformat()} if started_at else {})


def end_backend(db: Database, pid: int, backend_start: str) -> None:
    """End another session of the same login; nothing happens if it has ended."""
    with storage_errors():
        params = {"pid": pid, "backend_start": backend_start}
        db.conn.execute(db.queries("session")["end_backend"], params)
