"""The upkeep of the detection database, every hour: a Dag of four tasks that fail apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_detection.config import settings
from airflow_detection.domain.links import page
from airflow_detection.operators.maintenance import (
    AggregateStatsOperator,
    ApplyRetentionOperator,
    EnsurePartitionsOperator,
)
from airflow_detection.operators.snapshot import SnapshotReportOperator

DOC = f"""
Keeps the detection database, every hour. Its tasks fail apart: each failure shows, and none stops another. An
option of `[detection]` with the name of a task turns it off.

| Task | What it does |
|---|---|
| `ensure_partitions` | makes the table partitions of the months ahead |
| `apply_retention` | detaches, and later drops, what is older than its retention |
| `aggregate_stats_hourly` | counts the events of each hour and category |
| `snapshot_report` | judges each version in each cycle of the hour, and stores the report |

The newest report is the headline of [Detection]({page("overview")}); all are in [Reports]({page("reports")}).
How long results are kept: `airflow detection partitions plan`.
"""


def maintenance_dag(detection_conn_id: str | None = None) -> DAG:
    """The Dag `detection_maintenance`.

    Args:
        detection_conn_id: a connection to the registry's database whose login may make and retire months (a
            member of `detection_admin`, where there are roles); `[detection] conn_id` unless given.
    """
    with DAG(
        dag_id="detection_maintenance",
        description="Table partitions, hourly counts and the snapshot report.",
        doc_md=DOC,
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
