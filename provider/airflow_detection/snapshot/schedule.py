"""When cycles are due: the ticks of a cron expression, UTC."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from croniter import croniter  # type: ignore[import-untyped]  # it ships no types


def ticks(schedule: str, start: datetime, end: datetime) -> Iterator[datetime]:
    """The instants in [start, end), ascending; ValueError if `schedule` is no cron expression."""
    clock = croniter(schedule, start.astimezone(UTC) - timedelta(microseconds=1))
    while (tick := clock.get_next(datetime)) < end:
        yield tick


def interval(schedule: str, around: datetime) -> timedelta:
    """The time between the two ticks from `around` on."""
    clock = croniter(schedule, around.astimezone(UTC) - timedelta(microseconds=1))
    first: datetime = clock.get_next(datetime)
    second: datetime = clock.get_next(datetime)
    return second - first
