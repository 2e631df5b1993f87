"""Lists of what is stored, for people and programs: roles, runs, outputs, events, as dicts of columns."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from airflow_detection.store.database import Database
from airflow_detection.store.registry import Row, cycle_of, cycle_spec, fetch

_rows = partial(fetch, table="listings")
LIMIT = 1000
OUTPUT_COLUMNS = ("entity_id", "score", "version", "role", "is_replay", "outputs", "input_ref")


def role_history(db: Database, model_id: str, *, limit: int = LIMIT) -> list[Row]:
    """Return every row of the history of a model's roles, the newest first; instants are UTC.

    Raises:
        PlanError: the model is not registered.
    """
    cycle_of(db, model_id)
    return _rows(db, name="role_history", params={"model_id": model_id, "limit": limit})


def runs(db: Database, cycle_id: str, at: datetime | None = None) -> list[Row]:
    """Return the manifests of a cycle (None: of the newest that has any), by model and role, replays last.

    Raises:
        PlanError: the cycle is not registered.
    """
    cycle_spec(db, cycle_id)
    return _rows(db, name="runs", params={"cycle_id": cycle_id, "at": at})


def outputs(
    db: Database,
    model_id: str,
    at: datetime | None = None,
    *,
    version: str | None = None,
    entity_id: str | None = None,
    limit: int = LIMIT,
) -> list[Row]:
    """Return the stored outputs of a model's champion, or of a version, in one cycle, the highest first.

    Args:
        at: the cycle, UTC; None: the newest for which the model has a live result.

    Raises:
        PlanError: the model is not registered.
    """
    cycle_of(db, model_id)
    if at is None:
        at = _rows(db, name="newest_cycle_of_model", params={"model_id": model_id})[0]["at"]
    params = {"model_id": model_id, "at": at, "version": version, "entity_id": entity_id, "limit": limit}
    return _rows(db, name="outputs", params=params)


def events(
    db: Database,
    *,
    model_id: str | None = None,
    entity_id: str | None = None,
    has_closed: bool = False,
    limit: int = LIMIT,
) -> list[Row]:
    """Return the open events, or all of them, the one that was seen last first."""
    params = {"model_id": model_id, "entity_id": entity_id, "has_closed": has_closed, "limit": limit}
    return _rows(db, name="events", params=params)
