"""The Dag `detection_promotion`: a request, a person's approval, and the watch after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param

from airflow_detection.config import settings
from airflow_detection.domain.links import page
from airflow_detection.operators.promotion import ANSWER_WITHIN, PromotionOperator, PromotionWatchOperator

Notifier = Callable[[Any], None]  # Any: Airflow's context
WATCH_HOURS = 24
MAX_REPLAYS = 2016
"""A week of cycles of five minutes."""
DOC = f"""
Asks for a version to become **PRIMARY**. Trigger it with the version and the reason; the task `approve` shows
the evidence and waits for a person other than the one who asked. Approved, the version is PRIMARY from the
next cycle on, and the champion before it goes on as a SHADOW. The task `watch` then judges each cycle: FAILED
or SILENT_FAULT twice in a row, or what the model's policy names instead, takes the promotion back by itself.

Which version is better is on the page [Detection]({page("overview")}): compare the two, and ask from there.

| Param | What it says |
|---|---|
| `version` | the version that is to become PRIMARY, as `model@version` |
| `reason` | why, for whoever approves it and for the history of roles |
| `watch_hours` | how long its cycles are watched: {WATCH_HOURS} unless given |
| `replay_cycles` | over how many of the last cycles it is first replayed, where it was not live: 0 if empty |

`airflow detection rollback MODEL` takes it back at once; `airflow detection promotions list` tells what
became of each.
"""


def promotion_dag(
    detection_conn_id: str | None = None,
    *,
    answer_within: timedelta = ANSWER_WITHIN,
    on_request: Sequence[Notifier] = (),
    on_decision: Sequence[Notifier] = (),
    on_rollback: Sequence[Notifier] = (),
    **approval: Any,  # Any: ApprovalOperator's own, such as assigned_users
) -> DAG:
    """The Dag `detection_promotion`, which is started by hand or by a page, once for each promotion.

    Args:
        detection_conn_id: a connection to the registry's database whose login may change roles (a member of
            `detection_admin`, where there are roles); `[detection] conn_id` unless given.
        answer_within: without an answer in this time the request is rejected.
        on_request, on_decision, on_rollback: Airflow's notifiers, or functions of a context, in which
            `detection_promotion` tells which promotion it is about.
        approval: further arguments of Airflow's `ApprovalOperator`, such as `assigned_users`.
    """
    conn_id = detection_conn_id or settings().conn_id
    with DAG(
        dag_id="detection_promotion",
        description="Promotion of a version to PRIMARY: evidence, approval, watch.",
        doc_md=DOC,
        schedule=None,
        catchup=False,
        max_active_runs=16,
        tags=["detection"],
        params={
            "version": Param(
                type="string",
                title="Version",
                description="The version that is to become PRIMARY, as model@version.",
                pattern="^[^@,\\s]+@[^@,\\s]+$",
            ),
            "reason": Param(
                "",
                type="string",
                format="multiline",
                title="Reason",
                description="Why, for whoever approves it and for the history of roles.",
            ),
            "watch_hours": Param(
                WATCH_HOURS,
                type="number",
                minimum=0,
                maximum=24 * 31,
                title="Hours to watch",
                description="How long its cycles are judged, and bad ones take the promotion back.",
            ),
            "replay_cycles": Param(
                0,
                type="integer",
                minimum=0,
                maximum=MAX_REPLAYS,
                title="Cycles to replay first",
                description="The version first runs in so many past cycles of the champion; 0: none.",
            ),
        },
    ) as dag:
        approve = PromotionOperator(
            task_id="approve",
            detection_conn_id=conn_id,
            response_timeout=answer_within,
            on_request=on_request,
            on_decision=on_decision,
            **approval,
        )
        watch = PromotionWatchOperator(
            task_id="watch",
            detection_conn_id=conn_id,
            on_rollback=on_rollback,
            trigger_rule="all_done",
            retries=5,
            retry_delay=timedelta(minutes=1),
        )
        approve >> watch
    return dag
