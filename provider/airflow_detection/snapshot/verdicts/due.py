"""When cycles are due: the ticks of a cron expression, UTC."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime

from airflow_detection.domain.cron import interval, ticks

RUN_ON = 12
"""After a cycle of the past that was opened, so many more are expected: a backfill has gaps, and an end."""


def run_on(schedule: str, start: datetime) -> datetime:
    """From when on opened cycles have to be known to tell which ticks from `start` on are due."""
    return start - RUN_ON * interval(schedule, start)


def due(
    schedule: str, start: datetime, end: datetime, *, live_since: datetime | None, opened: Iterable[datetime]
) -> list[datetime]:
    """The ticks in [start, end) at which a cycle was to be expected, ascending.

    From the first cycle that ran when it was due on, that is each. Before it a backfill may have run some
    cycles of the past: those, and what lies between them or is next.

    Args:
        live_since: the first cycle that ran when it was due.
        opened: the cycles that were opened, from `run_on` to `end`.
    Raises:
        ValueError: `schedule` is no cron expression.
    """
    reach, known = RUN_ON * interval(schedule, start), sorted(opened)

    def is_due(tick: datetime) -> bool:
        if live_since is not None and tick >= live_since:
            return True
        place = bisect_right(known, tick)
        return place > 0 and tick - known[place - 1] <= reach

    return [tick for tick in ticks(schedule, start, end) if is_due(tick)]
