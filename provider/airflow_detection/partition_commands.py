"""What `airflow detection partitions` does: a plan to read, and its execution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from airflow_detection.errors import ConfigurationError
from airflow_detection.store.connection import Connection
from airflow_detection.store.partition_plan import Limits, Phase, plan
from airflow_detection.store.partitions import PARTITIONED, recreate
from airflow_detection.store.retention import Report, apply

NOTHING = "nothing to do"


def plan_lines(conn: Connection, schema: str, *, now: datetime, max_drops: int | None = None) -> list[str]:
    """The lines of `partitions plan`: exactly what `partitions apply` does, in its order."""
    limits = _limits(max_drops)
    actions = [a for p in Phase for a in plan(conn, schema, now=now, limits=limits, phases=(p,))]
    return [str(a) for a in actions] or [NOTHING]


def apply_lines(
    conn: Connection,
    schema: str,
    *,
    now: datetime,
    max_drops: int | None = None,
    phases: Sequence[Phase] = tuple(Phase),
) -> tuple[list[str], bool]:
    """The lines of `partitions apply`, and whether all of it succeeded: a skipped run did not."""
    reports: list[Report] = [apply(conn, schema, p, now=now, limits=_limits(max_drops)) for p in phases]
    lines = list(dict.fromkeys(line for report in reports for line in report.lines()))
    return lines or [NOTHING], all(report.is_success for report in reports)


def recreate_lines(conn: Connection, schema: str, month: str) -> list[str]:
    """The lines of `partitions apply --recreate-expired YYYY-MM`.

    Raises:
        ConfigurationError: `month` is not a month.
    """
    try:
        instant = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    except ValueError as error:
        raise ConfigurationError(f"{month!r} is no month of the form YYYY-MM") from error
    made = {table: recreate(conn, schema, table, instant) for table in PARTITIONED}
    return [f"{table} {month}: {'is back' if done else 'was there'}" for table, done in made.items()]


def _limits(max_drops: int | None) -> Limits:
    return Limits() if max_drops is None else replace(Limits(), max_drops=max_drops)
