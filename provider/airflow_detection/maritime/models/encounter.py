"""Two ships that lie side by side, far from shore, for hours: they may hand something over."""

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
from airflow_detection.maritime.tracks.geo import EARTH_RADIUS_KM, FloatArray, arc_km
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
from airflow_detection.maritime.tracks.steps import Steps, runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from numpy.typing import NDArray

    from airflow_detection.domain.specs import Cycle

MAX_GAP_S = 1800.0
"""Between fixes further apart it is not known where a ship was, to a few hundred metres."""


class Encounter(BaseDetectionModel):
    """One output per vessel of the window: 0 where it meets nobody, null below two fixes.

    Two vessels meet at every five-minute step at which both are slow, offshore and near each other. The score
    is 1 - 0.5 ** (duration / least duration) from the least duration on: 0.5 there, 0.75 at twice.

    Params:
        within_m: how near they are, metres (500).
        min_duration_h: an encounter takes so long at least, hours (2).
        max_speed_kn: both are slower, knots (2).
        offshore_km: both are as far from the nearest shore, kilometres (10).
        history_h: how far back a start is looked for, hours (12).
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
        met = _meetings(ctx, now, rule)
        n_pos = Counter(now.mmsi.tolist())
        outputs = [_output(m, n_pos[m], met.get(m), rule) for m in np.unique(given.mmsi).tolist()]
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
        """Pairs in mid-ocean: long, long enough; not long enough, too far apart, in harbour; a single fix.

        And a pair that is just too fast, and one that parted before the window.
        """
        rule = _Rule.of(self.params)
        newest = math.ceil(cycle.window.end.timestamp() / STEP_S) - 1
        least = math.ceil(rule.min_duration_s / STEP_S)

        def pair(
            number: int,
            expected: float | None,
            steps: int,
            share: float,
            lat: float,
            lon: float,
            *,
            speed: float = 0.9,
            ago: int = 0,
        ) -> Iterator[Canary]:
            """Two vessels, `share` of the least distance apart, with a fix every step until `ago` steps ago.

            They report a speed, as a share of the highest.
            """
            north = math.degrees(share * rule.within_km / EARTH_RADIUS_KM)
            for mmsi, place in ((-2 * number, lat), (-2 * number - 1, lat + north)):
                rows = tuple(
                    {
                        "mmsi": mmsi,
                        "observed_s": (newest - ago - k) * STEP_S,
                        "lat": place,
                        "lon": lon,
                        "sog_kn": speed * rule.max_speed_kn,
                    }
                    for k in range(steps + 1)
                )
                yield Canary(entity_id=str(mmsi), rows=rows, expected=expected)

        long = round(2.5 * least)
        yield from pair(1, rule.score(long * STEP_S), long, 0.5, -2.0, -25.0)
        yield from pair(2, rule.score(least * STEP_S), least, 0.9, -4.0, -25.0)
        yield from pair(3, 0.0, least - 2, 0.5, -6.0, -25.0)
        yield from pair(4, 0.0, least, 1.1, -8.0, -25.0)
        yield from pair(5, 0.0, least, 0.5, 40.65, -74.05)
        yield from pair(6, None, 0, 0.5, -10.0, -25.0)
        yield from pair(7, 0.0, least, 0.5, -12.0, -25.0, speed=1.2)
        before = round((cycle.window.end - cycle.window.start).total_seconds() / STEP_S) + 1
        yield from pair(61_728_394, 0.0, least, 0.5, -14.0, -25.0, ago=before)  # as long as real MMSI


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    within_km: float
    min_duration_s: float
    max_speed_kn: float
    offshore_km: float
    history_h: float

    @classmethod
    def of(cls, params: JsonMapping) -> _Rule:
        history_h = positive(params, "history_h", 12.0)
        return cls(
            within_km=positive(params, "within_m", 500.0) / 1000.0,
            min_duration_s=least_duration_s(params, 2.0, history_h),
            max_speed_kn=positive(params, "max_speed_kn", 2.0),
            offshore_km=positive(params, "offshore_km", 10.0),
            history_h=history_h,
        )

    def score(self, duration_s: float) -> float:
        """0 below the least duration, 0.5 there, and nearer to 1 the longer it takes."""
        return half_life_score(duration_s, self.min_duration_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meeting:
    """Two vessels side by side; steps since 1970."""

    mmsis: tuple[int, int]
    first: int
    last: int
    nearest_km: float
    place: tuple[float, float]
    is_open: bool
    is_start_seen: bool

    @property
    def duration_s(self) -> float:
        return (self.last - self.first) * STEP_S


def _meetings(ctx: ModelContext, now: Fixes, rule: _Rule) -> dict[int, _Meeting]:
    """The longest meeting of each vessel that reaches into the window, by MMSI."""
    slow = Slow(
        max_speed_kn=rule.max_speed_kn,
        offshore_km=rule.offshore_km,
        history_h=rule.history_h,
        max_gap_s=MAX_GAP_S,
    )
    recent = slow.steps(now.take(np.isin(now.mmsi, slow.vessels(now))))
    one, other, _ = _pairs(recent, rule.within_km)
    vessels = np.unique(recent.mmsi[np.concatenate((one, other))])
    steps = slow.steps_with_history(ctx, now, vessels)  # only of those who met in the window
    lat, lon = steps.lat, steps.lon
    one, other, km = _pairs(steps, rule.within_km)
    key = np.unique(np.column_stack((steps.track[one], steps.track[other])), axis=0, return_inverse=True)[1]
    order = np.lexsort((steps.step[one], key))
    one, other, km, key = one[order], other[order], km[order], key[order]
    step, end_s = steps.step[one], ctx.window.end.timestamp()
    found: dict[int, _Meeting] = {}
    stretches = runs(key, step)
    for first, last in zip(stretches.first.tolist(), stretches.last.tolist(), strict=True):
        if step[last] * STEP_S < ctx.window.start.timestamp():
            continue
        here, there = int(one[last]), int(other[last])
        meeting = _Meeting(
            mmsis=(int(steps.mmsi[here]), int(steps.mmsi[there])),
            first=int(step[first]),
            last=int(step[last]),
            nearest_km=float(km[first : last + 1].min()),
            place=(float(lat[here]), float(lon[here])),
            is_open=all(is_open(now, int(steps.mmsi[k]), int(step[last]), end_s) for k in (here, there)),
            is_start_seen=bool(step[first] * STEP_S > end_s - rule.history_h * 3600 + MAX_GAP_S),
        )
        for mmsi in meeting.mmsis:
            if mmsi not in found or meeting.duration_s > found[mmsi].duration_s:
                found[mmsi] = meeting
    return found


def _pairs(steps: Steps, within_km: float) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
    """Rows of two vessels near each other at the same step, the lower MMSI first, and how near, km."""
    from scipy.spatial import cKDTree

    if len(steps) < 2:
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing, np.zeros(0)
    reach = 2 * math.sin(within_km / EARTH_RADIUS_KM / 2)
    # steps are at least 1 apart in the fourth dimension, and so never neighbours of each other
    places = np.column_stack((steps.point, steps.step - steps.step.min()))
    near = cKDTree(places).query_pairs(reach, output_type="ndarray").astype(np.int64)
    is_canary = is_reserved(steps.mmsi)
    near = near[
        (steps.mmsi[near[:, 0]] != steps.mmsi[near[:, 1]]) & (is_canary[near[:, 0]] == is_canary[near[:, 1]])
    ]
    swap = steps.mmsi[near[:, 0]] > steps.mmsi[near[:, 1]]
    near[swap] = near[swap][:, ::-1]
    one, other = near[:, 0], near[:, 1]
    return one, other, arc_km(np.linalg.norm(steps.point[one] - steps.point[other], axis=1))


def _output(mmsi: int, n_pos: int, meeting: _Meeting | None, rule: _Rule) -> tuple[JsonMapping, JsonMapping]:
    if meeting is None:
        return vessel_output(mmsi, n_pos, 0.0, {})
    evidence = {
        "encounter": "-".join(map(str, meeting.mmsis)),
        "partner_mmsi": next(m for m in meeting.mmsis if m != mmsi),
        "is_open": meeting.is_open,
        "started_at": at(meeting.first),
        "is_start_seen": meeting.is_start_seen,
        "last_seen_at": at(meeting.last),
        "duration_s": meeting.duration_s,
        "threshold_s": rule.min_duration_s,
        "nearest_m": round(meeting.nearest_km * 1000, 1),
        "place": [round(degrees, 5) for degrees in meeting.place],
    }
    return vessel_output(mmsi, n_pos, rule.score(meeting.duration_s), evidence)
