"""End of a cycle: its summary, and a manifest for each version that left none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from airflow_detection.cycle.planning import steps_of, with_current_switches
from airflow_detection.domain.names import INLINE, OTHER, task_id
from airflow_detection.domain.reports import CycleSummary, RunReport
from airflow_detection.domain.specs import Mode, Outcome
from airflow_detection.engine.plan import ExecutionPlan
from airflow_detection.errors import PlanError
from airflow_detection.store import cycle_runs, registry
from airflow_detection.store.database import Database
from airflow_detection.store.manifests import Manifest, manifests, record_missing_run


def summary_json(summary: CycleSummary) -> dict[str, Any]:  # Any: a JSON object
    """Return the summary as it is stored."""
    return {
        "executed": summary.executed,
        "failed": summary.failed,
        "skipped_missing_deps": summary.skipped_missing_deps,
        "shadow_ran": summary.shadow_ran,
        "shadow_failed": summary.shadow_failed,
        "shadow_skipped": summary.shadow_skipped,
        "without_primary": list(summary.without_primary),
        "marked_successful": list(summary.marked_successful),
        "not_replayed": dict(summary.not_replayed),
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
        task_states: final state by task id (see `domain.names`), as in Airflow. A task that failed counts as
            failed even where an earlier result stays in force. A broken model counts among `failed`.

    Raises:
        PlanError: the cycle was never opened in this mode.
    """
    from airflow_detection.engine.executor import summarize  # here: no task of a model needs it

    cycle = registry.cycle_spec(db, cycle_id).at(started_at)
    recorded = cycle_runs.recorded_plan(db, cycle_id, cycle.started_at, mode)
    if recorded is None:
        raise PlanError(f"cycle {cycle_id!r} at {cycle.started_at.isoformat()} was not opened")
    plan = with_current_switches(db, cycle, ExecutionPlan.from_json(recorded.plan))
    cycle_manifests = manifests(db, cycle_id, cycle.started_at)
    shared_state = task_states.get(INLINE, task_states.get(OTHER))
    shared_task_failed = "failed" in (task_states.get(OTHER), task_states.get(INLINE))
    reports, marked, not_replayed = [], [], {}
    for step in steps_of(plan, mode):
        manifest = cycle_manifests.get((step.version_id, step.is_replay))
        state = task_states.get(task_id(step))
        if manifest is None and state in (None, "skipped") and shared_task_failed:
            state = "failed"
        outcome = _outcome(manifest, state)
        if plan.is_enabled(step.model_id) and _is_marked(manifest, state, shared_state):
            marked.append(step.label)
        reason = manifest.error if manifest else None
        if manifest is None:
            ended_as = state or ("success" if shared_state == "success" else None)
            reason = f"the task ended as {ended_as!r} without a result" if ended_as else "no task ran it"
            record_missing_run(db, cycle, step, outcome, reason)
        if step.is_replay and outcome is not Outcome.SUCCEEDED and plan.is_enabled(step.model_id):
            not_replayed[step.label] = f"{outcome.value}: {reason}" if reason else outcome.value
        reports.append(RunReport(version=step, outcome=outcome, started_at=recorded.opened_at))
    summary = replace(summarize(plan, reports), marked_successful=tuple(marked), not_replayed=not_replayed)
    if mode is Mode.OVERRIDE:  # champions did not run: a broken one did not fail here
        summary = replace(summary, failed=0)
    cycle_runs.record_summary(db, cycle, mode, summary_json(summary))
    return summary


def _is_marked(manifest: Manifest | None, state: str | None, shared_state: str | None) -> bool:
    """Tell whether a task without a result is successful: no task ends so by itself."""
    if state is None:
        return manifest is None and shared_state == "success"
    return state == "success" and (manifest is None or manifest.outcome is Outcome.SKIPPED)


def _outcome(manifest: Manifest | None, state: str | None) -> Outcome:
    if state == "failed":
        return Outcome.FAILED
    if manifest is None or state == "upstream_failed":
        return Outcome.SKIPPED
    return manifest.outcome
