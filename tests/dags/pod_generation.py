"""Prints what `KubernetesExecutor` makes of a Dag's tasks, as JSON; run in a process of its own.

Argument: the `task_options` of a model with versions in each role, as JSON.
"""

from __future__ import annotations

import json
import queue
import sys
import warnings
from typing import Any

import dill
from airflow.executors import workloads
from airflow.executors.workloads.task import TaskInstanceDTO
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils.sqlalchemy import ExecutorConfigType
from sqlalchemy.dialects import postgresql
from tests.dags.test_cycles import cycle
from tests.dags.test_pods import in_each_role

from airflow_detection.dags.cycles import build_dag


def stored(executor_config: Any) -> Any:
    """Return what the column of a task instance gives back of it."""
    column, dialect = ExecutorConfigType(pickler=dill), postgresql.dialect()
    written, read = column.bind_processor(dialect), column.result_processor(dialect, None)
    return read(written(executor_config))


def pod_of(executor: Any, scheduler: Any, task: Any) -> Any:
    """Return the pod of a task, as the executor would send it to the cluster."""
    instance = TaskInstanceDTO(
        id="018f4c2e-0000-7000-8000-000000000000",
        dag_version_id="018f4c2e-0000-7000-8000-000000000001",
        task_id=task.task_id,
        dag_id="detection_fleet",
        run_id="scheduled__2026-01-01",
        try_number=1,
        map_index=-1,
        pool_slots=1,
        queue=task.queue,
        priority_weight=1,
        executor_config=stored(task.executor_config),
    )
    workload = workloads.ExecuteTask(
        ti=instance,
        token="",
        dag_rel_path="cycles.py",
        bundle_info={"name": "dags"},
        log_path=None,
    )
    executor.execute_async(
        key=instance.key, command=[workload], queue=instance.queue, executor_config=instance.executor_config
    )
    pod = scheduler._build_pod_request(executor.task_queue.get_nowait())
    return scheduler.api_client.sanitize_for_serialization(pod)


def main() -> None:
    warnings.simplefilter("ignore")
    options = json.loads(sys.argv[1])
    dag = build_dag(cycle(in_each_role(options)))
    written = [DagSerialization.to_dict(d) for d in (dag, build_dag(cycle(in_each_role(options))))]
    told: dict[str, Any] = {
        "serialised": [json.dumps(w) for w in written],
        "imported": sorted(m for m in sys.modules if m.partition(".")[0].startswith("kubernetes")),
    }

    from airflow.providers.cncf.kubernetes.executors.kubernetes_executor import KubernetesExecutor
    from airflow.providers.cncf.kubernetes.executors.kubernetes_executor_utils import (
        AirflowKubernetesScheduler,
    )
    from kubernetes.client import ApiClient

    executor = KubernetesExecutor()
    executor.task_queue, executor.scheduler_job_id = queue.Queue(), "1"  # as start() does, without a cluster
    scheduler = AirflowKubernetesScheduler.__new__(AirflowKubernetesScheduler)
    scheduler.__dict__.update(
        kube_config=executor.kube_config,
        namespace=executor.kube_config.kube_namespace,
        scheduler_job_id="1",
        supports_task_instance_uuid=False,
        api_client=ApiClient(),
    )
    tasks = DagSerialization.from_dict(written[0]).task_dict.values()
    told["executors"] = {task.task_id: task.executor for task in tasks}
    told["queues"] = {task.task_id: task.queue for task in tasks}
    told["pods"] = {task.task_id: pod_of(executor, scheduler, task) for task in tasks}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
