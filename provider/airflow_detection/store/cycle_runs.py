"""Records of a cycle as a whole: its plan when it opens, its summary when it closes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.specs import Cycle, Mode
from airflow_detection.errors import PlanError
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import storage_errors
from airflow_detection.store.encoding import to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedPlan:
    """Plan that a cycle was opened with."""

    plan: Mapping[str, Any]  # Any: ExecutionPlan.to_json
    digest: str
    opened_at: datetime


def record_plan(
    db: Database,
    cycle: Cycle,
    mode: Mode,
    plan_json: JsonMapping,
    digest: str,
    dag_run_id: str | None,
    *,
    is_first_to_stay: bool = False,
) -> datetime | None:
    """Record the plan of a cycle and return when the cycle was opened.

    Reopening it moves that instant, so that inputs which have arrived since then count. With
    `is_first_to_stay`, if another plan is recorded, nothing is changed and None is returned; of two writers
    at once, one is the first.

    Raises:
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    query = db.queries("detection_cycle_runs")["record_plan"]
    values = {
        "plan": to_json(plan_json).decode(),
        "digest": digest,
        "dag_run_id": dag_run_id,
        "is_first_to_stay": is_first_to_stay,
    }
    with storage_errors(cycle):
        row = db.conn.execute(query, _key(cycle.cycle_id, cycle.started_at, mode) | values).fetchone()
    return row[0] if row else None


def recorded_plan(db: Database, cycle_id: str, started_at: datetime, mode: Mode) -> RecordedPlan | None:
    """Return the plan that was recorded for a cycle in this mode, if there is one.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    query = db.queries("detection_cycle_runs")["recorded_plan"]
    with storage_errors():
        row = db.conn.execute(query, _key(cycle_id, started_at, mode)).fetchone()
    return RecordedPlan(plan=row[0], digest=row[1], opened_at=row[2]) if row else None


def record_summary(
    db: Database,
    cycle: Cycle,
    mode: Mode,
    summary_json: JsonMapping,
) -> None:
    """Record the summary of a cycle and that it is closed.

    Raises:
        PlanError: it was never opened in this mode.
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    query = db.queries("detection_cycle_runs")["record_summary"]
    values = {"summary": to_json(summary_json).decode()}
    with storage_errors(cycle):
        cursor = db.conn.execute(query, _key(cycle.cycle_id, cycle.started_at, mode) | values)
    if not cursor.rowcount:
        raise PlanError(
            f"cycle {cycle.cycle_id!r} at {cycle.started_at.isoformat()} was never opened as {mode}"
        )


def replayable(
    db: Database, cycle_id: str, version_ids: Sequence[int], *, start: datetime, end: datetime
) -> list[tuple[datetime, bool]]:
    """Return the cycles in [start, end) that ran, in order, and whether each version has a replay in them.

    Raises:
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    query = db.queries("detection_cycle_runs")["replayable"]
    values = {"cycle_id": cycle_id, "version_ids": list(set(version_ids)), "start": start, "end": end}
    with storage_errors():
        return [(row[0], row[1]) for row in db.conn.execute(query, values)]


def inputs_digest(db: Database, cycle: Cycle, mode: Mode, opened_at: datetime) -> str | None:
    """Return the digest of the input rows that are kept for the cycle's versions, if any are.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    values = _key(cycle.cycle_id, cycle.started_at, mode) | {"opened_at": opened_at}
    with storage_errors():
        row = db.conn.execute(db.queries("detection_cycle_runs")["inputs_digest"], values).fetchone()
    return row[0] if row else None


def keep_inputs(db: Database, cycle: Cycle, mode: Mode, opened_at: datetime, digest: str) -> str | None:
    """Name the input rows that are kept; return the digest of those that count, None in a closed cycle.

    Raises:
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    values = _key(cycle.cycle_id, cycle.started_at, mode) | {"opened_at": opened_at, "digest": digest}
    with storage_errors(cycle):
        row = db.conn.execute(db.queries("detection_cycle_runs")["keep_inputs"], values).fetchone()
    return row[0] if row else None


def _key(cycle_id: str, started_at: datetime, mode: Mode) -> dict[str, Any]:  # Any: a statement's params
    return {"cycle_id": cycle_id, "cycle_started_at": started_at, "mode": mode.value}
