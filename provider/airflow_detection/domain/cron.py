"""Cron expressions: whether one is readable, and when it fires. croniter is imported when first needed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

MAX_CHARS = 500
"""Enough for five fields that list every value; a schedule stands in Airflow's database."""


def cron_problem(schedule: str) -> str | None:
    """Return the reason why a schedule is not a cron expression that ever fires, None if it is one.

    It has five fields, or is an alias such as @hourly.
    """
    from croniter import CroniterError, croniter

    if len(schedule) > MAX_CHARS:
        return f"a cron expression has at most {MAX_CHARS} characters, not {len(schedule)}"
    fields = len(schedule.split())
    if fields not in {1, 5} or (fields == 1 and not schedule.strip().startswith("@")):
        return f"{schedule!r} is not a cron expression: it has {fields} fields, not 5"
    try:
        croniter(schedule).get_next()
    except (CroniterError, ValueError, KeyError, AttributeError, OverflowError) as error:
        return f"{schedule!r} is not a cron expression: {error}"
    return None


def ticks(schedule: str, start: datetime, end: datetime) -> Iterator[datetime]:
    """The instants in [start, end), ascending; ValueError if `schedule` is not a cron expression."""
    clock = _clock(schedule, start)
    while (tick := clock.get_next(datetime)) < end:
        yield tick


def interval(schedule: str, around: datetime) -> timedelta:
    """The time between the two ticks from `around` on."""
    clock = _clock(schedule, around)
    first: datetime = clock.get_next(datetime)
    second: datetime = clock.get_next(datetime)
    return second - first


def is_readable(schedule: str) -> bool:
    """Tell whether it is a cron expression."""
    from croniter import croniter

    return croniter.is_valid(schedule) is True


def _clock(schedule: str, start: datetime) -> Any:  # Any: a croniter, which ships no types
    """The instants from `start` on, `start` included."""
    from croniter import croniter

    return croniter(schedule, start.astimezone(UTC) - timedelta(microseconds=1))
