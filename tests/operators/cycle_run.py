"""Run generated Dags in a process of their own, as Airflow would, and print what became of their tasks.

Reads a JSON list of steps from standard input: `{"at": ISO instant or null, "conf": {...}, "env": {...},
"cycle": id, "forked": whether}`; prints a JSON line for each, `{"state": ..., "tasks": {id: state},
"rendered": {id: fields}}`.

A step that is `forked` runs each task as a worker does: in a process that Airflow's supervisor forks, with
its standard streams, its log channel and its parse of the Dag file.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext, redirect_stdout
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

SUPERVISOR = "airflow.sdk.execution_time.supervisor"


def run(step: dict[str, Any]) -> dict[str, Any]:
    """Parse the cycles' Dags anew and run one of them."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields

    from airflow_detection.dags.cycles import cycle_dags

    os.environ.update(step.get("env", {}))
    dag = cycle_dags()[f"detection_{step.get('cycle', 'fleet')}"]
    for task in dag.tasks:
        task.retry_delay = task.retry_delay * 0
    at = datetime.fromisoformat(step["at"]) if step["at"] else None
    with patch(f"{SUPERVISOR}.run_task_in_process", run_forked) if step.get("forked") else nullcontext():
        dag_run = dag.test(logical_date=at, run_conf=step.get("conf") or {})
    return {
        "state": str(dag_run.state),
        "tasks": {ti.task_id: str(ti.state) for ti in dag_run.get_task_instances()},
        "rendered": {
            ti.task_id: RenderedTaskInstanceFields.get_templated_fields(ti)
            for ti in dag_run.get_task_instances()
        },
    }


def run_forked(*, ti: Any, task: Any) -> Any:
    """Run a task in a process of Airflow's own, which asks the API server of this one."""
    import structlog
    from airflow.sdk.api.datamodels._generated import BundleInfo
    from airflow.sdk.execution_time.supervisor import ActivitySubprocess, InProcessTestSupervisor

    process = ActivitySubprocess.start(
        what=ti,
        dag_rel_path="detection_cycles.py",
        bundle_info=BundleInfo(name="dags-folder"),
        client=InProcessTestSupervisor._api_client(task.dag),
        logger=structlog.get_logger("task"),
        sentry_integration="",
    )
    process.wait()
    return SimpleNamespace(msg=None, ti=SimpleNamespace(state=process.final_state, task=task))


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        results = [run(step) for step in json.load(sys.stdin)]
    print("\n".join(json.dumps(result) for result in results))
