"""Labels: what turned out to be true of an entity in the cycles of an interval, and since when it is known.

They are append-only: of several labels of one unit (cycle, model, entity, interval) the newest holds. What
was known at an instant is the newest that was recorded by then, and that answer never changes: whoever asks
waits for labels that are recorded and not yet committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_detection.domain.specs import require_utc
from airflow_detection.errors import PlanError
from airflow_detection.store.connection import in_ms
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import registry_errors
from airflow_detection.store.registry import CHANGE_IDLE_S, LOCK_WAIT_S, fetch

TABLE = "detection_labels"
MAX_ENTITY_CHARS = 500
"""Characters of a label's entity id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label: instants in UTC, `valid_to` exclusive and None where there is no end.

    `model_id` None: it holds for every model of the cycle. `is_positive` None withdraws what was said of the
    unit. It is about the cycles that start in [valid_from, valid_to). `label_id`, `recorded_at` (since when
    it is known) and `actor` are the database's.
    """

    cycle_id: str
    entity_id: str
    valid_from: datetime
    valid_to: datetime | None = None
    is_positive: bool | None
    source: str
    model_id: str | None = None
    note: str = ""
    label_id: int = 0
    recorded_at: datetime | None = None
    actor: str = ""


def add_labels(db: Database, labels: Iterable[Label], *, actor: str | None = None) -> int:
    """Add labels in one transaction, all or none; return how many say something new of their unit.

    Args:
        labels: any number, as a stream; of several of one unit the last counts.
        actor: who says so; None means the database's user.

    Raises:
        RegistrationError: the database refused a label: an unknown cycle or model, an empty interval.
        ValueError: an instant has no time zone, or an interval ends before it begins.
        RegistryUnavailable: the database did not answer.
    """
    queries = db.queries(TABLE)
    with registry_errors(), db.conn.transaction(), db.conn.cursor() as cursor:
        cursor.execute(queries["drop_incoming"])
        cursor.execute(queries["create_incoming"])
        with cursor.copy(queries["copy_incoming"]) as copy:
            for row in _rows(labels):
                copy.write_row(row)
        cursor.execute(queries["analyze_incoming"])
        limits = {"wait_ms": in_ms(LOCK_WAIT_S), "idle_ms": in_ms(CHANGE_IDLE_S)}
        cursor.execute(queries["lock"], {"schema": db.schema, **limits})
        cursor.execute(queries["insert_new"], {"actor": actor})
        return cursor.rowcount


def _rows(labels: Iterable[Label]) -> Iterator[tuple[Any, ...]]:  # Any: columns of the temporary table
    for number, label in enumerate(labels, 1):
        start = require_utc("valid_from", label.valid_from)
        end = None if label.valid_to is None else require_utc("valid_to", label.valid_to)
        if end is not None and end <= start:
            raise ValueError(
                f"the label of {label.entity_id!r} ends at {end.isoformat()}: must be after "
                f"{start.isoformat()}"
            )
        yield (
            number, label.cycle_id, label.model_id, label.entity_id, start, end, label.is_positive,
            label.source, label.note,
        )  # fmt: skip


def known_instant(db: Database, known_at: datetime | None = None) -> datetime:
    """Return `known_at`, or the database's clock; what is known at it is the same whenever it is asked.

    Raises:
        PlanError: `known_at` is in the future: the answer could still change.
        RegistryBusy: another session adds labels, and had not ended in time.
    """
    params = {"schema": db.schema, "wait_ms": in_ms(LOCK_WAIT_S)}
    with registry_errors(), db.conn.transaction():
        fetch(db, TABLE, "lock_for_reading", params)
        now = require_utc("now", fetch(db, TABLE, "now")[0]["now"])
    instant = now if known_at is None else require_utc("known_at", known_at)
    if instant > now:
        raise PlanError(f"what is known at {instant.isoformat()} cannot be told yet")
    return instant


def known_labels(
    db: Database,
    cycle_id: str,
    *,
    model_id: str | None = None,
    entity_id: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    known_at: datetime | None = None,
    limit: int | None = None,
) -> list[Label]:
    """Return the labels of a cycle that hold as known at an instant (None: now), the newest first.

    Args:
        model_id: only its own and those of the whole cycle.
        start, end: only those whose interval overlaps [start, end), UTC.

    Raises:
        PlanError: `known_at` is in the future.
    """
    params = {
        "cycle_id": cycle_id,
        "model_id": model_id,
        "entity_id": entity_id,
        "start": start,
        "end": end,
        "known_at": known_instant(db, known_at),
        "limit": limit,
    }
    return [Label(**row) for row in fetch(db, TABLE, "known", params)]
