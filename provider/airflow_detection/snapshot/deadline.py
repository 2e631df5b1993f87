"""An end to a section that hangs: its statements have a time limit of their own, its Python has this one."""

from __future__ import annotations

from contextlib import AbstractContextManager

from psycopg.pq import TransactionStatus

from airflow_detection.engine.alarm import alarm
from airflow_detection.snapshot.section import SectionTimeout
from airflow_detection.store.connection import Connection

GRACE_S = 0.5
"""The server ends a statement first."""


def deadline(conn: Connection, limit_s: float) -> AbstractContextManager[None]:
    """Let what is inside take no longer; a statement that is under way is cancelled: `conn` stays usable.

    Raises:
        SectionTimeout: it took longer.
    """

    def ring() -> None:
        if conn.info.transaction_status is TransactionStatus.ACTIVE:
            conn.cancel()
        else:
            raise SectionTimeout(limit_s)

    return alarm(limit_s + GRACE_S, ring)
