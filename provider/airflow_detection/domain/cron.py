"""Cron expressions: whether one is readable, and when it fires. croniter is imported when first needed.

A schedule is a cron expression in UTC, or has the time zone of its wall clock before it, as in crontab files:
`CRON_TZ=Europe/Berlin 0 6 * * *`. Where clocks change it fires as Airflow's `CronTriggerTimetable` does. One
that fires in every hour keeps its distance, in the hour that comes twice too. Of any other each time fires
once: in the hour that comes twice at its second, and later by the change where the clock leaves it out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

MAX_CHARS = 500
"""Enough for five fields that list every value; a schedule stands in Airflow's database."""
_ZONED = re.compile(r"CRON_TZ=(\S+)\s+(.*)", re.DOTALL)


def zoned(expression: str, timezone: str) -> str:
    """Return the schedule of a cron expression whose times are those of a time zone, an IANA name."""
    return expression if timezone == "UTC" else f"CRON_TZ={timezone} {expression}"


def split_zone(schedule: str) -> tuple[str, str]:
    """Return the cron expression of a schedule, and its time zone."""
    match = _ZONED.fullmatch(schedule)
    return (match[2], match[1]) if match else (schedule, "UTC")


@lru_cache(maxsize=1024)
def cron_problem(schedule: str) -> str | None:
    """Return the reason why a schedule is not a cron expression that ever fires, None if it is one.

    It has five fields, or is an alias such as @hourly.
    """
    from croniter import CroniterError, croniter

    expression, timezone = split_zone(schedule)
    if reason := zone_problem(timezone):
        return reason
    if len(expression) > MAX_CHARS:
        return f"a cron expression has at most {MAX_CHARS} characters, not {len(expression)}"
    fields = len(expression.split())
    if fields not in {1, 5} or (fields == 1 and not expression.strip().startswith("@")):
        return f"{expression!r} is not a cron expression: it has {fields} fields, not 5"
    try:
        croniter(expression).get_next()
    except (CroniterError, ValueError, KeyError, AttributeError, OverflowError) as error:
        return f"{expression!r} is not a cron expression: {error}"
    return None


def zone_problem(timezone: str) -> str | None:
    """Return the reason why a text is no time zone, None if it is one."""
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"{timezone!r} is not a time zone such as Europe/Berlin"
    return None


def ticks(schedule: str, start: datetime, end: datetime) -> Iterator[datetime]:
    """The instants in [start, end), ascending, UTC; ValueError if `schedule` is not a cron expression."""
    clock = _Clock(schedule)
    following = clock.after(start.astimezone(UTC) - timedelta(microseconds=1))
    while (tick := next(following)) < end:
        yield tick


def interval(schedule: str, around: datetime) -> timedelta:
    """The time between the two ticks from `around` on."""
    clock = _Clock(schedule)
    first = clock.next(around.astimezone(UTC) - timedelta(microseconds=1))
    return clock.next(first) - first


def neighbours(schedule: str, at: datetime) -> tuple[datetime, datetime]:
    """The last tick that is not after an instant, and the first one after it, UTC."""
    clock = _Clock(schedule)
    later = clock.next(at.astimezone(UTC))
    earlier = clock.previous(later)
    return earlier, later


def clock_change(schedule: str, tick: datetime) -> str | None:
    """Say that the clock of a schedule changed between the tick before and this one; None if it did not."""
    _, timezone = split_zone(schedule)
    if timezone == "UTC":
        return None
    before = _Clock(schedule).previous(tick)
    old, new = (at.astimezone(ZoneInfo(timezone)).isoformat()[-6:] for at in (before, tick))
    if old == new:
        return None
    return (
        f"the clock of {timezone} went from UTC{old} to UTC{new} between the cycle before,"
        f" {before.isoformat()}, and this one: a time that it left out, or had twice, is one cycle"
    )


def is_readable(schedule: str) -> bool:
    """Tell whether it is a cron expression."""
    from croniter import croniter

    expression, timezone = split_zone(schedule)
    return zone_problem(timezone) is None and croniter.is_valid(expression) is True


class _Clock:
    """The ticks of a schedule, as Airflow's own timetable finds them."""

    def __init__(self, schedule: str) -> None:
        self._expression, timezone = split_zone(schedule)
        if reason := zone_problem(timezone):
            raise ValueError(reason)
        self._zone: tzinfo = UTC if timezone == "UTC" else ZoneInfo(timezone)

    def next(self, at: datetime) -> datetime:
        """The first tick after an instant, UTC."""
        return self._tick(at, "get_next")

    def after(self, at: datetime) -> Iterator[datetime]:
        """The ticks after an instant, UTC; without a time zone one croniter finds them all."""
        from croniter import croniter

        if self._zone is UTC:
            clock: Any = croniter(self._expression, at)  # Any: a croniter, which ships no types
            while True:
                yield clock.get_next(datetime)
        while True:
            at = self.next(at)
            yield at

    def previous(self, at: datetime) -> datetime:
        """The last tick before an instant, UTC."""
        return self._tick(at, "get_prev")

    def _tick(self, at: datetime, method: str) -> datetime:
        from croniter import croniter

        wall = at.astimezone(self._zone).replace(tzinfo=None)
        clock: Any = croniter(self._expression, wall)  # Any: a croniter, which ships no types
        while True:  # times that fall together where the clock goes forward are one tick
            tick: datetime = getattr(clock, method)(datetime)
            if self._zone is UTC:
                return tick.replace(tzinfo=UTC)
            if clock.expanded[1] == ["*"]:
                return at + (tick - wall)
            if (instant := _instant(tick, self._zone)) != at:
                return instant


def _instant(wall: datetime, zone: tzinfo) -> datetime:
    """The instant of a wall-clock time, UTC: of two the second; of none the time as before the change."""
    later = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if later.astimezone(zone).replace(tzinfo=None) == wall:
        return later
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
