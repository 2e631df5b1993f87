"""Reading the registry, within a time limit."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from airflow_detection.domain.names import dag_ids
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import CycleSpec
from airflow_detection.errors import RegistrationError, RegistryUnavailable
from airflow_detection.plan_cache.known import KnownCycle, KnownRegistry

if TYPE_CHECKING:
    from airflow_detection.store.confirmations import Confirmation
    from airflow_detection.store.database import Database

log = logging.getLogger(__name__)
T = TypeVar("T")
CONNECT_TIMEOUT_S = 3
"""For each address of the server, and for each statement; Airflow gives a Dag file 30 s."""
READ_TIMEOUT_S = 10.0
"""For all statements together, whatever the server does."""


def read_registry(
    conn_id: str, settings: Settings, dag_id: str | None = None
) -> tuple[KnownRegistry, Mapping[str, Confirmation]]:
    """Ask the registry's database, as it is now; for the cycle of one Dag alone if `dag_id` is given.

    Raises:
        RegistryUnavailable: it did not answer in time.
        MigrationError: it has no registry, or an older one.
    """
    from airflow.sdk import Connection

    from airflow_detection.hooks.connection import conninfo

    info = conninfo(Connection.get(conn_id))
    return _within(READ_TIMEOUT_S, lambda: _read(info, settings, dag_id))


def _read(
    info: str, settings: Settings, dag_id: str | None
) -> tuple[KnownRegistry, Mapping[str, Confirmation]]:
    from airflow_detection.store import registry
    from airflow_detection.store.connection import connect
    from airflow_detection.store.database import Database

    with connect(info, connect_timeout_s=CONNECT_TIMEOUT_S) as conn:
        db = Database(conn, settings.schema)
        with registry.with_shared_lock(db, limit_s=CONNECT_TIMEOUT_S):
            return registered_now(db, dag_id)


def registered_now(
    db: Database, dag_id: str | None = None
) -> tuple[KnownRegistry, Mapping[str, Confirmation]]:
    """Return the registry as it is now, or the cycle of one Dag alone, and the newest confirmations.

    Call it under a lock of the registry.
    """
    from airflow_detection.store import confirmations, registry

    all_ids = registry.cycle_ids(db)
    dag_of = {} if dag_id is None else dag_ids(all_ids)
    asked = [cycle_id for cycle_id in all_ids if dag_id is None or dag_of[cycle_id] == dag_id]
    known = KnownRegistry(
        read_at=time.time(), cycles=tuple(_known_now(db, asked)), all_ids=tuple(all_ids) if dag_id else ()
    )
    return known, confirmations.newest(db)


def _known_now(db: Database, cycle_ids: Sequence[str]) -> list[KnownCycle]:
    """Return cycles as they are now; those that cannot be read are found by halves and keep no other back."""
    from airflow_detection.store import registry

    if not cycle_ids:
        return []
    try:
        models = registry.models_of_cycles_at(db, cycle_ids, None)
        specs = registry.cycle_specs(db, cycle_ids)
        return [KnownCycle(spec=spec, models=tuple(models[spec.cycle_id])) for spec in specs]
    except (RegistrationError, ValueError) as error:
        if len(cycle_ids) > 1:
            half = len(cycle_ids) // 2
            return _known_now(db, cycle_ids[:half]) + _known_now(db, cycle_ids[half:])
        return [_unread(cycle_ids[0], error)]


def _unread(cycle_id: str, error: Exception) -> KnownCycle:
    reason = f"cycle {cycle_id!r} cannot be read: {error}"
    log.warning("%s", reason)
    spec = CycleSpec(
        cycle_id=cycle_id, schedule="", lookback=timedelta(), start_date=datetime(1970, 1, 1, tzinfo=UTC)
    )
    return KnownCycle(spec=spec, refused_reason=reason)


def _within(limit_s: float, work: Callable[[], T]) -> T:
    """Do `work` in a thread and stop waiting at the limit: a silent server does not end its statements."""
    results: list[T] = []
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            results.append(work())
        except BaseException as error:  # it is raised below, in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=guarded, name="ask the registry", daemon=True)
    thread.start()
    thread.join(limit_s)
    if errors:
        raise errors[0]
    if not results:
        raise RegistryUnavailable(f"no answer within {limit_s:.0f} s")
    return results[0]
