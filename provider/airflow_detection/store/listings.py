"""Lists of what is stored, for people and programs: roles, runs, outputs, events, as dicts of columns."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from airflow_detection.domain.cron import cron_problem, neighbours
from airflow_detection.domain.specs import CycleSpec
from airflow_detection.errors import PlanError
from airflow_detection.store.database import Database
from airflow_detection.store.registry import Row, cycle_of, cycle_spec, fetch, version_id_of

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

    A replay has no role.

    Raises:
        PlanError: the cycle is not registered, or `at` is none of its ticks and nothing ran then.
    """
    spec = cycle_spec(db, cycle_id)
    rows = _rows(db, name="runs", params={"cycle_id": cycle_id, "at": at})
    if not rows:
        _require_tick(spec, at)
    return rows


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

    A replay has no role.

    Args:
        at: the cycle, UTC; None: the newest for which the model has a live result.

    Raises:
        PlanError: the model is not registered, or `at` is no tick of its cycle and there are no outputs.
        RegistrationError: the version is not registered.
    """
    spec, asked = cycle_spec(db, cycle_of(db, model_id)), at
    if at is None:
        at = _rows(db, name="newest_cycle_of_model", params={"model_id": model_id})[0]["at"]
    params = {"model_id": model_id, "at": at, "version": version, "entity_id": entity_id, "limit": limit}
    rows = _rows(db, name="outputs", params=params)
    if not rows:
        _require_tick(spec, asked)
        if version is not None:
            version_id_of(db, f"{model_id}@{version}")
    return rows


def events(
    db: Database,
    *,
    model_id: str | None = None,
    entity_id: str | None = None,
    has_closed: bool = False,
    limit: int = LIMIT,
) -> list[Row]:
    """Return the open events, or all of them, the one that was seen last first.

    Raises:
        PlanError: the model is not registered.
    """
    if model_id is not None:
        cycle_of(db, model_id)
    params = {"model_id": model_id, "entity_id": entity_id, "has_closed": has_closed, "limit": limit}
    return _rows(db, name="events", params=params)


def _require_tick(spec: CycleSpec, at: datetime | None) -> None:
    """Refuse an instant at which a cycle never starts."""
    if at is None or cron_problem(spec.schedule) is not None:
        return
    earlier, later = neighbours(spec.schedule, at)
    if earlier != at:
        raise PlanError(
            f"cycle {spec.cycle_id!r} has no tick at {at.isoformat()}: {spec.schedule!r} has"
            f" {earlier.isoformat()} and {later.isoformat()}"
        )
