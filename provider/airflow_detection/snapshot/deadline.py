"""Time limit of a section's Python code; the server limits its statements."""

from __future__ import annotations

from contextlib import AbstractContextManager

from psycopg.pq import TransactionStatus

from airflow_detection.engine.alarm import alarm
from airflow_detection.snapshot.section import SectionTimeout
from airflow_detection.store.connection import Connection

GRACE_S = 0.5
"""Added to the limit, in seconds, so that the server ends a statement first."""


def deadline(conn: Connection, limit_s: float) -> AbstractContextManager[None]:
    """Limit the block to `limit_s` seconds; a statement that is under way is cancelled: `conn` stays usable.

    Raises:
        SectionTimeout: the block took longer.
    """

    def on_timeout() -> None:
        if conn.info.transaction_status is TransactionStatus.ACTIVE:
            conn.cancel()
        else:
            raise SectionTimeout(limit_s)

    return alarm(limit_s + GRACE_S, on_timeout)
