"""Two ships that lie side by side, far from shore, for hours: they may hand something over."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.engine.model import Canary, ModelContext
from airflow_detection.maritime.models.slow_ship_model import SlowShipCanaries, SlowShipModel
from airflow_detection.maritime.params import positive
from airflow_detection.maritime.tracks.fixes import Fixes
from airflow_detection.maritime.tracks.geo import EARTH_RADIUS_KM, FloatArray, arc_km
from airflow_detection.maritime.tracks.history import merged, thinned_fixes
from airflow_detection.maritime.tracks.mmsi import is_reserved
from airflow_detection.maritime.tracks.slow_ships import (
    STEP_S,
    Episode,
    SlowShipRule,
    is_open,
    keep_longest,
    least_duration_s,
)
from airflow_detection.maritime.tracks.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from airflow_detection.domain.specs import Cycle

MAX_GAP_S = 3600.0
"""Between fixes further apart it is not known where a ship was."""

AT_WORK = frozenset(
    {"towing", "pilot", "search_and_rescue", "port_tender", "anti_pollution", "law_enforcement", "medical"}
)
"""Classes of vessels that lie beside others for a living."""

TOGETHER_STEPS = 4
"""Steps under way side by side from which on two vessels belong together: a tow, or radios in one hull."""
ONE_HULL_KM = 0.02
"""Kilometres; two radios that are mostly nearer to each other are in one hull."""


class Encounter(SlowShipModel):
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

    @staticmethod
    def rule(params: JsonMapping) -> _EncounterRule:
        """Read the params; see `OffshoreModel.rule`."""
        history_h = positive(params, "history_h", 12.0)
        return _EncounterRule(
            within_km=positive(params, "within_m", 500.0) / 1000.0,
            min_duration_s=least_duration_s(params, 2.0, history_h),
            max_speed_kn=positive(params, "max_speed_kn", 2.0),
            offshore_km=positive(params, "offshore_km", 10.0),
            history_h=history_h,
            max_gap_s=MAX_GAP_S,
            classes_at_work=AT_WORK,
        )

    def canaries(self, cycle: Cycle) -> Iterator[Canary]:
        """Pairs in mid-ocean: long, long enough; not long enough, too far apart, in harbour; a single fix.

        And a pair that is just too fast, and one that parted before the window.
        """
        rule = self.rule(self.params)
        steps = SlowShipCanaries.of(cycle, rule)

        def pair(
            number: int,
            expected: float | None,
            count: int,
            share: float,
            lat: float,
            lon: float,
            *,
            speed: float = 0.9,
            ago: int = 0,
        ) -> Iterator[Canary]:
            """Two vessels, `share` of the least distance apart, for `count` steps until `ago` steps ago.

            They report a speed, as a share of the highest.
            """
            north = math.degrees(share * rule.within_km / EARTH_RADIUS_KM)
            for mmsi, own_lat in ((-2 * number, lat), (-2 * number - 1, lat + north)):
                places = [(own_lat, lon)] * (count + 1)
                yield steps.canary(mmsi, expected, places, sog_kn=speed * rule.max_speed_kn, ago=ago)

        long, least = steps.long, steps.least
        yield from pair(1, rule.score(long * STEP_S), long, 0.5, -2.0, -25.0)
        yield from pair(2, rule.score(least * STEP_S), least, 0.9, -4.0, -25.0)
        yield from pair(3, 0.0, least - 2, 0.5, -6.0, -25.0)
        yield from pair(4, 0.0, least, 1.1, -8.0, -25.0)
        yield from pair(5, 0.0, least, 0.5, 40.65, -74.05)
        yield from pair(6, None, 0, 0.5, -10.0, -25.0)
        yield from pair(7, 0.0, least, 0.5, -12.0, -25.0, speed=1.2)
        # the number makes an MMSI that is as long as a real one
        yield from pair(61_728_394, 0.0, least, 0.5, -14.0, -25.0, ago=steps.before)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meeting(Episode):
    """Two vessels side by side."""

    mmsis: tuple[int, int]
    nearest_km: float

    def evidence(self, mmsi: int, threshold_s: float) -> JsonMapping:
        return {
            "encounter": "-".join(map(str, self.mmsis)),
            "partner_mmsi": next(m for m in self.mmsis if m != mmsi),
            **self.timing(threshold_s),
            "nearest_m": round(self.nearest_km * 1000, 1),
            **self.position(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _EncounterRule(SlowShipRule):
    within_km: float

    def episodes(self, ctx: ModelContext, now: Fixes) -> dict[int, _Meeting]:
        candidates = self.vessels(ctx, now)
        own = now.take(np.isin(now.mmsi, candidates))
        just_before = thinned_fixes(
            ctx, ctx.window.start - timedelta(seconds=self.max_gap_s), STEP_S, candidates
        )
        recent = self.slow_steps(self.all_steps(merged(just_before, own)))
        one, other, _ = _pairs(recent, self.within_km)
        vessels = np.unique(recent.mmsi[np.concatenate((one, other))])  # only those who met lately
        everywhere = self.all_steps(merged(self.earlier(ctx, vessels), now.take(np.isin(now.mmsi, vessels))))
        belonging = self.belonging(everywhere) | namesakes(ctx.inputs, vessels)
        steps = self.slow_steps(everywhere)
        lat, lon = steps.lat, steps.lon
        one, other, km = _pairs(steps, self.within_km)
        is_strange = [
            pair not in belonging
            for pair in zip(steps.mmsi[one].tolist(), steps.mmsi[other].tolist(), strict=True)
        ]
        one, other, km = one[is_strange], other[is_strange], km[is_strange]
        tracks = np.column_stack((steps.track[one], steps.track[other]))
        pair = np.unique(tracks, axis=0, return_inverse=True)[1]
        order = np.lexsort((steps.step[one], pair))
        one, other, km, pair = one[order], other[order], km[order], pair[order]
        in_gap = steps.in_gap[one] | steps.in_gap[other]
        meetings: dict[int, _Meeting] = {}
        for stretch in self.stretches(ctx.window, pair, steps.step[one], in_gap):
            rows = int(one[stretch.last_row]), int(other[stretch.last_row])
            mmsis = int(steps.mmsi[rows[0]]), int(steps.mmsi[rows[1]])
            meeting = _Meeting(
                stretch=stretch,
                place=(float(lat[rows[0]]), float(lon[rows[0]])),
                is_open=all(is_open(now, mmsi, stretch.last_step, ctx.window) for mmsi in mmsis),
                mmsis=mmsis,
                nearest_km=float(km[stretch.first_row : stretch.last_row + 1].min()),
            )
            for mmsi in mmsis:
                keep_longest(meetings, mmsi, meeting)
        return meetings

    def belonging(self, steps: Steps) -> frozenset[tuple[int, int]]:
        """Return the pairs of vessels (the lower MMSI first) that belong together.

        They were under way side by side, or mostly in one place to a few metres.
        """
        one, other, km = _pairs(steps, self.within_km)
        both = np.column_stack((steps.mmsi[one], steps.mmsi[other]))
        pairs, group = np.unique(both, axis=0, return_inverse=True)
        is_fast = np.minimum(steps.speed_kn[one], steps.speed_kn[other]) >= self.max_speed_kn
        fast_steps = np.bincount(group, weights=is_fast, minlength=len(pairs))
        apart_steps = np.bincount(group, weights=km > ONE_HULL_KM, minlength=len(pairs))
        belongs = (fast_steps >= TOGETHER_STEPS) | (
            2 * apart_steps <= np.bincount(group, minlength=len(pairs))
        )
        return frozenset(map(tuple, pairs[belongs].tolist()))


def namesakes(inputs: Inputs, vessels: NDArray[np.int64]) -> frozenset[tuple[int, int]]:
    """Return the pairs of these vessels (the lower MMSI first) that send one name: two radios of one ship."""
    if "vessel_name" not in inputs.columns or not len(vessels):
        return frozenset()
    wanted, by_name = set(vessels.tolist()), dict[str, set[int]]()
    for mmsi, name in set(zip(inputs["mmsi"], inputs["vessel_name"], strict=True)):
        if name and mmsi in wanted:
            by_name.setdefault(str(name).strip().upper(), set()).add(mmsi)
    return frozenset(pair for mmsis in by_name.values() for pair in combinations(sorted(mmsis), 2))


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
