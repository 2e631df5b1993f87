"""Run generated Dags in a process of their own, as Airflow would, and print what became of their tasks.

Reads a JSON list of steps from standard input: `{"at": ISO instant or null, "conf": {...}, "env": {...},
"cycle": id}`; prints a JSON line for each, `{"state": ..., "tasks": {id: state}, "rendered": {id: fields}}`.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout
from datetime import datetime
from typing import Any


def run(step: dict[str, Any]) -> dict[str, Any]:
    """Parse the cycles' Dags anew and run one of them."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields

    from airflow_detection.dags.cycles import cycle_dags

    os.environ.update(step.get("env", {}))
    dag = cycle_dags()[f"detection_{step.get('cycle', 'fleet')}"]
    for task in dag.tasks:
        task.retry_delay = task.retry_delay * 0
    at = datetime.fromisoformat(step["at"]) if step["at"] else None
    dag_run = dag.test(logical_date=at, run_conf=step.get("conf") or {})
    return {
        "state": str(dag_run.state),
        "tasks": {ti.task_id: str(ti.state) for ti in dag_run.get_task_instances()},
        "rendered": {
            ti.task_id: RenderedTaskInstanceFields.get_templated_fields(ti)
            for ti in dag_run.get_task_instances()
        },
    }


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        results = [run(step) for step in json.load(sys.stdin)]
    print("\n".join(json.dumps(result) for result in results))
