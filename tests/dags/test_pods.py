"""What executors are given of a model: checked with the pods that `KubernetesExecutor` makes of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.serialization.serialized_objects import DagSerialization
from tests.dags.test_cycles import cycle, in_process, model

from airflow_detection.dags.cycles import build_dag
from airflow_detection.domain.specs import ModelSpec, Role, VersionSpec

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "howto" / "kubernetes.md"
TEMPLATE = """\
apiVersion: v1
kind: Pod
metadata:
  name: placeholder
  labels: {team: platform}
spec:
  containers:
    - name: base
      image: placeholder
      resources: {requests: {cpu: "1"}}
"""
GPU = {"requests": {"cpu": 0.5, "memory": "2Gi"}, "limits": {"memory": "4Gi", "nvidia.com/gpu": 1}}
needs_kubernetes = pytest.mark.skipif(
    not find_spec("kubernetes"), reason="apache-airflow-providers-cncf-kubernetes is not installed"
)


def in_each_role(options: dict[str, Any]) -> ModelSpec:
    """A model with a champion, a shadow and a challenger."""
    versions = zip(("1", "2", "3"), (Role.PRIMARY, Role.SHADOW, Role.CHALLENGER), strict=True)
    return ModelSpec(
        model_id="vision",
        versions=tuple(VersionSpec(model_id="vision", version=v, role=role) for v, role in versions),
        task_options=options,
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `KubernetesExecutor` makes of the example in the documentation, see `pod_generation`."""
    if not find_spec("kubernetes"):
        pytest.skip("apache-airflow-providers-cncf-kubernetes is not installed")
    folder = tmp_path_factory.mktemp("pods")
    registration, template = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (folder / "default.yaml").write_text(TEMPLATE)
    (folder / "gpu.yaml").write_text(template)
    documented = yaml.safe_load(registration)["models"]["vision"]["task_options"]
    assert Path(documented["pod_template_file"]).name == "gpu.yaml"
    options = documented | {"executor": "KubernetesExecutor", "pod_template_file": str(folder / "gpu.yaml")}
    env = {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor,KubernetesExecutor",
        "AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE": str(folder / "default.yaml"),
        "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_REPOSITORY": "registry.example/airflow",
        "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_TAG": "7",
        "PREDICTION_USE_MODEL_REGISTRY": "1",
    }
    process = subprocess.run(
        [sys.executable, "-m", "tests.dags.pod_generation", json.dumps(options)],
        env={**os.environ, **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    answer: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return answer


def container(told: dict[str, Any], task_id: str) -> dict[str, Any]:
    (found,) = told["pods"][task_id]["spec"]["containers"]
    return dict(found)


def test_the_executor_makes_a_pod_with_the_resources_of_the_model_or_of_its_role(
    told: dict[str, Any],
) -> None:
    expected = {
        "requests": {"cpu": "2", "memory": "4Gi"},
        "limits": {"memory": "8Gi", "nvidia.com/gpu": "1"},
    }
    assert container(told, "vision")["resources"] == container(told, "vision__3")["resources"] == expected
    assert container(told, "vision__2")["resources"] == {"requests": {"cpu": "1"}}
    assert container(told, "open_cycle")["resources"] == {"requests": {"cpu": "1"}}, "of the template"


def test_the_rest_of_the_pod_is_that_of_the_models_template_or_of_the_installation(
    told: dict[str, Any],
) -> None:
    specs = {task_id: pod["spec"] for task_id, pod in told["pods"].items()}
    of_model = {"vision", "vision__2", "vision__3"}
    assert {task_id for task_id, spec in specs.items() if spec.get("nodeSelector")} == of_model
    assert specs["vision"]["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert container(told, "vision")["volumeMounts"][0]["name"] == "models"
    labels = {task_id: pod["metadata"]["labels"] for task_id, pod in told["pods"].items()}
    assert {task_id for task_id, own in labels.items() if "team" not in own} == of_model
    assert {container(told, task_id)["image"] for task_id in specs} == {"registry.example/airflow:7"}


def test_the_tasks_of_the_model_alone_have_its_executor_and_those_of_a_role_its_queue(
    told: dict[str, Any],
) -> None:
    chosen = {task_id for task_id, executor in told["executors"].items() if executor}
    assert chosen == {"vision", "vision__2", "vision__3"}
    assert {told["executors"][task_id] for task_id in chosen} == {"KubernetesExecutor"}
    assert (told["queues"]["vision__2"], told["queues"]["vision"]) == ("spare", "default")


def test_the_dag_is_the_same_at_each_parse_and_made_without_the_client(told: dict[str, Any]) -> None:
    one, two = told["serialised"]
    assert one == two
    assert "nvidia.com/gpu" in one
    assert told["imported"] == []


@needs_kubernetes
def test_the_dag_is_the_one_that_the_clients_own_pod_would_give() -> None:
    from airflow.sdk import BaseOperator
    from kubernetes.client import models as k8s

    written = {key: {k: str(v) for k, v in amounts.items()} for key, amounts in GPU.items()}
    container = k8s.V1Container(name="base", resources=k8s.V1ResourceRequirements(**written))
    theirs = {"pod_override": k8s.V1Pod(spec=k8s.V1PodSpec(containers=[container]))}
    ours = build_dag(cycle(in_each_role({"resources": GPU}))).task_dict["vision"].executor_config
    configs = [
        DagSerialization.serialize(BaseOperator(task_id="t", executor_config=config))
        for config in (theirs, ours)
    ]
    assert configs[0] == configs[1]


def test_plain_values_reach_the_executor_and_a_parse_for_the_task_has_none() -> None:
    options = {"executor_config": {"overrides": {"cpu": "256", "tags": ["a"]}}}
    dag = build_dag(cycle(in_each_role(options | {"roles": {"CHALLENGER": {"executor_config": {"cpu": 1}}}})))
    again = DagSerialization.from_dict(DagSerialization.to_dict(dag)).task_dict
    assert again["vision"].executor_config == again["vision__2"].executor_config == options["executor_config"]
    assert again["vision__3"].executor_config == {"cpu": 1}
    running = build_dag(cycle(in_each_role(options)), task_id="vision").task_dict["vision"]
    assert running.executor_config == {}, "the scheduler alone reads it"


@needs_kubernetes
def test_each_shard_has_the_pod_of_its_version() -> None:
    options = {"resources": GPU, "shards": 3, "roles": {"SHADOW": {"queue": "spare"}}}
    written = [DagSerialization.to_dict(build_dag(cycle(in_each_role(options)))) for _ in range(2)]
    assert json.dumps(written[0]) == json.dumps(written[1])
    tasks = DagSerialization.from_dict(written[0]).task_dict
    for task_id in ("vision", "vision__2", "vision__3"):
        mapped, own = tasks[f"{task_id}__shards"], tasks[task_id]
        assert mapped.partial_kwargs["executor_config"] == own.executor_config
        assert (
            own.executor_config["pod_override"].spec.containers[0].resources.limits["nvidia.com/gpu"] == "1"
        )
        assert mapped.queue == own.queue


def test_where_the_client_is_not_installed_the_dag_says_that_the_resources_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    dag = build_dag(cycle(in_each_role({"resources": GPU, "executor_config": {"a": 1}}), model("plain")))
    assert dag.task_dict["vision"].executor_config == {"a": 1}
    assert dag.tags == {"detection", "no resources"}
    assert "cncf" in dag.doc_md
    assert "no resources" not in build_dag(cycle(model("plain"))).tags


def test_a_parse_without_resources_imports_nothing_of_kubernetes() -> None:
    code = (
        "import sys\n"
        "from tests.dags.test_cycles import cycle, model\n"
        "from airflow_detection.dags.cycles import build_dag\n"
        "from airflow.serialization.serialized_objects import DagSerialization\n"
        "options = {'executor_config': {'a': 1}, 'pod_template_file': '/t.yaml'}\n"
        "DagSerialization.to_dict(build_dag(cycle(model('a', task_options=options), model('b'))))\n"
        "print([m for m in sys.modules if m.startswith('kubernetes')])\n"
    )
    assert in_process(code, PREDICTION_USE_MODEL_REGISTRY="1") == "[]"
