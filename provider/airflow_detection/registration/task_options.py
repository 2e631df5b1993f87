"""The options of Airflow tasks, and their bounds: `task_options` of a model, `default_args` of a cycle."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from airflow_detection.domain.json_values import plain
from airflow_detection.domain.names import is_secret_variable
from airflow_detection.domain.specs import MAX_SHARDS, Role
from airflow_detection.errors import ConfigurationError, hint

CLOSE_PRIORITY, PRIMARY_PRIORITY, SHADOW_PRIORITY, OPEN_PRIORITY = 20, 10, 2, 1
"""Where slots are short, what is open is finished before more is opened, and champions come first in it."""
TASK_GRACE_S = 30.0
"""Seconds after a version's own limit at which Airflow ends its task."""
MAX_CONFIG_CHARS = 10_000
"""Characters of an executor's values as JSON: each task instance keeps them."""
MAX_RESOURCES, MAX_QUANTITY = 20, 2**49
_RESOURCE = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
_QUANTITY = r"^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$"


@dataclass(frozen=True, slots=True)
class Number:
    """A number between two bounds, both included."""

    lowest: float
    highest: float
    unit: str = ""

    @property
    def schema(self) -> Mapping[str, Any]:  # Any: a JSON Schema
        """Its JSON Schema."""
        kind = "number" if self.unit else "integer"
        return {"type": kind, "minimum": self.lowest, "maximum": self.highest}

    def fits(self, value: object) -> bool:
        """Tell whether it may be `value`; without `unit` it counts something and is whole."""
        kinds = (int, float) if self.unit else (int,)
        return (
            isinstance(value, kinds) and not isinstance(value, bool) and self.lowest <= value <= self.highest
        )

    def __str__(self) -> str:
        kind = f"a number of {self.unit}" if self.unit else "a whole number"
        return f"{kind} from {self.lowest} to {self.highest}"


@dataclass(frozen=True, slots=True)
class Name:
    """Text that fits a column."""

    max_length: int

    @property
    def schema(self) -> Mapping[str, Any]:  # Any: a JSON Schema
        """Its JSON Schema."""
        return {"type": "string", "minLength": 1, "maxLength": self.max_length}

    def fits(self, value: object) -> bool:
        """Tell whether it may be `value`."""
        return isinstance(value, str) and 0 < len(value) <= self.max_length and "\0" not in value

    def __str__(self) -> str:
        return f"text of 1 to {self.max_length} characters, without NUL"


@dataclass(frozen=True, slots=True)
class Variables:
    """Names of environment variables that a model may have."""

    max_count: int

    @property
    def schema(self) -> Mapping[str, Any]:  # Any: a JSON Schema
        """Its JSON Schema."""
        return {"type": "array", "maxItems": self.max_count, "items": {"type": "string"}}

    def fits(self, value: object) -> bool:
        """Tell whether it may be `value`."""
        return (
            isinstance(value, (list, tuple))
            and len(value) <= self.max_count
            and all(isinstance(n, str) and n.isidentifier() and not is_secret_variable(n) for n in value)
        )

    def __str__(self) -> str:
        return f"up to {self.max_count} names of environment variables, none of Airflow's or libpq's own"


@dataclass(frozen=True, slots=True)
class AbsolutePath:
    """A path that does not depend on where a process was started."""

    max_length: int

    @property
    def schema(self) -> Mapping[str, Any]:  # Any: a JSON Schema
        """Its JSON Schema."""
        return {"type": "string", "maxLength": self.max_length, "pattern": "^/"}

    def fits(self, value: object) -> bool:
        """Tell whether it may be `value`."""
        return Name(self.max_length).fits(value) and str(value).startswith("/")

    def __str__(self) -> str:
        return f"an absolute path of at most {self.max_length} characters"


@dataclass(frozen=True, slots=True)
class PlainValues:
    """Values that an executor reads; those that have an option of their own, or are objects, are left out."""

    max_chars: int
    refused: tuple[str, ...]

    @property
    def schema(self) -> Mapping[str, Any]:  # Any: a JSON Schema
        """Its JSON Schema."""
        return {"type": "object", "propertyNames": {"not": {"enum": [*self.refused]}}}

    def fits(self, value: object) -> bool:
        """Tell whether it may be `value`."""
        return (
            isinstance(value, Mapping)
            and not value.keys() & {*self.refused}
            and len(json.dumps(plain(value))) <= self.max_chars
        )

    def __str__(self) -> str:
        keys = ", ".join(self.refused)
        return f"a mapping of at most {self.max_chars} characters of JSON, without the keys {keys}"


@dataclass(frozen=True, slots=True)
class PodResources:
    """What a pod asks for, and what it may use at most."""

    max_count: int

    @property
    def schema(self) -> Mapping[str, Any]:  # Any: a JSON Schema
        """Its JSON Schema."""
        number = {"type": "number", "minimum": 0, "maximum": MAX_QUANTITY}
        amounts = {
            "type": "object",
            "maxProperties": self.max_count,
            "propertyNames": {"pattern": _RESOURCE},
            "additionalProperties": {"anyOf": [number, {"type": "string", "pattern": _QUANTITY}]},
        }
        properties = dict.fromkeys(("requests", "limits"), amounts)
        return {"type": "object", "additionalProperties": False, "properties": properties}

    def fits(self, value: object) -> bool:
        """Tell whether it may be `value`."""
        return (
            isinstance(value, Mapping)
            and value.keys() <= {"requests", "limits"}
            and all(
                isinstance(amounts, Mapping) and len(amounts) <= self.max_count for amounts in value.values()
            )
            and all(
                re.fullmatch(_RESOURCE, name) and _is_quantity(amount)
                for amounts in value.values()
                for name, amount in amounts.items()
            )
        )

    def __str__(self) -> str:
        return (
            f"requests and limits, each of up to {self.max_count} resources such as cpu, memory or"
            " nvidia.com/gpu with a quantity such as 2, 500m or 4Gi"
        )


def _is_quantity(amount: object) -> bool:
    if isinstance(amount, str):
        return re.fullmatch(_QUANTITY, amount) is not None
    return isinstance(amount, (int, float)) and not isinstance(amount, bool) and 0 <= amount <= MAX_QUANTITY


@dataclass(frozen=True, slots=True)
class OfRoles:
    """Options that differ for the versions in a role."""

    names: tuple[str, ...]

    @property
    def schema(self) -> Mapping[str, Any]:  # Any: a JSON Schema
        """Its JSON Schema."""
        options = {name: OPTIONS[name].bound.schema for name in self.names}
        own = {"type": "object", "additionalProperties": False, "properties": options}
        return {"type": "object", "propertyNames": {"enum": [*Role]}, "additionalProperties": own}

    def fits(self, value: object) -> bool:
        """Tell whether it may be `value`, whatever the options of a role are."""
        return (
            isinstance(value, Mapping)
            and value.keys() <= {*Role}
            and all(isinstance(own, Mapping) for own in value.values())
        )

    def __str__(self) -> str:
        return f"a mapping of {', '.join(Role)} to mappings of {', '.join(self.names)}"


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its bound, and what people are told of it."""

    bound: Number | Name | Variables | AbsolutePath | PlainValues | PodResources | OfRoles
    means: str
    example: str
    default: str


# A value that does not fit a column of Airflow's task instances stops its scheduler, for every Dag.
OPTIONS: Mapping[str, Option] = {
    "disk_limit": Option(
        Number(1, 2**24, "MiB"),
        "What the version may write into one file, and into all files of its folder.",
        "512",
        "`[detection] inline_disk`",
    ),
    "environment": Option(Variables(100), "Environment variables that it may read.", "[HTTPS_PROXY]", "none"),
    "execution_timeout": Option(
        Number(0.1, 7 * 86400, "seconds"),
        "When the version is ended.",
        "120",
        "`[detection] inline_timeout`",
    ),
    "executor": Option(Name(1000), "The executor of its task.", "LocalExecutor", "Airflow's default"),
    "executor_config": Option(
        PlainValues(MAX_CONFIG_CHARS, ("KubernetesExecutor", "pod_override", "pod_template_file")),
        "Values that the executor reads of its task, see [Kubernetes](../howto/kubernetes.md).",
        '{overrides: {cpu: "256"}}',
        "none",
    ),
    "memory_limit": Option(
        Number(1, 2**24, "MiB"),
        "What the version may allocate beyond what its task holds.",
        "2048",
        "`[detection] inline_memory`",
    ),
    "pod_template_file": Option(
        AbsolutePath(1000),
        "The template of its pod under `KubernetesExecutor`: a file on the machines of the scheduler.",
        "/opt/airflow/pods/gpu.yaml",
        "`[kubernetes_executor] pod_template_file`",
    ),
    "pool": Option(Name(256), "The pool of its task.", "heavy", "`default_pool`"),
    "priority_weight": Option(
        Number(1, 2**31 - 1),
        f"The priority of the champion's task; that of others is {SHADOW_PRIORITY}.",
        "30",
        str(PRIMARY_PRIORITY),
    ),
    "queue": Option(Name(256), "The queue of its task.", "gpu", "`[operators] default_queue`"),
    "resources": Option(
        PodResources(MAX_RESOURCES),
        "What its pod asks for, and may use at most, under `KubernetesExecutor`.",
        "{requests: {cpu: 2}, limits: {nvidia.com/gpu: 1}}",
        "those of the template",
    ),
    "retries": Option(Number(0, 100), "How often its task is tried again.", "0", "the Dag's"),
    "roles": Option(
        OfRoles(
            ("executor", "executor_config", "pod_template_file", "pool", "queue", "resources", "retries")
        ),
        "Options of the versions in a role, each in place of the model's.",
        "{SHADOW: {queue: spare, resources: {requests: {cpu: 1}}}}",
        "none",
    ),
    "shards": Option(
        Number(1, MAX_SHARDS),
        "In how many [shards](../howto/shards.md) the version runs, each a task with the rows of some"
        " entities; its class must have `shard_by`.",
        "8",
        "1, as a whole",
    ),
}


DEFAULT_ARGS: Mapping[str, Option] = {
    "execution_timeout": Option(
        Number(0.1, 7 * 86400, "seconds"),
        "When Airflow ends a task of the cycle.",
        "600",
        "none",
    ),
    "executor": OPTIONS["executor"],
    "pool": Option(Name(256), "The pool of its tasks.", "heavy", "`default_pool`"),
    "queue": Option(Name(256), "The queue of its tasks.", "gpu", "`[operators] default_queue`"),
    "retries": Option(Number(0, 100), "How often a task is tried again.", "0", "2"),
    "retry_delay": Option(Number(0, 86400, "seconds"), "How long it waits before that.", "60", "30"),
}
_DURATIONS = ("execution_timeout", "retry_delay")


def default_args_of(values: Mapping[str, Any]) -> dict[str, Any]:  # Any: a JSON object; Airflow's own
    """Return what Airflow takes as `default_args`."""
    return {name: timedelta(seconds=v) if name in _DURATIONS else v for name, v in values.items()}


def default_arg_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:  # Any: a JSON object
    """Iterate over the wrong default arguments and the reason for each, in order of name."""
    return option_problems(values, DEFAULT_ARGS)


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The options that a model's `task_options` may set; any other is an error."""

    queue: str | None = None
    pool: str | None = None
    priority_weight: int | None = None
    retries: int | None = None
    execution_timeout: float | None = None  # seconds
    executor: str | None = None
    memory_limit: float | None = None  # MiB
    disk_limit: float | None = None  # MiB
    environment: Sequence[str] = ()  # names of variables
    executor_config: Mapping[str, Any] = field(default_factory=dict)  # Any: what the executor reads
    pod_template_file: str | None = None
    resources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # Any: text or a number
    roles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # Any: a JSON object
    shards: int = 1

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> TaskOptions:  # Any: a JSON object
        """Check and take over; ConfigurationError names every wrong option and the reason."""
        if problems := [f"{key}: {reason}" for key, reason in option_problems(options)]:
            raise ConfigurationError(f"task_options: {'; '.join(problems)}")
        return cls(**options)

    @property
    def has_executor_config(self) -> bool:
        """Whether there is something that the executor has to be given."""
        return bool(self.executor_config or self.pod_template_file or self.resources)

    def of_role(self, role: Role) -> TaskOptions:
        """Return the options of a version in a role."""
        return replace(self, roles={}, **self.roles.get(role, {}))

    def arguments(self, *, is_primary: bool) -> dict[str, Any]:  # Any: BaseOperator's own
        """The operator's arguments; a shadow comes behind its champion in any queue.

        A version has a process of its own, which the task ends at its time: Airflow's end of the task comes
        later.
        """
        weight = self.priority_weight or PRIMARY_PRIORITY
        arguments: dict[str, Any] = {
            "priority_weight": weight if is_primary else min(SHADOW_PRIORITY, weight),
            "weight_rule": "absolute",
        }
        for key in ("queue", "pool", "retries", "executor"):
            if (value := getattr(self, key)) is not None:
                arguments[key] = value
        if self.execution_timeout is not None:
            arguments["execution_timeout"] = timedelta(seconds=self.execution_timeout + TASK_GRACE_S)
        return arguments


def option_problems(
    options: Mapping[str, Any],  # Any: a JSON object
    known: Mapping[str, Option] = OPTIONS,
) -> Iterator[tuple[str, str]]:
    """Iterate over the wrong options and the reason for each, in order of name."""
    for key, value in sorted(options.items()):
        if key not in known:
            yield key, f"unknown option{hint(key, known)}"
        elif not known[key].bound.fits(value):
            yield key, f"must be {known[key].bound}, not {reprlib.repr(value)}"
        elif key == "executor" and not _is_configured(value):
            yield key, f"{reprlib.repr(value)} is not configured"
        elif isinstance(bound := known[key].bound, OfRoles):
            of_a_role = {name: OPTIONS[name] for name in bound.names}
            for role, own in sorted(value.items()):
                yield from ((f"{key}.{role}.{name}", why) for name, why in option_problems(own, of_a_role))


def _is_configured(executor: str) -> bool:
    """An unknown executor would be an import error of the whole file."""
    from airflow.executors.executor_loader import ExecutorLoader

    try:
        ExecutorLoader.lookup_executor_name_by_str(executor)
    except Exception:  # it raises a dozen kinds
        return False
    return True
