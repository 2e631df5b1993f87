"""The changes that the next parse will make to the Dags, known before it.

Airflow's own hash decides: that of the serialised Dags of the plan file and of the registry as it is now.
Both are without what the Dag file gives to `cycle_dags`, which is the same before and after.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_detection.domain.settings import Settings
from airflow_detection.plan_cache.cache import last_known
from airflow_detection.plan_cache.held_back import hold_back
from airflow_detection.plan_cache.source import registered_now

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from airflow_detection.plan_cache.known import KnownRegistry
    from airflow_detection.store.database import Database

Json = dict[str, Any]  # Any: a JSON object
COMPARED_APART = ("doc_md", "tasks")
REPEATED = ("dag_dependencies", "task_group")
"""Entries that repeat what the tasks say."""


@dataclass(frozen=True, slots=True)
class DagDifference:
    """The changes that the next parse makes to one Dag, one line each; none if there are no `changes`."""

    dag_id: str
    changes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the lines to print."""
        if not self.changes:
            return [f"{self.dag_id}: no new Dag version"]
        return [f"{self.dag_id}: new Dag version", *(f"  {line}" for line in self.changes)]


def differences(
    db: Database, settings: Settings, *, file: Path | None = None, dag_id: str | None = None
) -> list[DagDifference]:
    """Return what the next parse changes on this machine, by Dag id; of one Dag if `dag_id` names it.

    Args:
        file: a registration file; what would change after `airflow detection apply` of it. Nothing is kept.

    Raises:
        InputFileError, RegistrationError: the file cannot be applied.
        RegistryUnavailable: the database did not answer.
    """
    old = last_known(settings.conn_id, settings)
    new = _coming(db, settings, old, file)
    before, after = _serialised(old, settings), _serialised(new, settings)
    ids = sorted(before.keys() | after.keys())
    return [_difference(i, before.get(i), after.get(i)) for i in ids if dag_id in (None, i)]


def _coming(db: Database, settings: Settings, old: KnownRegistry | None, file: Path | None) -> KnownRegistry:
    """Return what the next parse will make Dags of: a change that it holds back is held back here too."""
    import psycopg

    from airflow_detection.registration.apply import apply_registration, locked_registration
    from airflow_detection.store import registry

    if file is None:
        with registry.with_shared_lock(db):
            fresh, confirmed = registered_now(db)
    else:
        with locked_registration(db, file) as (registration, known):
            apply_registration(db, registration, known, str(file))
            fresh, confirmed = registered_now(db)
            raise psycopg.Rollback
    return hold_back(old, fresh, confirmed)


def _serialised(known: KnownRegistry | None, settings: Settings) -> dict[str, Json]:
    from airflow.serialization.serialized_objects import DagSerialization

    from airflow_detection.dags.cycles import DagArguments, dags_of

    arguments = DagArguments(allowed_prefixes=settings.allowed_prefixes)
    dags: list[DAG] = dags_of(known, settings.conn_id, arguments=arguments) if known else []
    return {dag.dag_id: DagSerialization.to_dict(dag) for dag in dags}


def _difference(dag_id: str, before: Json | None, after: Json | None) -> DagDifference:
    from airflow.models.serialized_dag import SerializedDagModel

    if before is None or after is None:
        return DagDifference(dag_id, ("- the Dag" if after is None else "+ the Dag",))
    old, new = (SerializedDagModel.hash(dag) for dag in (before, after))  # type: ignore[no-untyped-call]  # Airflow's own is untyped
    if old == new:
        return DagDifference(dag_id)
    changes = tuple(_changes(before["dag"], after["dag"]))
    return DagDifference(dag_id, changes or ("~ the order of what is serialised",))


def _changes(before: Json, after: Json) -> Iterator[str]:
    left = {key: value for key, value in before.items() if key not in (*COMPARED_APART, *REPEATED)}
    right = {key: value for key, value in after.items() if key not in (*COMPARED_APART, *REPEATED)}
    yield from _fields("", left, right)
    old, new = _tasks(before), _tasks(after)
    for task_id in sorted(old.keys() | new.keys()):
        if task_id not in new:
            yield f"- task {task_id}"
        elif task_id not in old:
            yield f"+ task {task_id}"
        else:
            yield from _fields(f"task {task_id} ", old[task_id], new[task_id])
    was, now = ((dag.get("doc_md") or "").splitlines() for dag in (before, after))
    for line in unified_diff(was, now, n=0, lineterm=""):
        if not line.startswith(("---", "+++", "@@")) and line[1:].strip():
            yield f"{line[0]} doc: {line[1:]}"


def _tasks(dag: Json) -> dict[str, Json]:
    return {task["__var"]["task_id"]: task["__var"] for task in dag["tasks"]}


def _fields(place: str, before: Json, after: Json) -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        old, new = _plain(before.get(key)), _plain(after.get(key))
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _fields(f"{place}{key}.", old, new)
        else:
            yield f"~ {place}{key}: {_short(old)} -> {_short(new)}"


def _plain(value: object) -> object:
    """Return a serialised value without Airflow's own marks of its type."""
    if isinstance(value, dict):
        inner = value.get("__var", value)
        if inner is not value:
            return _plain(inner)
        return {str(getattr(key, "value", key)): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
