"""Metrics, spans and log lines of a run, as Airflow gets them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from airflow.sdk.observability import stats

from airflow_detection.domain.specs import Outcome
from airflow_detection.engine.run_log import Facts

if TYPE_CHECKING:
    from airflow_detection.domain.reports import RunReport

_SEPARATORS = re.compile(r"[,=:|#@\s\x00-\x1f\x7f-\x9f]")
"""What ends a tag, or a metric, in one of the protocols that Airflow sends them by."""


def log_context(facts: Facts) -> AbstractContextManager[object]:
    """Add the facts of a run to every line of the task log, whoever writes it, while this is entered."""
    import structlog  # here: parsing a Dag file must stay cheap

    return structlog.contextvars.bound_contextvars(**facts)


def emit(cycle_id: str | None, reports: Iterable[RunReport]) -> None:
    """Send each run's outcome, duration (milliseconds) and row counts to Airflow's metrics, and its span.

    `detection.version.outcome` counts, `.duration` is a timing, `.inputs` and `.outputs` are gauges; each is
    tagged with `cycle` (none in a Dag of your own), `model`, `version` and `role`, with `_` for what would
    end a tag.
    """
    for report in reports:
        version = report.version
        tags = {"model": version.model_id, "version": version.version, "role": version.role.value}
        if cycle_id is not None:
            tags["cycle"] = cycle_id
        tags = {name: _SEPARATORS.sub("_", value) for name, value in tags.items()}
        stats.incr("detection.version.outcome", tags=tags | {"outcome": report.outcome.value})
        stats.timing("detection.version.duration", report.duration_ms, tags=tags)
        stats.gauge("detection.version.inputs", report.input_count, tags=tags)
        stats.gauge("detection.version.outputs", report.output_count, tags=tags)
        add_span(cycle_id, report)


def add_span(cycle_id: str | None, report: RunReport) -> None:
    """Add the span `detection.version` of a run below the task's own; nothing where Airflow traces nothing.

    It lasts from the run's start through all of its stages. A failure is its status.
    """
    from opentelemetry import trace  # here: parsing a Dag file must stay cheap

    version = report.version
    attributes: dict[str, str | int | float] = {
        "detection.model.id": version.model_id,
        "detection.model.version": version.version,
        "detection.role": version.role.value,
        "detection.replay": version.is_replay,
        "detection.outcome": report.outcome.value,
        "detection.input.count": report.input_count,
        "detection.output.count": report.output_count,
        **{f"detection.stage.{name}.duration": ms / 1000 for name, ms in report.stage_ms.items()},
    }
    if cycle_id is not None:
        attributes["detection.cycle.id"] = cycle_id
    began_ns = int(report.started_at.timestamp() * 1e9)
    span = trace.get_tracer("airflow_detection").start_span(
        "detection.version", start_time=began_ns, attributes=attributes
    )
    if report.outcome is Outcome.FAILED:
        span.set_status(trace.StatusCode.ERROR, report.error)
    lasted_ms = max(report.duration_ms, sum(report.stage_ms.values()))
    span.end(end_time=began_ns + int(lasted_ms * 1e6))
