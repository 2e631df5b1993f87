"""The Dag `detection_training`, as its file makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_detection.dags.training import training_dag
from airflow_detection.operators.training import TrainModelOperator

DAGS = Path(__file__).resolve().parents[2] / "dags"


def test_the_training_dag_is_started_by_hand_with_a_form() -> None:
    space: dict[str, Any] = {"__name__": "training"}
    path = DAGS / "detection_training.py"
    exec(compile(path.read_text(), str(path), "exec"), space)  # noqa: S102 - a Dag file of this project
    dag = space["dag"]
    assert (dag.dag_id, dag.schedule, dag.catchup) == ("detection_training", None, False)
    assert list(dag.params) == ["version", "base", "data_start", "data_end", "as_of", "target", "seed"]
    (task,) = dag.tasks
    assert {getattr(task, name) for name in TrainModelOperator.template_fields} == {
        *(f"{{{{ params.{name} }}}}" for name in dag.params if name != "as_of"), "{{ params.as_of or '' }}",
    }  # fmt: skip
    shown = training_dag(target="s3://models@fraud/").params
    assert shown["target"] == "s3://models@fraud/"


def test_the_training_dag_uses_the_connection_that_it_is_given_or_that_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert training_dag("registrar").tasks[0].detection_conn_id == "registrar"
    monkeypatch.setenv("AIRFLOW__DETECTION__CONN_ID", "ours")
    assert training_dag().tasks[0].detection_conn_id == "ours"


def test_an_instant_that_is_none_is_named() -> None:
    task = TrainModelOperator(
        task_id="t", version="m@2", base="1", data_start="2026-01-01T00:00:00Z", data_end="soon", target="/m"
    )
    with pytest.raises(ValueError, match="data_end is 'soon': must be an instant such as"):
        task._request({})  # type: ignore[typeddict-item]
