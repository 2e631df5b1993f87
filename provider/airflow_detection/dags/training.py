"""The Dag `detection_training`: a new version of a model, learned from past windows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param

from airflow_detection.config import settings
from airflow_detection.domain.links import page
from airflow_detection.operators.training import TrainModelOperator

DOC = f"""
Trains a new version of a model, and registers it as a **CHALLENGER**. Trigger it with what it is to learn
from: the training step of the model's class sees the input rows of past cycles, and the labels that were
known at one instant. The registry has the artefact, its digest, what was learned from and the metrics:
`airflow detection versions`.

The challenger then runs beside the champion in each cycle; [Detection]({page("overview")}) compares the two.

| Param | What it says |
|---|---|
| `version` | the new version, as `model@version` |
| `base` | the version of the model whose class has the training step, and whose params the new one gets |
| `data_start`, `data_end` | learn from data of this interval, its end not included |
| `as_of` | labels and rows that came later do not count: when the run is due, if empty |
| `target` | the folder for the artefact, a path or a URI |
| `seed` | all that is random in the training follows from it |
"""


def training_dag(detection_conn_id: str | None = None, *, target: str = "", tags: Sequence[str] = ()) -> DAG:
    """The Dag `detection_training`, which is started by hand, once for each training.

    Args:
        detection_conn_id: a connection to the registry's database whose login may register versions (a member
            of `detection_admin`, where there are roles); `[detection] conn_id` unless given.
        target: the folder for artefacts that its form shows, such as `s3://conn_id@bucket/models`.
        tags: beside `detection`.
    """

    shown: dict[str, Any] = {"default": target} if target else {}  # Any: an argument of Param

    def instant(title: str, description: str) -> Param:
        return Param(type="string", format="date-time", title=title, description=description)

    with DAG(
        dag_id="detection_training",
        description="Training of a version that becomes a CHALLENGER.",
        doc_md=DOC,
        schedule=None,
        catchup=False,
        max_active_runs=4,
        tags=["detection", *tags],
        params={
            "version": Param(
                type="string",
                title="Version",
                description="The new version, as model@version.",
                pattern="^[^@,\\s]+@[^@,\\s]+$",
            ),
            "base": Param(
                type="string",
                title="Base",
                description="The version whose class has the training step; the new one gets its params.",
                minLength=1,
            ),
            "data_start": instant("Data from", "Learn from data since this instant."),
            "data_end": instant("Data to", "And before this one."),
            "as_of": Param(
                None,
                type=["null", "string"],
                format="date-time",
                title="As of",
                description="Labels and rows that came later do not count; when the run is due if empty.",
            ),
            "target": Param(
                **shown,
                type="string",
                title="Target",
                description="The folder for the artefact: a path, or a URI such as s3://conn_id@bucket/models.",
                minLength=1,
            ),
            "seed": Param(
                1,
                type="integer",
                title="Seed",
                description="All that is random in the training follows from it.",
            ),
        },
    ) as dag:
        TrainModelOperator(
            task_id="train",
            version="{{ params.version }}",
            base="{{ params.base }}",
            data_start="{{ params.data_start }}",
            data_end="{{ params.data_end }}",
            as_of="{{ params.as_of or '' }}",
            target="{{ params.target }}",
            seed="{{ params.seed }}",
            detection_conn_id=detection_conn_id or settings().conn_id,
            retries=2,
            retry_delay=timedelta(minutes=2),
        )
    return dag
