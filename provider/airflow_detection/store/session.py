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
    limit_ms = None if timeout_s is None else in_ms(timeout_s)
    limits = {
        "pid": conn.info.backend_pid,
        "is_local": False,
        "limit_ms": limit_ms,
        "idle_ms": limit_ms or "0",
    }
    with storage_errors():
        row = conn.execute(session["limit"], limits).fetchone()
        is_pooled = row is None
        if is_pooled:
            if conn.autocommit:
                hold_transaction(conn)
            # A transaction that lasts as long as the model is idle while that computes.
            limits |= {"pid": None, "is_local": True, "idle_ms": "0"}
            row = conn.execute(session["limit"], limits).fetchone()
        if role is not None:
            conn.execute(session["act_as"], {"role": role, "is_local": is_pooled})
    pid, started_at, *_ = row or (None, None)
    return {"pid": pid} | ({"backend_start": started_at.isoformat()} if started_at else {})


def end_backend(db: Database, pid: int, backend_start: str) -> None:
    """End another session of the same login; nothing happens if it has ended."""
    with storage_errors():
        params = {"pid": pid, "backend_start": backend_start}
        db.conn.execute(db.queries("session")["end_backend"], params)
