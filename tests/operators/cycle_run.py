"""Generated Dags, run in a process of their own as Airflow would, for `tests.forked`.

A request has an environment, and `steps`, a `flight` (see `flight.py`) or an `order` (see `order.py`). A step
is `{"at": ISO instant or null, "conf": {...}, "env": {...}, "cycle": id, "forked": whether}`, with `"dag":
"training"` of that Dag in place of a cycle's; its answer is `{"state": ..., "tasks": {id: state}, "rendered":
{id: fields}}`.

A step that is `forked` runs each task as a worker does: in a process that Airflow's supervisor forks, with
its standard streams, its log channel and its parse of the Dag file.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import nullcontext
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

SUPERVISOR = "airflow.sdk.execution_time.supervisor"


def run(step: dict[str, Any]) -> dict[str, Any]:
    """Parse the Dags anew and run one of them."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields

    from airflow_detection.dags.cycles import cycle_dags
    from airflow_detection.dags.training import training_dag

    os.environ.update(step.get("env", {}))
    is_training = step.get("dag") == "training"
    dag = training_dag() if is_training else cycle_dags()[f"detection_{step.get('cycle', 'fleet')}"]
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
        dag_rel_path=f"{task.dag_id if task.dag_id == 'detection_training' else 'detection_cycles'}.py",
        bundle_info=BundleInfo(name="dags-folder"),
        client=InProcessTestSupervisor._api_client(task.dag),
        logger=structlog.get_logger("task"),
        sentry_integration="",
    )
    process.wait()
    return SimpleNamespace(msg=None, ti=SimpleNamespace(state=process.final_state, task=task))


def load() -> None:
    """Load what every run needs, with no connection and no thread that a fork would break."""
    import asyncio

    import httpx
    from airflow.sdk.execution_time.supervisor import in_process_api_server

    async def wake() -> None:  # the routes are made at the first request
        api = in_process_api_server().app
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://api") as client:
            (await client.get("/health")).raise_for_status()

    asyncio.run(wake())


def answer(request: dict[str, Any]) -> Any:  # Any: JSON
    """Do what a request has."""
    from airflow import settings
    from tests.operators.flight import fly_all
    from tests.operators.order import order_of

    os.environ.clear()
    os.environ.update(request["env"])
    tempfile.tempdir = None  # found anew
    settings.configure_vars()
    settings.configure_orm()
    if "flight" in request:
        return fly_all(**request["flight"])
    if "order" in request:
        return order_of(**request["order"])
    return [run(step) for step in request["steps"]]
