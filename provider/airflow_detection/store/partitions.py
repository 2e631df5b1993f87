"""Monthly table partitions, made when they are needed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_detection.domain import require_utc
from airflow_detection.errors import ExpiredPartition, StorageError
from airflow_detection.store.connection import Connection
from airflow_detection.store.outputs import storage_errors
from airflow_detection.store.queries import load_queries

if TYPE_CHECKING:
    from psycopg.sql import Composed

PARTITIONED = ("detection_model_run_outputs", "detection_model_metrics")
"""The tables with a table partition for each month of `cycle_started_at`."""


def month_of(instant: datetime) -> tuple[datetime, datetime]:
    """The half-open UTC month that holds `instant`."""
    at = require_utc("instant", instant)
    start = datetime(at.year, at.month, 1, tzinfo=UTC)
    return start, datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)


def ensure_month(
    conn: Connection,
    schema: str,
    table: str,
    instant: datetime,
    *,
    recreate_expired: bool = False,
) -> bool:
    """Make sure that a table partition holds `instant`; return whether one was made.

    Existing table partitions may have any bounds: the new one takes what they leave of the UTC month.
    Several may call this at once: one makes it. Reading and writing other months goes on meanwhile.

    Args:
        recreate_expired: make a month anew, or attach it again, that retention has removed.

    Raises:
        ExpiredPartition: retention has removed this month.
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    at = require_utc("instant", instant)
    start, end = month_of(at)
    queries = load_queries("partition_months", schema)
    params: dict[str, Any] = {
        "schema": schema,
        "table": table,
        "instant": at,
        "month_start": start,
        "month_end": end,
    }
    params["partition"] = f"{table}_p{start:%Y_%m}"
    with storage_errors():
        with conn.transaction():
            conn.execute(queries["use_utc"])
            if _holds(conn, queries["is_covered"], params):
                return False
        with conn.transaction():
            conn.execute(queries["use_utc"])
            conn.execute(queries["lock"], params)
            if _holds(conn, queries["is_covered"], params):
                return False
            if not recreate_expired and _holds(conn, queries["is_expired"], params):
                raise ExpiredPartition(table, at)
            for (statement,) in conn.execute(queries["statements"], params).fetchall():
                conn.execute(statement)
            conn.execute(queries["log_creation"], params)
    return True


def ensure_cycle_months(conn: Connection, schema: str, started_at: datetime) -> None:
    """Make sure that the results of a cycle at `started_at` can be stored.

    Raises:
        ExpiredPartition: retention has removed this month.
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    for table in PARTITIONED:
        ensure_month(conn, schema, table, started_at)


def _holds(conn: Connection, query: Composed, params: Mapping[str, Any]) -> bool:  # Any: params
    row = conn.execute(query, params).fetchone()
    if row is None:
        raise StorageError("a catalog query gave no row")
    return bool(row[0])
