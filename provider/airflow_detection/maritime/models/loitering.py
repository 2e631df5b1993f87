"""Ships that stay where they are, far from shore, for hours."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.engine.model import BaseDetectionModel, Canary, ModelContext, ModelResult
from airflow_detection.maritime.params import positive
from airflow_detection.maritime.tracks.coast import load_shorelines
from airflow_detection.maritime.tracks.fixes import Fixes, in_time_order, read_fixes
from airflow_detection.maritime.tracks.geo import KM_PER_NM
from airflow_detection.maritime.tracks.mmsi import is_reserved
from airflow_detection.maritime.tracks.slow_ships import (
    STEP_S,
    Slow,
    at,
    half_life_score,
    is_open,
    least_duration_s,
    vessel_metrics,
    vessel_output,
)
from airflow_detection.maritime.tracks.steps import runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from airflow_detection.domain.specs import Cycle

MAX_GAP_S = 3600.0
"""Between fixes further apart it is not known where the ship was."""


class Loitering(BaseDetectionModel):
    """One output per vessel of the window: 0 where it does not loiter, null below two fixes.

    The score is 1 - 0.5 ** (duration / least duration) from the least duration on: 0.5 there, 0.75 at twice.

    Params:
        min_duration_h: loitering takes so long at least, hours (4).
        max_speed_kn: and is slower than this, knots (2).
        offshore_nm: and as far from the nearest shore, nautical miles (20).
        history_h: how far back a start is looked for, hours (24).
    """

    features: ClassVar[tuple[str, ...]] = ("lat", "lon", "sog_kn")

    @classmethod
    def prepare(cls) -> None:
        """Read the shorelines."""
        load_shorelines()

    def run(self, ctx: ModelContext) -> ModelResult:
        """Judge every vessel that has a row in the inputs.

        Raises:
            TerminalModelError: a param is no number or out of bounds, or an input column is missing.
        """
        rule = _Rule.of(ctx.params)
        given = read_fixes(ctx.inputs)
        now = in_time_order(given)
        stays = _stays(ctx, now, rule)
        n_pos = Counter(now.mmsi.tolist())
        outputs = [_output(m, n_pos[m], stays.get(m), rule) for m in np.unique(given.mmsi).tolist()]
        real = now.take(~is_reserved(now.mmsi))
        return ModelResult(
            outputs_per_input=outputs,
            metrics=vessel_metrics(outputs),
            features={name: real.feature(name) for name in self.features},
        )

    def reads_since(self, cycle: Cycle) -> datetime:
        """Where starts are looked for."""
        return cycle.started_at - timedelta(hours=_Rule.of(self.params).history_h)

    def canaries(self, cycle: Cycle) -> Iterator[Canary]:
        """Adrift in mid-ocean: long, long enough, too short; under way; in harbour; a single fix (null).

        And one that sailed on before the window.
        """
        rule = _Rule.of(self.params)
        newest = math.ceil(cycle.window.end.timestamp() / STEP_S) - 1
        least = math.ceil(rule.min_duration_s / STEP_S)
        mid_atlantic, harbour = (0.0, -25.0), (40.65, -74.05)

        def canary(
            mmsi: int, expected: float | None, steps: int, place: tuple[float, float], kn: float, ago: int = 0
        ) -> Canary:
            """A fix every five minutes until `ago` steps ago, drifting north at half a knot."""
            rows = tuple(
                {
                    "mmsi": mmsi,
                    "observed_s": (newest - ago - k) * STEP_S,
                    "lat": place[0] - 0.5 * k * STEP_S / 3600 / 60 + mmsi % -20,
                    "lon": place[1],
                    "sog_kn": kn,
                }
                for k in range(steps + 1)
            )
            return Canary(entity_id=str(mmsi), rows=rows, expected=expected)

        slow, long = 0.9 * rule.max_speed_kn, round(2.5 * least)
        yield canary(-1, rule.score(long * STEP_S), long, mid_atlantic, slow)
        yield canary(-2, rule.score(least * STEP_S), least, mid_atlantic, slow)
        yield canary(-3, 0.0, least - 2, mid_atlantic, slow)
        yield canary(-4, 0.0, least, mid_atlantic, 1.2 * rule.max_speed_kn)
        yield canary(-5, 0.0, least, (harbour[0] + 5, harbour[1]), slow)
        yield canary(-6, None, 0, mid_atlantic, slow)
        before = round((cycle.window.end - cycle.window.start).total_seconds() / STEP_S) + 1
        yield canary(-123_456_787, 0.0, least, mid_atlantic, slow, before)  # as long as a real MMSI


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    min_duration_s: float
    max_speed_kn: float
    offshore_nm: float
    history_h: float

    @classmethod
    def of(cls, params: JsonMapping) -> _Rule:
        history_h = positive(params, "history_h", 24.0)
        return cls(
            min_duration_s=least_duration_s(params, 4.0, history_h),
            max_speed_kn=positive(params, "max_speed_kn", 2.0),
            offshore_nm=positive(params, "offshore_nm", 20.0),
            history_h=history_h,
        )

    def score(self, duration_s: float) -> float:
        """0 below the least duration, 0.5 there, and nearer to 1 the longer it takes."""
        return half_life_score(duration_s, self.min_duration_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stay:
    """The longest stay of a vessel that reaches into the window; steps since 1970."""

    first: int
    last: int
    place: tuple[float, float]
    is_open: bool
    is_start_seen: bool

    @property
    def duration_s(self) -> float:
        return (self.last - self.first) * STEP_S


def _stays(ctx: ModelContext, now: Fixes, rule: _Rule) -> dict[int, _Stay]:
    slow = Slow(
        max_speed_kn=rule.max_speed_kn,
        offshore_km=rule.offshore_nm * KM_PER_NM,
        history_h=rule.history_h,
        max_gap_s=MAX_GAP_S,
    )
    steps = slow.steps_with_history(ctx, now, slow.vessels(now))
    lat, lon = steps.lat, steps.lon
    found: dict[int, _Stay] = {}
    end_s = ctx.window.end.timestamp()
    stretches = runs(steps.track, steps.step)
    for first, last in zip(stretches.first.tolist(), stretches.last.tolist(), strict=True):
        if steps.step[last] * STEP_S < ctx.window.start.timestamp():
            continue
        stay = _Stay(
            first=int(steps.step[first]),
            last=int(steps.step[last]),
            place=(float(lat[last]), float(lon[last])),
            is_open=is_open(now, int(steps.mmsi[last]), int(steps.step[last]), end_s),
            is_start_seen=bool(steps.step[first] * STEP_S > end_s - rule.history_h * 3600 + MAX_GAP_S),
        )
        mmsi = int(steps.mmsi[last])
        if mmsi not in found or stay.duration_s > found[mmsi].duration_s:
            found[mmsi] = stay
    return found


def _output(mmsi: int, n_pos: int, stay: _Stay | None, rule: _Rule) -> tuple[JsonMapping, JsonMapping]:
    if stay is None:
        return vessel_output(mmsi, n_pos, 0.0, {})
    evidence = {
        "is_open": stay.is_open,
        "started_at": at(stay.first),
        "is_start_seen": stay.is_start_seen,
        "last_seen_at": at(stay.last),
        "duration_s": stay.duration_s,
        "threshold_s": rule.min_duration_s,
        "place": [round(degrees, 5) for degrees in stay.place],
    }
    return vessel_output(mmsi, n_pos, rule.score(stay.duration_s), evidence)
