"""The upkeep of the detection database, every hour: a Dag of four tasks that fail apart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_detection.config import settings
from airflow_detection.domain.links import page
from airflow_detection.operators.maintenance import (
    AggregateStatsOperator,
    ApplyRetentionOperator,
    EnsurePartitionsOperator,
)
from airflow_detection.operators.snapshot import Notifier, OnTrouble, SnapshotReportOperator

DOC = f"""
Keeps the detection database, every hour. Each failure shows; only `apply_retention` waits for another task.
An option of `[detection]` with the name of a task turns it off.

| Task | What it does |
|---|---|
| `ensure_partitions` | makes the table partitions of the months ahead |
| `apply_retention` | detaches, and later drops, what is older than its retention |
| `aggregate_stats_hourly` | counts the events of each hour and category |
| `snapshot_report` | judges each version in each cycle of the hour, and stores the report |

The newest report is the headline of [Detection]({page("overview")}); all are in [Reports]({page("reports")}).
How long results are kept: `airflow detection partitions plan`.
"""


def maintenance_dag(
    detection_conn_id: str | None = None,
    *,
    schedule: str = "0 * * * *",
    tags: Sequence[str] = (),
    notifiers: Sequence[Notifier] = (),
    on_trouble: OnTrouble = "ignore",
) -> DAG:
    """The Dag `detection_maintenance`.

    Args:
        schedule: a cron expression in UTC; each run reports on the hour before it.
        tags: beside `detection`.
        notifiers, on_trouble: of the report's task, see `SnapshotReportOperator`.
        detection_conn_id: a connection to the registry's database whose login may make and retire months (a
            member of `detection_admin`, where there are roles); `[detection] conn_id` unless given.
    """
    with DAG(
        dag_id="detection_maintenance",
        description="Table partitions, hourly counts and the snapshot report.",
        doc_md=DOC,
        schedule=schedule,
        start_date=datetime(2020, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        default_args={
            "retries": 2,
            "retry_delay": timedelta(minutes=2),
            "detection_conn_id": detection_conn_id or settings().conn_id,
        },
        tags=["detection", *tags],
    ) as dag:
        # Each task is a leaf or before one that does not run without it, so that each failure shows; one that
        # is switched off is skipped, and stops nothing. Retention wants the months that the first one makes.
        months = EnsurePartitionsOperator(task_id="ensure_partitions")
        months >> ApplyRetentionOperator(task_id="apply_retention", trigger_rule="none_failed")
        counts = AggregateStatsOperator(task_id="aggregate_stats_hourly")
        counts >> SnapshotReportOperator(
            task_id="snapshot_report", trigger_rule="none_failed", notifiers=notifiers, on_trouble=on_trouble
        )
    return dag
