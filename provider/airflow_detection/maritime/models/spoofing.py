"""Tracks that no ship can sail: positions too far apart for the time between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.engine.model import BaseDetectionModel, Canary, ModelContext, ModelResult
from airflow_detection.maritime.models.spoofing_canaries import edge_canaries
from airflow_detection.maritime.models.track_quality import mostly_dropped
from airflow_detection.maritime.params import positive
from airflow_detection.maritime.tracks.fixes import Fixes, in_time_order, iso_utc, read_fixes
from airflow_detection.maritime.tracks.geo import (
    EARTH_RADIUS_KM,
    KM_PER_NM,
    FloatArray,
    haversine_km,
    speed_kn,
)
from airflow_detection.maritime.tracks.mmsi import MMSI_LIMIT, is_valid
from airflow_detection.maritime.tracks.vessel_types import CLASSES, limits_by_type, speed_limits
from airflow_detection.maritime.vessel_canaries import vessel_canary
from airflow_detection.maritime.vessel_outputs import vessel_metrics, vessel_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from airflow_detection.domain.specs import Cycle

DISTANCE_SCALE_KM = 5.0  # a hop much shorter than this is noise of position or clock
HOP_WEIGHT = 0.4
KIN_WEIGHT, SOG_WEIGHT, ID_WEIGHT = 0.95, 0.3, 0.25
MIN_DURATION_S = 1.0  # AIS times are whole seconds: two places in one second are one second apart
MIN_HOP_KM = 1.0  # evidence names a hop from here on; the score needs no such edge
SOG_TOLERANCE_KN, SOG_SCALE_KN = 5.0, 25.0
SOG_POSITION_NOISE_KM = 0.2
SOG_MAX_DURATION_S = 600.0  # a ship may start, sail and stop between two reports further apart


class Spoofing(BaseDetectionModel):
    """One output per vessel, from each pair of consecutive fixes; the score is null below two fixes.

    Params:
        v_max_kn: the speed that no ship exceeds, knots, > 0 (50).
        v_max_by_type: the same by class of vessel, a mapping (see `vessel_types.CLASSES`); a class that it
            leaves out, and a vessel without one, has `v_max_kn`. Needs the input column `vessel_type`.
        max_dropped_share: the score is null where `track_quality` dropped more than this share (0.9).
    """

    features: ClassVar[tuple[str, ...]] = ("lat", "lon", "sog_kn")

    def run(self, ctx: ModelContext) -> ModelResult:
        """Judge every vessel that has a row in the inputs.

        Raises:
            TerminalModelError: a param is not a number or out of bounds, or an input column is missing.
        """
        v_max_kn = positive(ctx.params, "v_max_kn", 50.0)
        by_type = limits_by_type(ctx.params, "v_max_by_type")
        unusable = mostly_dropped(ctx, positive(ctx.params, "max_dropped_share", 0.9))
        fixes = read_fixes(ctx.inputs)
        vessels = np.unique(fixes.mmsi)
        kept = in_time_order(fixes)
        limits = np.full(len(vessels), v_max_kn)
        if by_type is not None:
            limits = speed_limits(ctx.inputs, vessels, v_max_kn, by_type)
        scores = _score(kept, vessels, limits)
        outputs = list(_outputs(vessels, scores, unusable))
        return ModelResult(
            outputs_per_input=outputs,
            metrics=vessel_metrics(
                outputs, impossible_hop_count=lambda output: int(output["evidence"]["impossible_hops"])
            ),
            features=kept.features(self.features),
        )

    def canaries(self, cycle: Cycle) -> Iterator[Canary]:
        """Strong, marginal, negative, a contradicted speed, an impossible identity, a single fix (null).

        And a track of which `track_quality` dropped too much (null), and fixes without a position between
        good ones; `edge_canaries` has more. They sail off the equator and across the date line, so that
        swapped, flattened or unwrapped coordinates show.
        """
        v_max_kn = positive(self.params, "v_max_kn", 50.0)
        by_type = limits_by_type(self.params, "v_max_by_type") or {}
        start = cycle.window.start.timestamp()

        def canary(
            mmsi: int,
            expected: float | None,
            *,
            km: float,
            kn: float,
            fixes: int,
            sog: float | None,
            vessel_type: int | None = None,
            at: tuple[float, float] = (27.0, -89.5),
            upstream: Mapping[str, tuple[tuple[JsonMapping, JsonMapping], ...]] | None = None,
        ) -> Canary:
            """Sail to and fro on one latitude, `km` at `kn` each way."""
            step_s = km / KM_PER_NM / kn * 3600.0
            lat, lon = at
            ratio = math.sin(km / 2 / EARTH_RADIUS_KM) / math.cos(math.radians(lat))
            east = lon + math.degrees(2 * math.asin(ratio))
            lons = (lon, east - 360.0 if east > 180 else east)
            return vessel_canary(
                mmsi,
                expected,
                [(start + step_s * i, lat, lons[i % 2]) for i in range(fixes)],
                upstream=upstream,
                sog_kn=sog,
                vessel_type=vessel_type,
            )

        strong = 0.4 * (1 - math.exp(-20 / 5))
        marginal = 0.4 * 0.5 * (1 - math.exp(-5 / 5))
        fast_kn = 0.9 * v_max_kn  # for 300 s, while the speed is reported as 0
        contradiction = min(max((fast_kn - 5 - 0.2 / KM_PER_NM * 12) / 25, 0.0), 1.0)
        yield canary(-1, 0.95 * (1 - (1 - strong) ** 3), km=20, kn=4 * v_max_kn, fixes=4, sog=None)
        yield canary(-2, 0.95 * marginal, km=5, kn=1.5 * v_max_kn, fixes=2, sog=None)
        slow_kn = 0.5 * v_max_kn
        yield canary(-3, 0.0, km=5, kn=slow_kn, fixes=4, sog=slow_kn, at=(27.0, 179.98))
        yield canary(-4, None, km=5, kn=v_max_kn, fixes=1, sog=None)
        yield canary(-5, 0.3 * contradiction, km=fast_kn * KM_PER_NM / 12, kn=fast_kn, fixes=2, sog=0.0)
        yield canary(MMSI_LIMIT + 1, 0.25, km=5, kn=0.5 * v_max_kn, fixes=2, sog=None)
        if positive(self.params, "max_dropped_share", 0.9) < 1:
            unusable = {"track_quality": (({"mmsi": -6}, {"entity_id": "-6", "score": 1.0}),)}
            yield canary(-6, None, km=20, kn=4 * v_max_kn, fixes=4, sog=None, upstream=unusable)
        yield _without_positions(-7, start)
        yield from edge_canaries(start, v_max_kn, positive(self.params, "max_dropped_share", 0.9))
        for number, name in enumerate(sorted(by_type)):
            code, kn = CLASSES[name][0], 1.5 * by_type[name]
            yield canary(-10 - number, 0.95 * marginal, km=5, kn=kn, fixes=2, sog=None, vessel_type=code)


def _without_positions(mmsi: int, start_s: float) -> Canary:
    """A ship at rest; every other fix of it has no position."""
    places = ((27.0, -89.5), (91.0, 181.0), (27.0, -89.5), (None, None), (27.0, -89.5))
    return vessel_canary(mmsi, 0.0, [(start_s + 60.0 * i, *place) for i, place in enumerate(places)])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scores:
    """Scores per vessel, shape (n,), in the order of the vessels; without a pair, `max_speed_kn` is NaN."""

    n_pos: NDArray[np.int64]
    c_kin: FloatArray
    c_sog: FloatArray
    c_id: FloatArray
    score: FloatArray
    max_speed_kn: FloatArray
    hops: NDArray[np.int64]
    worst: dict[int, dict[str, Any]]  # Any: JSON; by index of the vessel, those with an impossible hop


def _score(fixes: Fixes, vessels: NDArray[np.int64], limits_kn: FloatArray) -> _Scores:
    """Score time-ordered fixes; `vessels` is sorted and holds each MMSI of `fixes`, each with its limit."""
    n = len(vessels)
    group = np.searchsorted(vessels, fixes.mmsi)
    n_pos = np.bincount(group, minlength=n)
    first = np.flatnonzero(group[1:] == group[:-1])  # a pair is (first, first + 1)
    group = group[first]
    distance = haversine_km(fixes.lat[first], fixes.lon[first], fixes.lat[first + 1], fixes.lon[first + 1])
    duration = np.maximum(fixes.observed_s[first + 1] - fixes.observed_s[first], MIN_DURATION_S)
    speed = speed_kn(distance, duration)
    v_max_kn = limits_kn[group]

    s = np.clip((speed - v_max_kn) / v_max_kn, 0, 1) * -np.expm1(-distance / DISTANCE_SCALE_KM)
    c_kin = 0.0 - np.expm1(np.bincount(group, weights=np.log1p(-HOP_WEIGHT * s), minlength=n))
    c_sog = _contradicted_share(fixes, first, speed, duration, group, n)
    c_id = np.where(is_valid(vessels), 0.0, 1.0)
    score = 1 - (1 - KIN_WEIGHT * c_kin) * (1 - SOG_WEIGHT * c_sog) * (1 - ID_WEIGHT * c_id)

    max_speed = np.full(n, np.nan)
    np.fmax.at(max_speed, group, speed)
    is_hop = (speed > v_max_kn) & (distance >= MIN_HOP_KM)
    return _Scores(
        n_pos=n_pos,
        c_kin=c_kin,
        c_sog=c_sog,
        c_id=c_id,
        score=score,
        max_speed_kn=max_speed,
        hops=np.bincount(group[is_hop], minlength=n),
        worst=_worst_hops(fixes, first[is_hop], group[is_hop], distance[is_hop], speed[is_hop]),
    )


def _contradicted_share(
    fixes: Fixes,
    first: NDArray[np.int64],
    speed: FloatArray,
    duration: FloatArray,
    group: NDArray[np.int64],
    n: int,
) -> FloatArray:
    """Mean, per vessel, of how far the needed speed exceeds the higher of the two reported ones, in [0, 1].

    One-sided: the straight line is the shortest way, so a lower needed speed contradicts nothing.
    """
    reported = np.maximum(fixes.sog_kn[first], fixes.sog_kn[first + 1])
    usable = ~np.isnan(reported) & (duration <= SOG_MAX_DURATION_S)
    tolerance = SOG_TOLERANCE_KN + speed_kn(np.full(len(duration), SOG_POSITION_NOISE_KM), duration)
    excess = np.clip((speed - reported - tolerance) / SOG_SCALE_KN, 0, 1)[usable]
    counted = np.bincount(group[usable], minlength=n)
    share = np.bincount(group[usable], weights=excess, minlength=n) / np.maximum(counted, 1)
    return np.asarray(share, dtype=np.float64)


def _worst_hops(
    fixes: Fixes, first: NDArray[np.int64], group: NDArray[np.int64], distance: FloatArray, speed: FloatArray
) -> dict[int, dict[str, Any]]:
    """Describe the longest impossible hop of each vessel that has one."""
    order = np.lexsort((first, distance, group))
    last_of_group = np.append(np.flatnonzero(np.diff(group[order])), len(order) - 1) if len(order) else order
    worst = {}
    for k in order[last_of_group].tolist():
        i = int(first[k])
        worst[int(group[k])] = {
            "at": iso_utc(fixes.observed_s[i + 1]),
            "from": [float(fixes.lat[i]), float(fixes.lon[i])],
            "to": [float(fixes.lat[i + 1]), float(fixes.lon[i + 1])],
            "km": round(float(distance[k]), 3),
            "kn": round(float(speed[k]), 1),
        }
    return worst


def _outputs(
    vessels: NDArray[np.int64], scores: _Scores, unusable: frozenset[str]
) -> Iterator[tuple[JsonMapping, JsonMapping]]:
    columns = zip(
        vessels.tolist(),
        scores.n_pos.tolist(),
        scores.score.tolist(),
        scores.c_kin.tolist(),
        scores.c_sog.tolist(),
        scores.c_id.tolist(),
        scores.max_speed_kn.tolist(),
        scores.hops.tolist(),
        strict=True,
    )
    for index, (mmsi, n_pos, value, c_kin, c_sog, c_id, max_speed, hops) in enumerate(columns):
        score = None if str(mmsi) in unusable or n_pos < 2 else value
        worst = scores.worst.get(index)
        evidence = {
            "c_kin": round(c_kin, 6),
            "c_sog": round(c_sog, 6),
            "c_id": c_id,
            "max_speed_kn": round(max_speed, 1) if n_pos > 1 else None,
            "impossible_hops": hops,
            "largest_hop_km": worst["km"] if worst else None,
            "worst_hop": worst,
        }
        yield vessel_output(mmsi, score, n_pos, evidence)
