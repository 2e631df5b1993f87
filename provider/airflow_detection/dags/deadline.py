"""The deadline that is registered of a cycle, as Airflow's own."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_detection.domain.specs import CycleSpec
from airflow_detection.errors import EntryPointError

if TYPE_CHECKING:
    from airflow.sdk.definitions.deadline import DeadlineAlert


def deadline_problem(spec: CycleSpec, allowed_prefixes: tuple[str, ...]) -> str | None:
    """Return the reason why the callback of a cycle's deadline cannot be called; None if it can."""
    from airflow_detection.engine.entrypoints import load_function

    try:
        load_function(spec.deadline["callback"], allowed_prefixes)
    except EntryPointError as error:
        return str(error)
    return None


def deadline_alert(spec: CycleSpec, allowed_prefixes: tuple[str, ...]) -> DeadlineAlert:
    """Return the alert of a cycle's deadline, counted from when a run was queued: past cycles are run late.

    Raises:
        EntryPointError: its callback is of no allowed module, cannot be imported or is no function.
    """
    from airflow.sdk.definitions.callback import AsyncCallback, SyncCallback
    from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

    from airflow_detection.engine.entrypoints import load_function

    callback = spec.deadline["callback"]
    function = load_function(callback, allowed_prefixes)
    is_async = inspect.iscoroutinefunction(function) or hasattr(function, "__await__")
    kind = AsyncCallback if is_async else SyncCallback
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=spec.deadline["after_s"]),
        callback=kind(callback.replace(":", ".")),
    )
