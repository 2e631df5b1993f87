"""The upkeep of the detection database, every hour: a Dag of four tasks that fail apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_detection.config import settings
from airflow_detection.operators.maintenance import (
    AggregateStatsOperator,
    ApplyRetentionOperator,
    EnsurePartitionsOperator,
)
from airflow_detection.operators.snapshot import SnapshotReportOperator


def maintenance_dag(detection_conn_id: str | None = None) -> DAG:
    """The Dag `detection_maintenance`.

    Args:
        detection_conn_id: a connection to the registry's database whose login may make and retire months (a
            member of `detection_admin`, where there are roles); `[detection] conn_id` unless given.
    """
    with DAG(
        dag_id="detection_maintenance",
        description="Table partitions, hourly counts and the snapshot report.",
        schedule="0 * * * *",
        start_date=datetime(2020, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        default_args={
            "retries": 2,
            "retry_delay": timedelta(minutes=2),
            "detection_conn_id": detection_conn_id or settings().conn_id,
        },
        tags=["detection"],
    ) as dag:
        # No task waits for another's success: each is a leaf or behind one that it needs; each failure shows.
        EnsurePartitionsOperator(task_id="ensure_partitions")
        ApplyRetentionOperator(task_id="apply_retention")
        counts = AggregateStatsOperator(task_id="aggregate_stats_hourly")
        counts >> SnapshotReportOperator(task_id="snapshot_report", trigger_rule="none_failed")
    return dag
