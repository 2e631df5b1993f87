"""Ticks of a cron expression, UTC, at which cycles are due."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime

from airflow_detection.domain.cron import interval, ticks

TICKS_DUE_AFTER_OPENED = 12
"""Ticks that are due after a cycle of the past that was opened: a backfill may have gaps, and ends."""


def opened_from(schedule: str, start: datetime) -> datetime:
    """Return the instant from which `due` needs the opened cycles for the ticks from `start` on."""
    return start - TICKS_DUE_AFTER_OPENED * interval(schedule, start)


def due(
    schedule: str, start: datetime, end: datetime, *, live_since: datetime | None, opened: Iterable[datetime]
) -> list[datetime]:
    """Return the ticks in [start, end) at which a cycle is due, ascending.

    From `live_since` on each tick is due. Before it a backfill may have opened cycles of the past: their
    ticks are due, and the next `RUN_ON` after each.

    Args:
        live_since: the first cycle that ran when it was due.
        opened: the cycles that were opened, from `run_on` to `end`.
    Raises:
        ValueError: `schedule` is not a cron expression.
    """
    reach, opened_ticks = TICKS_DUE_AFTER_OPENED * interval(schedule, start), sorted(opened)

    def is_due(tick: datetime) -> bool:
        if live_since is not None and tick >= live_since:
            return True
        position = bisect_right(opened_ticks, tick)
        return position > 0 and tick - opened_ticks[position - 1] <= reach

    return [tick for tick in ticks(schedule, start, end) if is_due(tick)]
