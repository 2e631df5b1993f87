"""Dags of models that run in shards: a mapped task in front of the version's own."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.serialization.serialized_objects import DagSerialization
from tests.dags.test_cycles import cycle, downstream, model, parsing

from airflow_detection.dags.cycles import build_dag, dags_of
from airflow_detection.domain.names import shard_task_ids, task_ids
from airflow_detection.plan_cache.cache import _has_task
from airflow_detection.plan_cache.known import KnownRegistry
from airflow_detection.registration.task_options import TaskOptions

SHARDS = {"task_options": {"shards": 3, "pool": "heavy", "retries": 5, "execution_timeout": 60}}


def test_shards_are_between_what_a_version_reads_and_its_own_task() -> None:
    dag = build_dag(
        cycle(model("tracks"), model("each", "tracks", shadows=("2",), **SHARDS), model("z", "each"))
    )
    assert downstream(dag) == {
        "open_cycle": {"tracks", "other_versions"},
        "tracks": {"each__shards", "other_versions", "close_cycle"},
        "each__shards": {"each"},
        "each": {"each__2__shards", "z", "other_versions", "close_cycle"},
        "each__2__shards": {"each__2"},
        "each__2": {"close_cycle"},
        "z": {"other_versions", "close_cycle"},
        "other_versions": {"close_cycle"},
        "close_cycle": set(),
    }
    shards, own = dag.task_dict["each__shards"], dag.task_dict["each"]
    assert (shards.pool, shards.retries, shards.trigger_rule) == (own.pool, own.retries, own.trigger_rule)
    assert (shards.execution_timeout, shards.priority_weight) == (own.execution_timeout, own.priority_weight)
    assert shards.expand_input.value == {"shard": [0, 1, 2]}
    assert list(shards.partial_kwargs["outlets"]) == [], "the version is announced once"
    assert len(own.outlets) == 1


@pytest.mark.parametrize("options", [{}, {"shards": 1}])
def test_a_version_in_one_shard_is_the_task_that_it_always_was(options: dict[str, Any]) -> None:
    plain = DagSerialization.to_dict(build_dag(cycle(model("each", shadows=("2",)))))
    same = DagSerialization.to_dict(build_dag(cycle(model("each", shadows=("2",), task_options=options))))
    assert same == plain


def test_a_dag_with_shards_is_the_same_at_each_parse() -> None:
    def parsed() -> Any:
        models = (model("each", shadows=("2",), **SHARDS), model("tracks"))
        return DagSerialization.to_dict(build_dag(cycle(*models)))

    assert parsed() == parsed()
    assert "3" in str(parsed())


@pytest.mark.parametrize("task_id", ["each__shards", "each__2__shards", "each"])
def test_a_task_of_shards_is_parsed_with_its_neighbours_alone(task_id: str) -> None:
    models = (model("tracks"), model("each", "tracks", shadows=("2",), **SHARDS), model("far"))
    known = KnownRegistry(read_at=1.0, cycles=(cycle(*models),))
    with parsing("detection_fleet", task_id):
        (dag,) = dags_of(known, only="detection_fleet", task_id=task_id)
    assert task_id in dag.task_dict
    assert "tracks" in dag.task_dict
    assert "far" not in dag.task_dict
    assert _has_task(known, "detection_fleet", task_id)
    assert not _has_task(known, "detection_fleet", "each__4__shards")


def test_no_task_of_shards_has_the_id_or_the_state_of_another() -> None:
    models = [
        model("a", shadows=("shards", "shards_0"), **SHARDS),
        model("a__shards_", shadows=("1",)),
        model("b", **SHARDS),
        model("b__shards_2"),
    ]
    ids = task_ids(models)
    named = shard_task_ids(models, ids)
    assert len({*ids.values(), *named.values()}) == len(ids) + len(named)
    states = [f"{name}_{n}" for name in named.values() for n in range(3)]
    assert len({*states, *ids.values()}) == len(states) + len(ids)
    assert set(build_dag(cycle(*models)).task_dict) >= {*ids.values(), *named.values()}


@pytest.mark.parametrize("shards", [0, -1, 257, "8", True, 2.0, None])
def test_a_wrong_number_of_shards_becomes_a_task_that_fails_with_the_bound(shards: Any) -> None:
    dag = build_dag(cycle(model("each", task_options={"shards": shards})))
    assert "shards: must be a whole number from 1 to 256" in dag.task_dict["each"].problem
    assert "each__shards" not in dag.task_dict


def test_the_number_of_shards_is_an_option_of_tasks() -> None:
    assert TaskOptions.of({"shards": 256}).shards == 256
    assert "shards" not in TaskOptions.of({"shards": 8}).arguments(is_primary=True)


def test_shards_have_the_executors_values_and_the_queue_of_their_version() -> None:
    options = {
        "shards": 2,
        "resources": {"requests": {"memory": "2Gi"}},
        "executor_config": {"LocalExecutor": {"nice": 5}},
        "roles": {"SHADOW": {"queue": "spare"}},
    }
    dag = build_dag(cycle(model("each", shadows=("2",), task_options=options)))
    for task_id in ("each", "each__2"):
        shards, own = dag.task_dict[f"{task_id}__shards"], dag.task_dict[task_id]
        assert str(shards.executor_config) == str(own.executor_config)
        assert (shards.queue, shards.retry_delay) == (own.queue, own.retry_delay)
    assert dag.task_dict["each__2__shards"].queue == "spare"
    tasks = DagSerialization.to_dict(dag)["dag"]["tasks"]
    (serialised,) = (t["__var"] for t in tasks if t["__var"]["task_id"] == "each__shards")
    assert "LocalExecutor" in str(serialised)
