"""What an executor is given of a model's tasks: `executor_config`, made without the Kubernetes client.

`KubernetesExecutor` takes resources as a `V1Pod` alone; its client costs each parse 0.7 seconds. A serialised
Dag has a pod as JSON: that is what is written here, and the scheduler makes a `V1Pod` of it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from airflow.sdk.definitions.operator_resources import Resources

from airflow_detection.domain.json_values import plain
from airflow_detection.registration.task_options import TaskOptions

BASE_CONTAINER = "base"
"""The container of a pod that runs the task."""


def has_client() -> bool:
    """Tell whether serialised pods can be read here; where they cannot, the scheduler would end."""
    return find_spec("kubernetes") is not None


def executor_config(options: TaskOptions, *, with_pods: bool) -> dict[str, Any]:  # Any: Airflow's own
    """Return the `executor_config` of a task; without its resources if the pods could not be read."""
    config = dict(plain(options.executor_config))
    if options.pod_template_file is not None:
        config["pod_template_file"] = options.pod_template_file
    if options.resources and with_pods:
        amounts = {
            kind: {name: str(amount) for name, amount in sorted(named.items())}
            for kind, named in sorted(options.resources.items())
        }
        container = {"name": BASE_CONTAINER, "resources": amounts}
        config["pod_override"] = PodOverride({"spec": {"containers": [container]}})
    return config


class PodOverride(Resources):
    """A pod that is serialised as the client's `V1Pod` is; Airflow asks resources for their own mapping."""

    def __init__(self, pod: dict[str, Any]) -> None:  # Any: a JSON object
        self.pod = pod

    def to_dict(self) -> dict[str, Any]:  # Any: as above
        from airflow.serialization.enums import DagAttributeTypes, Encoding

        return {Encoding.VAR: self.pod, Encoding.TYPE: DagAttributeTypes.POD}
