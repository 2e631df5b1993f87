"""What a model's `task_options` may say about its Airflow tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airflow_detection.errors import ConfigurationError, hint

PRIMARY_PRIORITY, SHADOW_PRIORITY, FRAME_PRIORITY = 10, 1, 20
Check = Callable[[Any], bool]  # Any: a JSON value, whatever it is


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


CHECKS: Mapping[str, Check] = {
    "execution_timeout": lambda v: _is_number(v, int, float) and 0 < v <= 7 * 86400,
    "executor": _is_name,
    "pool": _is_name,
    "priority_weight": lambda v: _is_number(v, int) and 1 <= v < 2**31,
    "queue": _is_name,
    "retries": lambda v: _is_number(v, int) and v >= 0,
}


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What a model's `task_options` may set; everything else is refused."""

    queue: str | None = None
    pool: str | None = None
    priority_weight: int | None = None
    retries: int | None = None
    execution_timeout: float | None = None  # seconds
    executor: str | None = None

    @classmethod
    def of(cls, held: Mapping[str, Any]) -> TaskOptions:  # Any: a JSON object
        """Check and take over; ConfigurationError names every wrong option and its fault."""
        if problems := list(_problems(held)):
            raise ConfigurationError(f"task_options: {'; '.join(problems)}")
        return cls(**held)

    def arguments(self, *, is_primary: bool) -> dict[str, Any]:  # Any: BaseOperator's own
        """The operator's arguments; a shadow comes behind its champion in any queue."""
        weight = self.priority_weight or PRIMARY_PRIORITY
        found: dict[str, Any] = {
            "priority_weight": weight if is_primary else min(SHADOW_PRIORITY, weight),
            "weight_rule": "absolute",
        }
        for key in ("queue", "pool", "retries", "executor"):
            if (value := getattr(self, key)) is not None:
                found[key] = value
        if self.execution_timeout is not None:
            found["execution_timeout"] = timedelta(seconds=self.execution_timeout)
        return found


def _problems(held: Mapping[str, Any]) -> Iterator[str]:  # Any: a JSON object
    for key, value in sorted(held.items()):
        if key not in CHECKS:
            yield f"unknown {key!r}{hint(key, CHECKS)}"
        elif not CHECKS[key](value):
            yield f"{key} cannot be {value!r}"
        elif key == "executor" and not _is_configured(value):
            yield f"executor {value!r} is not configured"


def _is_configured(executor: str) -> bool:
    """An unknown executor would be an import error of the whole file."""
    from airflow.executors.executor_loader import ExecutorLoader

    try:
        ExecutorLoader.lookup_executor_name_by_str(executor)
    except Exception:  # it raises a dozen kinds
        return False
    return True
