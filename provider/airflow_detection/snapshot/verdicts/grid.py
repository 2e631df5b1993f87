"""Runs between two ticks of their cycle, such as manual ones: they are no history of the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from itertools import pairwise

from airflow_detection.domain.cron import neighbours


def off_grid(schedule: str, step: timedelta, instants: Iterable[datetime]) -> Collection[datetime]:
    """Return those of a cycle's instants that are no tick, and lie less than a step from one that is.

    A cycle that ran by another schedule, or in a hand-written Dag, has no tick so near: its runs stay.
    """
    ordered = sorted(set(instants))
    close = [pair for pair in pairwise(ordered) if pair[1] - pair[0] < step]
    try:
        is_tick = {at: neighbours(schedule, at)[0] == at for pair in close for at in pair}
    except ValueError:  # a schedule that cannot be read has no ticks
        return ()
    return {off for pair in close for off, near in (pair, pair[::-1]) if is_tick[near] and not is_tick[off]}
