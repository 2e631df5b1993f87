"""Hourly counts of events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow_detection.domain.specs import require_utc
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import storage_errors


def aggregate_hourly(db: Database, *, now: datetime, hours: int = 72) -> int:
    """Replace the counts of the last full `hours` before `now`; return how many rows they have now.

    Retracted events are not counted. A repeated run gives the same counts.

    Raises:
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    end = require_utc("now", now).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    params = {"start": end - timedelta(hours=hours), "end": end}
    queries = db.queries("detection_stats_hourly")
    with storage_errors(), db.conn.transaction():
        db.conn.execute(queries["lock"])
        db.conn.execute(queries["clear"], params)
        return db.conn.execute(queries["count"], params).rowcount
