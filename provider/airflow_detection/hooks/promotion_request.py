"""A promotion that a task asks for: a run of the Dag `detection_promotion`, started through Airflow."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import TriggerDagRun

from airflow_detection.errors import PromotionError

PROMOTION_DAG = "detection_promotion"


def start_promotion(conf: Mapping[str, Any]) -> str:  # Any: the Dag's params
    """Start a run of PROMOTION_DAG from a running task, once for each run of the task; return the run's id.

    The one who asks is the user who started the task's own run: Airflow's server takes the name over from
    there, and no task can give another one.

    Raises:
        PromotionError: nobody has started the task's run, as where a schedule did, or Airflow refused.
    """
    context = get_current_context()
    ti, dag_run = context["ti"], context["dag_run"]
    version = conf["version"]
    if not dag_run.triggering_user_name:
        raise PromotionError(
            f"{version} cannot be asked for by {dag_run.run_id}: nobody is known to have started that run"
        )
    key = (ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index), version)
    run_id = f"asked__{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(key))}"
    message = TriggerDagRun(dag_id=PROMOTION_DAG, run_id=run_id, conf=dict(conf))
    try:
        task_runner.SUPERVISOR_COMMS.send(message)  # of a run that exists already, it says so
    except AirflowRuntimeError as error:
        raise PromotionError(f"{version} cannot be asked for: {PROMOTION_DAG}: {error}") from error
    return run_id
