"""Legacy path: the function that a cycle runs while its registry flag is off."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from airflow_detection.domain.settings import Settings
from airflow_detection.engine.entrypoints import load_function
from airflow_detection.errors import PlanError
from airflow_detection.store import registry
from airflow_detection.store.database import Database


def legacy_function(
    db: Database, settings: Settings, cycle_id: str, started_at: datetime
) -> Callable[[], object]:
    """Return the cycle's legacy entry point (`module:function`, an allowed module), bound to the `Cycle`.

    Raises:
        PlanError: the cycle has none.
        EntryPointError: it is not allowed or cannot be imported.
    """
    spec = registry.cycle_spec(db, cycle_id)
    if not spec.legacy_entrypoint:
        raise PlanError(f"cycle {cycle_id!r} has no legacy entry point")
    past = spec.with_settings(registry.settings_at(db, cycle_id, started_at))
    return partial(load_function(spec.legacy_entrypoint, settings.allowed_prefixes), past.at(started_at))
