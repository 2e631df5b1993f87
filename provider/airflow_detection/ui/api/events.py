"""`events`: what champions flagged, by filters."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Query

from airflow_detection.store import events
from airflow_detection.store.database import Database
from airflow_detection.store.events import EventFilter
from airflow_detection.store.registry import Row
from airflow_detection.ui.access import Reader, Registry, UserAccess, not_found
from airflow_detection.ui.api.shapes import (
    DEFAULT_ROWS,
    Answer,
    Instant,
    Limit,
    PageOf,
    key_text,
    key_values,
)

router = APIRouter()
URGENT = ("CRITICAL", "HIGH")
MAX_COUNT, NEWEST = 10_000, 20


class EventStatus(StrEnum):
    """Status of an event, as in Postgres."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"
    RETRACTED = "RETRACTED"


class EventSeverity(StrEnum):
    """Severity of an event, as in Postgres."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


class EventRow(Answer):
    """One event; `evidence` is its latest output, `note` what was said when it was answered."""

    event_id: int
    model_id: str
    cycle_id: str
    category: str
    entity_id: str
    severity: EventSeverity
    status: EventStatus
    first_seen_at: Instant
    last_seen_at: Instant
    closed_at: Instant | None
    acknowledged_at: Instant | None
    acknowledged_by: str | None
    closed_by: str | None
    note: str | None
    score: float | None
    evidence: dict[str, Any] | None  # Any: JSON values


def event_rows(rows: list[Row]) -> list[EventRow]:
    """Return rows of the database as an answer has them."""
    return [EventRow(**row) for row in rows]


def open_events(db: Database, access: UserAccess) -> tuple[list[EventRow], int]:
    """Return the newest open CRITICAL and HIGH events, and how many there are."""
    which, models = EventFilter(statuses=["OPEN"], severities=URGENT), access.readable_models()
    newest = events.listed(db, models, which, limit=NEWEST)
    return event_rows(newest), events.count_open(db, models, URGENT, limit=MAX_COUNT)


def readable_event(db: Database, access: UserAccess, event_id: int) -> EventRow:
    """Return one event; 404 if the user may not read it."""
    found = events.listed(db, access.readable_models(), EventFilter(event_id=event_id), limit=1)
    if not found:
        raise not_found("event", event_id)
    return event_rows(found)[0]


@router.get("/events")
def list_events(
    access: Reader,
    db: Registry,
    status: Annotated[list[EventStatus] | None, Query()] = None,
    severity: Annotated[list[EventSeverity] | None, Query()] = None,
    model_id: str | None = None,
    cycle_id: str | None = None,
    entity_id: str | None = None,
    category: str | None = None,
    start: Instant | None = None,
    end: Instant | None = None,
    after: str | None = None,
    limit: Limit = DEFAULT_ROWS,
) -> PageOf[EventRow]:
    """Return events, the one that was seen last first."""
    models = access.readable_models()
    if cycle_id is not None:
        access.require_cycle(cycle_id)
        models = [m for m in models if access.models[m] == cycle_id]
    if model_id is not None:
        access.require_model(model_id)
        models = [m for m in models if m == model_id]
    which = EventFilter(
        statuses=status, severities=severity, category=category, entity_id=entity_id, since=start, until=end
    )
    key = key_values(after, datetime, int)
    found = events.listed(db, models, which, before=(key[0], key[1]) if key else None, limit=limit + 1)
    items, more = event_rows(found[:limit]), len(found) > limit
    last = items[-1] if more else None
    return PageOf(items=items, next=key_text(last.last_seen_at, last.event_id) if last else None)


@router.get("/events/{event_id}")
def one_event(event_id: int, access: Reader, db: Registry) -> EventRow:
    """Return one event."""
    return readable_event(db, access, event_id)
