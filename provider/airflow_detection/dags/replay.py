"""The Dag `detection_replay`: versions over many past cycles, without a Dag run for each."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_detection.config import settings
from airflow_detection.domain.links import page
from airflow_detection.operators.replay import ReplayOperator, ReplayPartsOperator

DOC = f"""
Replays versions over past cycles, a task a day, each cycle after the other. What a champion has stored stays
as it is; the results stand beside it, marked as a replay, and [Compare]({page("compare")}) counts them. A
task that was ended goes on where it was when it is tried again.

| Param | What it says |
|---|---|
| `cycle` | the cycle's id |
| `versions` | the versions to replay, each as `model@version` |
| `start`, `end` | cycles from `start` on and before `end` |
| `again` | whether cycles that have their replay are replayed once more |

Few cycles, or a plan of today's roles for cycles that never ran: Airflow's own backfill.
"""


def replay_dag(detection_conn_id: str | None = None, *, parts_at_once: int = 2) -> DAG:
    """The Dag `detection_replay`, which is started by hand.

    Args:
        detection_conn_id: a connection to the registry's database; `[detection] conn_id` unless given.
        parts_at_once: how many days are replayed at a time.
    """
    with DAG(
        dag_id="detection_replay",
        description="Replay of versions over many past cycles.",
        doc_md=DOC,
        schedule=None,
        catchup=False,
        max_active_runs=4,
        default_args={
            "retries": 2,
            "retry_delay": timedelta(seconds=30),
            "detection_conn_id": detection_conn_id or settings().conn_id,
        },
        tags=["detection"],
        params={
            "cycle": Param(type="string", title="Cycle", minLength=1),
            "versions": Param(
                type="array",
                title="Versions",
                description="The versions to replay, each as model@version.",
                items={"type": "string", "pattern": "^[^@,\\s]+@[^@,\\s]+$"},
                minItems=1,
            ),
            "start": Param(
                type="string", format="date-time", title="From", description="Cycles from this instant on."
            ),
            "end": Param(
                type="string", format="date-time", title="To", description="Cycles before this instant."
            ),
            "again": Param(
                False,
                type="boolean",
                title="Again",
                description="Replay cycles that have their replay once more.",
            ),
        },
    ) as dag:
        parts = ReplayPartsOperator(task_id="parts")
        ReplayOperator.partial(
            task_id="replay",
            map_index_template="{{ task.part['start'] }}",
            max_active_tis_per_dagrun=parts_at_once,
        ).expand(part=parts.output)
    return dag
