"""Events: periods in which a champion scores an entity above a threshold, kept in step with the outputs.

They are a function of the stored PRIMARY outputs and manifests, in whatever order those were written: a
backfill, a rerun and live cycles at once leave the events that the same cycles in order would leave.
(RETRACTED rows record what an operator may have seen meanwhile, and so depend on the order.) What people say
of an event is kept beside that, and stays with its sightings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_detection.domain.scores import EventRule
from airflow_detection.errors import EventError
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import registry_errors
from airflow_detection.store.manifests import storable_text
from airflow_detection.store.registry import Row, fetch

ANSWERS = "event_answers"

DETAILS_BYTES = 8192
"""Bytes of JSON of the latest output that an event keeps; of a longer one it keeps the beginning as text."""

RunKey = Mapping[str, Any]  # Any: the params that name one run


def flagged_entities(db: Database, run: RunKey) -> Sequence[str]:
    """Return the entities that the stored run may flag; call it before the run is replaced."""
    row = db.conn.execute(db.queries("detection_events")["flagged_entities"], run).fetchone()
    return row[0] if row else ()


def refresh(
    db: Database,
    run: RunKey,
    *,
    previously_flagged: Sequence[str],
    rule: EventRule,
    flagged_count: int,
    projection: str | None = None,
) -> None:
    """Bring the events of a model up to date with a run that has just been written, in its transaction.

    Args:
        previously_flagged: the entities that the run may have flagged before it was replaced.
        flagged_count: how many of its outputs score above the threshold of `rule`.
        projection: a file of `sql/queries` whose statement `refresh` is run afterwards, with `%(model_id)s`.
    """
    queries = db.queries("detection_events")
    db.conn.execute(queries["lock"], run)
    if previously_flagged or flagged_count:
        params = {
            **run, "previously_flagged": list(previously_flagged), "details_bytes": DETAILS_BYTES,
            "above": rule.above if rule.opens else math.inf, "has_severity": rule.has_severity,
            **{f"severity_{name.lower()}": above for name, above in rule.severity.items()},
        }  # fmt: skip
        at = run["cycle_started_at"]
        low, high = db.conn.execute(queries["span"], params).fetchone() or (None, None)
        db.conn.execute(queries["cut"], params | {"low": low or at, "high": high or at})
    db.conn.execute(queries["close"], run)
    if projection is not None:
        db.conn.execute(db.queries(projection)["refresh"], {"model_id": run["model_id"]})


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events are listed; None filters nothing. Instants are UTC: [since, until)."""

    statuses: Sequence[str] | None = None
    severities: Sequence[str] | None = None
    category: str | None = None
    entity_id: str | None = None
    event_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None


def listed(
    db: Database,
    model_ids: Sequence[str],
    which: EventFilter,
    *,
    before: tuple[datetime, int] | None = None,
    limit: int,
) -> list[Row]:
    """Return events of some models, the one that was seen last first; those behind `before` in that order.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    at, event_id = before or (None, 0)
    params = {name: getattr(which, name) for name in EventFilter.__dataclass_fields__}
    for name in ("statuses", "severities"):
        params[name] = None if params[name] is None else list(params[name])
    params |= {
        "model_ids": list(model_ids),
        "before": at or "infinity",
        "before_id": event_id,
        "limit": limit,
    }
    return fetch(db, ANSWERS, "select", params)


def count_open(db: Database, model_ids: Sequence[str], severities: Sequence[str], *, limit: int) -> int:
    """Return how many open events of some models there are; it counts no further than `limit`."""
    params = {"model_ids": list(model_ids), "severities": list(severities), "limit": limit}
    return int(fetch(db, ANSWERS, "count_open", params)[0]["events"])


def acknowledge(db: Database, event_id: int, *, actor: str | None = None, reason: str = "") -> bool:
    """Record that somebody has seen an open event; False if that is on record already.

    Args:
        actor: who; None means the database's user.

    Raises:
        EventError: there is no such event, or it is not open.
        RegistryUnavailable: the database did not answer.
    """
    with registry_errors(), db.conn.transaction():
        event = _open(db, event_id, "acknowledged")
        if event["acknowledged_at"] is not None:
            return False
        params = {"event_id": event_id, "actor": actor, "reason": storable_text(reason)}
        fetch(db, ANSWERS, "acknowledge", params)
        return True


def close(db: Database, event_id: int, *, actor: str | None = None, reason: str) -> None:
    """Close an open event for good: it stays closed although its entity is seen again before `event_gap`.

    Args:
        actor: who; None means the database's user.

    Raises:
        EventError: there is no such event, or it is not open.
        RegistryUnavailable: the database did not answer.
    """
    with registry_errors(), db.conn.transaction():
        _open(db, event_id, "closed")
        params = {"event_id": event_id, "actor": actor, "reason": storable_text(reason)}
        fetch(db, ANSWERS, "close", params)


def _open(db: Database, event_id: int, what: str) -> Row:
    """Lock an open event and return it."""
    for event in fetch(db, ANSWERS, "event", {"event_id": event_id}):
        if event["status"] == "OPEN":
            return event
        by = f" by {event['closed_by']}" if event["closed_by"] else ""
        raise EventError(f"event {event_id} is {event['status']}{by}: only an open one can be {what}")
    raise EventError(f"there is no event {event_id}")
