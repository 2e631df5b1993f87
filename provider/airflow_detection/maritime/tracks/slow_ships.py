"""Ships that hardly move, far from shore: what `encounter` and `loitering` look at, on common time steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.errors import TerminalModelError
from airflow_detection.maritime.params import positive
from airflow_detection.maritime.score_metrics import score_metrics
from airflow_detection.maritime.severity import severity
from airflow_detection.maritime.tracks.coast import offshore_km
from airflow_detection.maritime.tracks.history import merged, thinned, thinned_fixes
from airflow_detection.maritime.tracks.mmsi import MMSI_LIMIT
from airflow_detection.maritime.tracks.separation import separate
from airflow_detection.maritime.tracks.steps import MAX_BREAK_STEPS, Steps, resampled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from airflow_detection.engine.model import ModelContext
    from airflow_detection.maritime.tracks.fixes import Fixes

STEP_S = 300.0
OPEN_S = 1800.0
"""What was seen longer ago than this is no longer known to go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """What is slow and offshore, and how far back it is looked for.

    `max_speed_kn`: slower than this, knots. `offshore_km`: as far from the nearest shore, kilometres.
    `history_h`: hours back from the window's end. Between fixes further apart than `max_gap_s`, seconds, it
    is not known where a ship was.
    """

    max_speed_kn: float
    offshore_km: float
    history_h: float
    max_gap_s: float

    def vessels(self, now: Fixes) -> NDArray[np.int64]:
        """The MMSI with a slow or speedless fix offshore, ascending."""
        at_sea = offshore_km(now.lat, now.lon) >= self.offshore_km
        return np.unique(now.mmsi[at_sea & ~(now.sog_kn >= self.max_speed_kn)])

    def steps(self, fixes: Fixes) -> Steps:
        """Where vessels were slow and offshore, every five minutes, by (track, step).

        Fixes under one MMSI are separated into tracks that a ship can sail: between two transmitters, where
        nobody is, no step lies. `fixes` are in order, as `in_time_order` gives them.
        """
        fixes = thinned(fixes, STEP_S)
        steps = resampled(fixes, separate(fixes), step_s=STEP_S, max_gap_s=self.max_gap_s)
        steps = steps.take(steps.speed_kn < self.max_speed_kn)
        return steps.take(offshore_km(steps.lat, steps.lon) >= self.offshore_km)

    def steps_with_history(self, ctx: ModelContext, now: Fixes, vessels: NDArray[np.int64]) -> Steps:
        """The steps of these vessels, of the window and of the hours before."""
        since = ctx.window.end - timedelta(hours=self.history_h)
        earlier = thinned_fixes(ctx, since, STEP_S, vessels)
        return self.steps(merged(earlier, now.take(np.isin(now.mmsi, vessels))))


def half_life_score(duration_s: float, least_s: float) -> float:
    """0 below the least duration, 0.5 there, 0.75 at twice; a step less counts as the least.

    What lasts so long has its first and last step inside it, which may be a step nearer to each other.
    """
    if duration_s < least_s - STEP_S:
        return 0.0
    return -math.expm1(-math.log(2) * max(duration_s, least_s) / least_s)


def least_duration_s(params: JsonMapping, default_h: float, history_h: float) -> float:
    """Read `min_duration_h`, hours, as seconds.

    Raises:
        TerminalModelError: it is no number above 0, or more than the history can hold.
    """
    min_duration_h = positive(params, "min_duration_h", default_h)
    if history_h < min_duration_h:
        raise TerminalModelError(
            f"param 'history_h' is {history_h:g}, less than 'min_duration_h', {min_duration_h:g}"
        )
    return min_duration_h * 3600.0


def vessel_output(
    mmsi: int, n_pos: int, score: float, evidence: JsonMapping
) -> tuple[JsonMapping, JsonMapping]:
    """The output of one vessel; where nothing was found, null below two fixes and without evidence."""
    known = None if not score and n_pos < 2 else score
    output = {
        "entity_id": str(mmsi),
        "mmsi": mmsi,
        "score": known,
        "severity": severity(known),
        "n_pos": n_pos,
        "evidence": evidence if score else {"is_open": False},
    }
    return {"mmsi": mmsi}, output


def vessel_metrics(outputs: Iterable[tuple[JsonMapping, JsonMapping]]) -> dict[str, float | int | None]:
    """How many real vessels there are, and the metrics of their scores."""
    scores = [output["score"] for _, output in outputs if 0 <= output["mmsi"] < MMSI_LIMIT]
    return {"vessel_count": len(scores), **score_metrics(scores)}


def is_open(now: Fixes, mmsi: int, step: int, end_s: float) -> bool:
    """Whether a vessel is known to do at the window's end what it did at `step`, its last slow one.

    Not if that was more than half an hour ago, nor if it was heard since and had moved on.
    """
    heard_s = float(now.observed_s[now.mmsi == mmsi].max(initial=0.0))
    return end_s - step * STEP_S <= OPEN_S and heard_s - step * STEP_S <= (MAX_BREAK_STEPS + 1) * STEP_S


def at(step: int) -> str:
    """The instant of a step, UTC, as ISO 8601."""
    return datetime.fromtimestamp(step * STEP_S, UTC).isoformat()
