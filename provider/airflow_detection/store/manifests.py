"""Manifests: one row for the run of each version in a cycle, with its outcome."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.specs import Cycle, Outcome, Role, VersionSpec
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import storage_errors
from airflow_detection.store.encoding import to_json
from airflow_detection.store.registry import cycle_of, fetch


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Outcome of one version in one cycle; an `error` beside SUCCEEDED is that of a later attempt."""

    version_id: int
    is_replay: bool
    model_id: str
    role: Role
    outcome: Outcome
    attempt: int
    input_count: int
    output_count: int
    duration_ms: float
    error: str | None


def manifests(db: Database, cycle_id: str, started_at: datetime) -> dict[tuple[int, bool], Manifest]:
    """Return the manifests of one cycle by (version_id, is_replay); a version without one did not run.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    query = db.queries("detection_model_runs")["of_cycle"]
    with storage_errors():
        rows = db.conn.execute(query, {"cycle_id": cycle_id, "cycle_started_at": started_at}).fetchall()
    return {(row[0], row[1]): _manifest(row) for row in rows}


def run_of(
    db: Database, model_id: str, started_at: datetime, *, version: str | None, outcomes: Sequence[str]
) -> dict[str, Any] | None:  # Any: JSON values
    """Return the live run of a model's champion (None), or of a version, if it has one of the outcomes.

    Keys: `cycle_id`, `version`, `role`, `outcome`, `input_count`, `output_count`, `duration_ms`.

    Raises:
        PlanError: the model is not registered.
        RegistryUnavailable: the database did not answer.
    """
    params = {"cycle_id": cycle_of(db, model_id), "model_id": model_id, "version": version,
              "cycle_started_at": started_at, "outcomes": list(outcomes)}  # fmt: skip
    rows = fetch(db, "detection_model_runs", "of_model", params)
    return rows[0] if rows else None


def _manifest(row: tuple[Any, ...]) -> Manifest:  # Any: the columns of of_cycle
    return Manifest(
        version_id=row[0],
        is_replay=row[1],
        model_id=row[2],
        role=Role(row[3]),
        outcome=Outcome(row[4]),
        attempt=row[5],
        input_count=row[6],
        output_count=row[7],
        duration_ms=row[8],
        error=row[9],
    )


def record_missing_run(
    db: Database,
    cycle: Cycle,
    version: VersionSpec,
    outcome: Outcome,
    error: str | None,
) -> None:
    """Write a manifest for a version that left none, such as one that was skipped or killed.

    An existing manifest stays as it is.

    Raises:
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    query = db.queries("detection_model_runs")["record_missing_run"]
    params = {
        "new_outcome": outcome.value,
        "error": storable_text(error),
        "params_digest": params_digest(version.params),
    }
    with storage_errors(cycle):
        db.conn.execute(query, run_params(version, cycle) | params)


_MAX_ERROR_CHARS = 20_000


def run_params(version: VersionSpec, cycle: Cycle) -> dict[str, Any]:  # Any: a statement's params
    """Return the statement params that identify one run."""
    return {
        "cycle_id": cycle.cycle_id,
        "cycle_started_at": cycle.started_at,
        "model_id": version.model_id,
        "version_id": version.version_id,
        "role": version.role.value,
        "is_replay": version.is_replay,
    }


def params_digest(params: JsonMapping) -> str:
    """Return the sha256 of a version's params as JSON with sorted keys, in hex."""
    return hashlib.sha256(to_json(params)).hexdigest()


def storable_text(text: str | None) -> str | None:
    """Return a text that a text column can hold: without NUL, valid Unicode, at most 20000 characters."""
    if text is None:
        return None
    return text[:_MAX_ERROR_CHARS].replace("\0", "\ufffd").encode(errors="replace").decode()
