"""Signs of a fault of the feed: it is late, or many rows are missing.

A night has fewer entities, and so has a feed of which half was lost. A night comes over hours: the limit
follows the median of the last two windows, and the spread of a decline widens it. A loss comes from one cycle
to the next, which shows in the newly arrived rows; while it lasts no cycle is healthy, and the baseline stays
as it was before. A feed that stopped differs from an area without traffic by the number of rows that were to
be expected meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from airflow_detection.domain.thresholds import Thresholds
from airflow_detection.snapshot.verdicts.baseline import low_limit, median, spread
from airflow_detection.snapshot.verdicts.column_faults import MIN_ROWS, Numbers
from airflow_detection.snapshot.verdicts.history import FRESH_MARGIN, History, Measures
from airflow_detection.snapshot.verdicts.runs import ManifestRun
from airflow_detection.store.input_facts import NEWEST, ROWS

JUST_BEFORE = 5
"""Number of healthy cycles before a cycle whose newest rows its own are compared with."""


def is_feed_silent(run: ManifestRun, history: History, thresholds: Thresholds, numbers: Numbers) -> bool:
    """Tell whether the newest input is too old, or there is none and the feed was silent before.

    The feed is silent once the probability of no row in that time is below `p_value` (Poisson).
    """
    if not run.input_count:
        return history.silent_since is not None
    if run.newest_input_at is None:
        return False
    age = run.cycle_started_at - run.newest_input_at
    usual = history.healthy[-1].run.input_count if history.healthy else run.input_count
    expected = max(usual, run.input_count) * (age / run.lookback)
    numbers["newest_input_age_s"] = round(age.total_seconds(), 3)
    return age > thresholds.stale_cycles * run.step and expected > -math.log(thresholds.p_value)


def feed_faults(
    measures: Measures, history: History, thresholds: Thresholds, numbers: Numbers
) -> Iterator[str]:
    """Yield signs of missing rows, each as a sentence; the measures go into `numbers`."""
    run = measures.run
    if len(history.healthy) * 3 < thresholds.min_history_cycles:
        return
    recent, newest = history.recent, run.features.get(NEWEST + ROWS)
    span = len(recent) if newest is None else max(round(run.overlap / 2), JUST_BEFORE)
    counts = [float(m.run.input_count) for m in recent[-span:]]
    limit = low_limit(counts, thresholds.input_mad_factor, thresholds.input_share)
    numbers["inputs"], numbers["inputs_limit"] = run.input_count, round(limit, 1)
    if run.input_count < limit:
        yield f"{run.input_count} rows; {median(counts):.0f} are usual"
    if newest is not None:
        yield from _newest_rows(newest.count, recent, thresholds, numbers)
        return
    past = [m.arrivals for m in recent if m.arrivals is not None]
    if measures.arrivals is None or not past:
        return
    limit = low_limit(past, thresholds.input_mad_factor, thresholds.input_share - FRESH_MARGIN)
    numbers["arrivals"], numbers["arrivals_limit"] = round(measures.arrivals, 4), round(limit, 4)
    if measures.arrivals < limit:
        yield f"rows arrive at {measures.arrivals:.0%} of the rate of a window ago"


def _newest_rows(
    count: int, recent: list[Measures], thresholds: Thresholds, numbers: Numbers
) -> Iterator[str]:
    """Compare the newest rows with those of cycles just before, which share no rows with them."""
    past = [float(p.count) for m in recent if (p := m.run.features.get(NEWEST + ROWS)) is not None]
    before = past[-JUST_BEFORE : -thresholds.stale_cycles] or past[-1:]
    if not before or median(before) < MIN_ROWS:
        return
    usual = median(before)
    limit = min(usual - thresholds.input_mad_factor * spread(past), thresholds.newest_share * usual)
    numbers["newest_rows"], numbers["newest_rows_limit"] = count, round(limit, 1)
    if count < limit:
        yield f"{count} rows arrived last; {usual:.0f} did just before"
