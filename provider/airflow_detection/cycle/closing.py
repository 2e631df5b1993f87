"""The end of a cycle: its summary, and a note for each version that left no manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from airflow_detection.cycle.planning import (
    steps_of,
    with_current_enabled,
)
from airflow_detection.domain.names import INLINE, OTHER, task_id
from airflow_detection.domain.reports import CycleSummary, RunReport
from airflow_detection.domain.specs import Mode, Outcome
from airflow_detection.engine.plan import ExecutionPlan
from airflow_detection.errors import PlanError
from airflow_detection.store import cycle_runs, registry
from airflow_detection.store.database import Database
from airflow_detection.store.manifests import Manifest, manifests, note_missing


def summary_json(summary: CycleSummary) -> dict[str, Any]:  # Any: a JSON object
    """The summary as it is stored."""
    return {
        "executed": summary.executed,
        "failed": summary.failed,
        "skipped_missing_deps": summary.skipped_missing_deps,
        "shadow_ran": summary.shadow_ran,
        "shadow_failed": summary.shadow_failed,
        "without_primary": list(summary.without_primary),
    }


def close_cycle(
    db: Database,
    cycle_id: str,
    started_at: datetime,
    *,
    mode: Mode,
    task_states: Mapping[str, str],
) -> CycleSummary:
    """Count how the cycle ended, note versions that left no manifest, and record the summary.

    Args:
        task_states: final state by task id (see `naming`), as Airflow knows it. A task that failed counts
            as failed even where an earlier result stays in force. A broken model counts among `failed`.

    Raises:
        PlanError: the cycle was never opened in this mode.
    """
    from airflow_detection.engine.executor import summarize  # here: a model's task has no use for it

    cycle = registry.cycle_spec(db, cycle_id).at(started_at)
    recorded = cycle_runs.recorded_plan(db, cycle_id, cycle.started_at, mode)
    if recorded is None:
        raise PlanError(f"cycle {cycle_id!r} at {cycle.started_at.isoformat()} was not opened")
    plan = with_current_enabled(db, cycle, ExecutionPlan.from_json(recorded.plan))
    known = manifests(db, cycle_id, cycle.started_at)
    collective_failed = "failed" in (task_states.get(OTHER), task_states.get(INLINE))
    ended = []
    for step in steps_of(plan, mode):
        manifest, state = known.get((step.version_id, step.is_replay)), task_states.get(task_id(step))
        if manifest is None and state in (None, "skipped") and collective_failed:
            state = "failed"
        outcome = _outcome(manifest, state)
        if manifest is None:
            reason = f"the task ended as {state!r} without a result" if state else "no task ran it"
            note_missing(db, cycle, step, outcome, reason)
        ended.append(RunReport(version=step, outcome=outcome, started_at=recorded.opened_at))
    summary = summarize(plan, ended)
    if mode is Mode.OVERRIDE:  # champions did not run: what is broken among them did not fail here
        summary = replace(summary, failed=0)
    cycle_runs.record_summary(db, cycle, mode, summary_json(summary))
    return summary


def _outcome(manifest: Manifest | None, state: str | None) -> Outcome:
    if state == "failed":
        return Outcome.FAILED
    if manifest is None or state == "upstream_failed":
        return Outcome.SKIPPED
    return manifest.outcome
