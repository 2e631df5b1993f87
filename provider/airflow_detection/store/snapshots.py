"""Stored snapshot reports: one for each hour, never overwritten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow_detection.errors import StorageError
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import storage_errors
from airflow_detection.store.encoding import to_json

HOUR, WEEK = timedelta(hours=1), timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReport:
    """A report as it is stored: it covers cycles in [start, end), UTC.

    `notified_at` (UTC) is when the notifications of its changes had been sent, None before.
    """

    snapshot_id: int
    kind: str
    taken_at: datetime
    start: datetime
    end: datetime
    format_version: int
    report: Mapping[str, Any]  # Any: JSON values
    notified_at: datetime | None = None


def hourly(db: Database, start: datetime) -> StoredReport | None:
    """Return the hourly report of the hour that begins at `start`, if there is one.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    return _one(db, "hourly", {"start": start, "end": start + HOUR})


def last_before(db: Database, start: datetime) -> StoredReport | None:
    """Return the latest hourly report whose hour ended by `start`.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    return _one(db, "last_before", {"start": start})


def reports_before(db: Database, start: datetime) -> Iterator[Mapping[str, Any]]:
    """Iterate over the hourly reports whose hour ended by `start`, newest first, a week back; read lazily.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    stored = last_before(db, start)
    while stored is not None and stored.start >= start - WEEK:
        yield stored.report
        stored = last_before(db, stored.start)


def save(db: Database, report: Mapping[str, Any]) -> tuple[StoredReport, bool]:
    """Store a report; return what is stored now, and whether it is this one.

    An hour that has a report keeps it. `report` is JSON with `kind`, `taken_at`, `start`, `end` and
    `format_version`.

    Raises:
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    params = {
        **{name: report[name] for name in ("kind", "taken_at", "start", "end", "format_version")},
        "report": to_json(report).decode(),
    }
    with storage_errors():
        row = db.conn.execute(db.queries("detection_snapshots")["insert"], params).fetchone()
    if row is not None:
        return _stored(row), True
    stored = hourly(db, datetime.fromisoformat(report["start"]))
    if stored is None:
        raise StorageError("the report was not stored")
    return stored, False


def missed_hours(db: Database, before: datetime) -> list[datetime]:
    """Return the starts of the hours between the last report and `before`, at most a week back.

    Hours before the first report do not count.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    with storage_errors():
        query = db.queries("detection_snapshots")["missed_hours"]
        return [row[0] for row in db.conn.execute(query, {"before": before})]


def is_notification_due(db: Database, snapshot_id: int) -> bool:
    """Tell whether the notifications of a report's changes are still to be sent.

    The row is locked until the transaction ends: who asks meanwhile waits.

    Raises:
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    with storage_errors():
        query = db.queries("detection_snapshots")["is_notification_due"]
        row = db.conn.execute(query, {"snapshot_id": snapshot_id}).fetchone()
    return bool(row and row[0])


def note_notified(db: Database, snapshot_id: int) -> None:
    """Note that the notifications of a report's changes have been sent.

    Raises:
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    with storage_errors():
        db.conn.execute(db.queries("detection_snapshots")["note_notified"], {"snapshot_id": snapshot_id})


def _one(db: Database, name: str, params: Mapping[str, object]) -> StoredReport | None:
    with storage_errors():
        row = db.conn.execute(db.queries("detection_snapshots")[name], params).fetchone()
    return _stored(row) if row else None


def _stored(row: tuple[Any, ...]) -> StoredReport:  # Any: the columns of the statements
    return StoredReport(
        snapshot_id=row[0],
        kind=row[1],
        taken_at=row[2],
        start=row[3],
        end=row[4],
        format_version=row[5],
        report=row[6],
        notified_at=row[7],
    )
