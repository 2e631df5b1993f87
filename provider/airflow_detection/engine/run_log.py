"""Log lines with the facts of a run: its cycle, model, version and role."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any

from airflow_detection.domain.specs import Cycle, VersionSpec
from airflow_detection.errors import DetectionError

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

Facts = Mapping[str, str]
LogContext = Callable[[Facts], AbstractContextManager[object]]
"""Context manager in which another logging system's lines carry the facts."""

_OUR_FRAMES = ("airflow_detection.engine", "airflow_detection.cycle", "airflow_detection.store", "importlib")
"""Modules whose frames say nothing to the author of a model."""

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


def with_own_frames(error: BaseException | None) -> BaseException | None:
    """Return an error for a log line, which has its message; None where there is nothing to add to it.

    Our own errors say what is wrong: of their tracebacks only the frames of the model's code are left.
    """
    if not isinstance(error, DetectionError):
        return error
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    for link in chain:
        link.__traceback__ = _own_frames(link.__traceback__)
    while chain and chain[-1].__traceback__ is None:
        chain.pop()
        if chain:
            chain[-1].__cause__ = chain[-1].__context__ = None
    return error if chain else None


def _own_frames(traceback: TracebackType | None) -> TracebackType | None:
    if traceback is None:
        return None
    rest = _own_frames(traceback.tb_next)
    name = str(traceback.tb_frame.f_globals.get("__name__", ""))
    if any(name == ours or name.startswith(f"{ours}.") for ours in _OUR_FRAMES):
        return rest
    return TracebackType(rest, traceback.tb_frame, traceback.tb_lasti, traceback.tb_lineno)
