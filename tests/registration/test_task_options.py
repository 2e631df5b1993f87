"""Task options have the bounds of Airflow's tables; a wrong one is reported in the Dag and in the file."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.models.taskinstance import TaskInstance
from tests.dags.test_cycles import cycle, model

from airflow_detection.dags.cycles import build_dag
from airflow_detection.domain.specs import Role
from airflow_detection.errors import ConfigurationError, RegistrationError
from airflow_detection.registration.file import parse
from airflow_detection.registration.task_options import TaskOptions


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"retries": 2**40}, "retries: must be a whole number from 0 to 100, not 1099511627776"),
        ({"retries": 101}, "retries: must be a whole number from 0 to 100, not 101"),
        ({"pool": "x" * 300}, "pool: must be text of 1 to 256 characters, without NUL, not 'xxx"),
        ({"queue": "q" * 257}, "queue: must be text of 1 to 256 characters"),
        ({"queue": "a\0b"}, "queue: must be text of 1 to 256 characters, without NUL"),
        (
            {"priority_weight": 2**31},
            "priority_weight: must be a whole number from 1 to 2147483647",
        ),
        ({"execution_timeout": 1e-9}, "execution_timeout: must be a number of seconds from 0.1 to 604800"),
        ({"execution_timeout": 604801}, "execution_timeout: must be a number of seconds from 0.1 to 604800"),
        ({"memory_limit": 0}, "memory_limit: must be a number of MiB from 1 to 16777216, not 0"),
        ({"memory_limit": True}, "memory_limit: must be a number of MiB from 1 to 16777216, not True"),
        ({"executor": "e" * 300}, "executor: 'eee"),
    ],
)
def test_an_option_beyond_what_airflow_can_hold_is_refused_with_its_bound(
    options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TaskOptions.of(options)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 200
    dag = build_dag(cycle(model("odd", task_options=options), model("tracks")))
    assert reason in dag.task_dict["odd"].problem
    columns = TaskInstance.__table__.columns
    for name in ("pool", "queue", "executor"):
        assert len(getattr(dag.task_dict["odd"], name) or "") <= columns[name].type.length


def test_every_option_at_its_bound_is_taken() -> None:
    TaskOptions.of({"retries": 0, "priority_weight": 1, "execution_timeout": 0.1, "memory_limit": 1})
    widest = {"retries": 100, "priority_weight": 2**31 - 1, "execution_timeout": 7 * 86400, "pool": "p" * 256}
    TaskOptions.of(widest | {"queue": "q" * 256, "memory_limit": 2**24})


def test_a_memory_limit_is_an_option_and_breaks_no_model() -> None:
    dag = build_dag(cycle(model("tracks", task_options={"memory_limit": 512})))
    assert dag.task_dict["tracks"].problem is None
    assert "memory_limit" not in dag.doc_md


def test_a_file_tells_every_wrong_option_with_its_place_and_the_nearest_name() -> None:
    text = """\
models:
  a:
    cycle: sea
    entrypoint: m
    task_options:
      retries: 1099511627776
      pol: fast
      memory_limit: lots
      executor: NoSuchExecutor
      queue: fine
"""
    with pytest.raises(RegistrationError) as caught:
        parse(text, "f.yaml", cycles=["sea"])
    place = "models.a.task_options"
    assert str(caught.value).splitlines() == [
        f"f.yaml:6: {place}.retries: must be a whole number from 0 to 100, not 1099511627776",
        f"f.yaml:7: {place}.pol: unknown option; the nearest name is 'pool'",
        f"f.yaml:8: {place}.memory_limit: must be a number of MiB from 1 to 16777216, not 'lots'",
        f"f.yaml:9: {place}.executor: 'NoSuchExecutor' is not configured",
    ]


POD = "requests and limits, each of up to 20 resources such as cpu, memory or nvidia.com/gpu with a quantity"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"pod_template_file": "gpu.yaml"}, "pod_template_file: must be an absolute path of at most 1000"),
        (
            {"pod_template_file": "/" + "x" * 1000},
            "pod_template_file: must be an absolute path of at most 1000",
        ),
        (
            {"executor_config": ["a"]},
            "executor_config: must be a mapping of at most 10000 characters of JSON",
        ),
        ({"executor_config": {"a": "x" * 10_000}}, "executor_config: must be a mapping of at most 10000"),
        (
            {"executor_config": {"pod_override": {}}},
            "without the keys KubernetesExecutor, pod_override, pod_t",
        ),
        ({"executor_config": {"pod_template_file": "/a"}}, "pod_override, pod_template_file, not {'pod_t"),
        ({"resources": {"request": {"cpu": 1}}}, f"resources: must be {POD}"),
        ({"resources": {"limits": {"nvidia.com/gpu": "one"}}}, "not {'limits': {'nvidia.com/gpu': 'one'}}"),
        ({"resources": {"limits": {"nvidia.com/": 1}}}, f"resources: must be {POD}"),
        ({"resources": {"limits": {"cpu": True}}}, f"resources: must be {POD}"),
        ({"resources": {"limits": {"cpu": -1}}}, f"resources: must be {POD}"),
        ({"resources": {"limits": {"memory": "4 GB"}}}, f"resources: must be {POD}"),
        ({"resources": {"limits": {f"a{n}": 1 for n in range(21)}}}, f"resources: must be {POD}"),
        ({"roles": {"SHADWO": {}}}, "roles: must be a mapping of PRIMARY, SHADOW, CHALLENGER to mappings of"),
        (
            {"roles": {"SHADOW": {"retries": 101}}},
            "roles.SHADOW.retries: must be a whole number from 0 to 100",
        ),
        ({"roles": {"SHADOW": {"memory_limit": 5}}}, "roles.SHADOW.memory_limit: unknown option"),
        ({"roles": {"SHADOW": {"executor": "Nope"}}}, "roles.SHADOW.executor: 'Nope' is not configured"),
    ],
)
def test_an_option_that_no_executor_could_use_is_refused_with_its_bound(
    options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TaskOptions.of(options)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 300
    assert reason in build_dag(cycle(model("odd", task_options=options))).task_dict["odd"].problem


def test_the_options_of_a_role_take_the_place_of_the_models() -> None:
    own = {"queue": "spare", "resources": {"requests": {"cpu": 1}}}
    options = TaskOptions.of({"queue": "gpu", "retries": 3, "resources": {}, "roles": {"SHADOW": own}})
    shadow, challenger = options.of_role(Role.SHADOW), options.of_role(Role.CHALLENGER)
    assert (shadow.queue, shadow.retries, shadow.resources) == ("spare", 3, {"requests": {"cpu": 1}})
    assert (challenger.queue, challenger.retries, challenger.resources) == ("gpu", 3, {})


def test_a_file_tells_a_wrong_option_of_a_role_with_its_line() -> None:
    text = """\
models:
  a:
    cycle: sea
    entrypoint: m
    task_options:
      roles:
        CHALLENGER: {retries: 1}
        SHADOW:
          queue: fine
          quue: x
"""
    with pytest.raises(RegistrationError) as caught:
        parse(text, "f.yaml", cycles=["sea"])
    reason = "unknown option; the nearest name is 'queue'"
    assert str(caught.value) == f"f.yaml:10: models.a.task_options.roles.SHADOW.quue: {reason}"
