"""Hourly counts of events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow_detection.domain.specs import require_utc
from airflow_detection.store.connection import Connection
from airflow_detection.store.driver_errors import storage_errors
from airflow_detection.store.queries import load_queries


def aggregate_hourly(conn: Connection, schema: str, *, now: datetime, hours: int = 72) -> int:
    """Replace the counts of the last full `hours` before `now`; return how many rows they have now.

    Retracted events are not counted. Run again, it gives the same.

    Raises:
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    end = require_utc("now", now).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    params = {"start": end - timedelta(hours=hours), "end": end}
    queries = load_queries("detection_stats_hourly", schema)
    with storage_errors(), conn.transaction():
        conn.execute(queries["lock"])
        conn.execute(queries["clear"], params)
        return conn.execute(queries["count"], params).rowcount
