"""Log lines with the facts of a run: its cycle, model, version and role."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from airflow_detection.domain.specs import Cycle, VersionSpec

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

Facts = Mapping[str, str]
LogContext = Callable[[Facts], AbstractContextManager[object]]
"""Context manager in which another logging system's lines carry the facts."""

_facts: ContextVar[Facts | None] = ContextVar("detection_run", default=None)


class RunLogger(_Adapter):
    """A logger whose records have the attributes `cycle`, `model`, `version` and `role` during a run."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the facts to `extra`."""  # Any: what logging hands through
        kwargs["extra"] = {**(_facts.get() or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


def run_logger(name: str) -> RunLogger:
    """Return the logger of that name, with the facts of the run under way."""
    return RunLogger(logging.getLogger(name), {})


def facts_of(version: VersionSpec, cycle: Cycle) -> dict[str, str]:
    """Return the facts that each line of a run carries."""
    return {
        "cycle": f"{cycle.cycle_id} {cycle.started_at.isoformat()}",
        "model": version.model_id,
        "version": version.version,
        "role": version.role.value,
    }


@contextmanager
def run_facts(version: VersionSpec, cycle: Cycle, log_context: LogContext | None = None) -> Iterator[None]:
    """Give each line that is logged inside the facts of this run."""
    facts = facts_of(version, cycle)
    token = _facts.set(facts)
    try:
        if log_context is None:
            yield
        else:
            with log_context(facts):
                yield
    finally:
        _facts.reset(token)
