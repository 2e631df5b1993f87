"""Ships that hardly move, far from shore: what `encounter` and `loitering` look at, on common time steps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from airflow_detection.maritime.coast import offshore_km
from airflow_detection.maritime.history import merged, thinned, thinned_fixes
from airflow_detection.maritime.separation import separate
from airflow_detection.maritime.steps import MAX_BREAK_STEPS, Steps, resampled

if TYPE_CHECKING:
    from airflow_detection.engine.model import ModelContext
    from airflow_detection.maritime.tracks import Fixes

STEP_S = 300.0
OPEN_S = 1800.0
"""What was seen longer ago than this is no longer known to go on."""


def slow_steps(
    ctx: ModelContext,
    now: Fixes,
    *,
    max_speed_kn: float,
    offshore: float,
    history_h: float,
    max_gap_s: float,
) -> Steps:
    """Where ships were slow and offshore, every five minutes, by (track, step).

    Looked at are the vessels with a slow or speedless fix offshore among `now`; for them the history counts
    too. Fixes under one MMSI are separated into tracks that a ship can sail: between two transmitters, where
    nobody is, no step lies.

    Args:
        now: the window's fixes, as `in_time_order` gives them.
        max_speed_kn: slow is below it, knots.
        offshore: least distance to the shore, kilometres.
        history_h: how far back from the window's end, hours.
        max_gap_s: between fixes further apart nothing is known, seconds.
    """
    at_sea = offshore_km(now.lat, now.lon) >= offshore
    vessels = np.unique(now.mmsi[at_sea & ~(now.sog_kn >= max_speed_kn)])
    since = ctx.window.end - timedelta(hours=history_h)
    earlier = thinned_fixes(ctx, since, STEP_S, vessels)
    fixes = thinned(merged(earlier, now.take(np.isin(now.mmsi, vessels))), STEP_S)
    steps = resampled(fixes, separate(fixes), step_s=STEP_S, max_gap_s=max_gap_s)
    steps = steps.take(steps.speed_kn < max_speed_kn)
    return steps.take(offshore_km(steps.lat, steps.lon) >= offshore)


def is_open(now: Fixes, mmsi: int, step: int, end_s: float) -> bool:
    """Whether a vessel is known to do at the window's end what it did at `step`, its last slow one.

    Not if that was more than half an hour ago, nor if it was heard since and had moved on.
    """
    heard_s = float(now.observed_s[now.mmsi == mmsi].max(initial=0.0))
    return end_s - step * STEP_S <= OPEN_S and heard_s - step * STEP_S <= (MAX_BREAK_STEPS + 1) * STEP_S


def at(step: int) -> str:
    """The instant of a step, UTC, as ISO 8601."""
    return datetime.fromtimestamp(step * STEP_S, UTC).isoformat()
