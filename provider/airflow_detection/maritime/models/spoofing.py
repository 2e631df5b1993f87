"""Tracks that no ship can sail: positions too far apart for the time between them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.engine.model import BaseDetectionModel, Canary, ModelContext, ModelResult
from airflow_detection.maritime.models.spoofing_canaries import edge_canaries
from airflow_detection.maritime.models.track_quality import mostly_dropped
from airflow_detection.maritime.params import positive
from airflow_detection.maritime.tracks.echoes import late_fixes, may_be_late, without
from airflow_detection.maritime.tracks.fixes import TIME, Fixes, in_time_order, iso_utc, read_fixes
from airflow_detection.maritime.tracks.geo import EARTH_RADIUS_KM, KM_PER_NM, FloatArray, speed_kn
from airflow_detection.maritime.tracks.history import (
    HISTORY_TABLES,
    concatenated,
    last_fixes_of,
    merged,
    stored_fixes,
    thinned_fixes,
)
from airflow_detection.maritime.tracks.hops import (
    CLOCK_S,
    Hops,
    hops,
    is_impossible,
    reported_limits_kn,
    stretches,
    surplus_km,
    uncertainty_km,
)
from airflow_detection.maritime.tracks.mmsi import MMSI_LIMIT, VESSELS, is_of_kind, is_reserved, is_valid
from airflow_detection.maritime.tracks.nowhere import crowds, is_nowhere
from airflow_detection.maritime.tracks.vessel_types import CLASSES, has_class, limits_by_type, speed_limits
from airflow_detection.maritime.vessel_canaries import vessel_canary
from airflow_detection.maritime.vessel_outputs import unjudged, vessel_metrics, vessel_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from airflow_detection.domain.specs import Cycle

DISTANCE_SCALE_KM = 5.0  # a hop much shorter than this is noise of position or clock
HOP_WEIGHT = 0.4
STRETCH_HOP_S = 150.0  # a speed that is kept up so long, seconds, weighs as much as a hop
KIN_WEIGHT, SOG_WEIGHT, ID_WEIGHT, NOWHERE_WEIGHT = 0.95, 0.3, 0.25, 0.4
MIN_HOP_KM = 1.0  # evidence names a hop from here on; the score needs no such edge
SOG_TOLERANCE_KN, SOG_SCALE_KN = 5.0, 25.0
SOG_POSITION_NOISE_KM = 0.2
THINNED_S, DENSE_S = 300.0, 3600.0  # steps of a track from before the window; all of it just before
BEFORE = 2  # fixes from before the window: of two the last may be a false one
SOG_MAX_DURATION_S = 600.0  # a ship may start, sail and stop between two reports further apart


class Spoofing(BaseDetectionModel):
    """One output per vessel, from each pair of consecutive fixes; the score is null below two fixes.

    What single pairs leave open shows over a quarter of an hour: a speed that is kept up is judged, too.
    The last fix from before the window counts where no ship can have sailed from it into the window. Ships
    and their boats are judged (ITU-R M.585); the score of any other station is null.

    Params:
        v_max_kn: the speed that no ship exceeds, knots, > 0 (50).
        v_max_by_type: the same by class of vessel, a mapping (see `vessel_types.CLASSES`). A class that it
            leaves out has the speed in `vessel_types.FAST_KN` if that is higher, and else `v_max_kn`, as has
            a vessel without one. Needs the input column `vessel_type`.
        history_h: how old the last fix from before the window may be, hours (12).
        max_dropped_share: the score is null where `track_quality` dropped more than this share (0.9).
    """

    features: ClassVar[tuple[str, ...]] = ("lat", "lon", "sog_kn")
    history_tables: ClassVar[tuple[str, ...]] = HISTORY_TABLES
    counts_need_past: ClassVar[bool] = False  # few hops lie across the edge of a window

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
        is_judged = is_of_kind(vessels, VESSELS)
        kept = in_time_order(fixes)
        limits = speed_limits(ctx.inputs, vessels, v_max_kn, by_type)
        before = last_fixes_of(ctx, _since(ctx.cycle, ctx.params), vessels[is_judged], BEFORE)
        n_pos = np.bincount(np.searchsorted(vessels, kept.mmsi), minlength=len(vessels))
        nowhere = {*kept.mmsi[is_nowhere(kept, before)].tolist(), *_crowded(kept)}
        judged = _Vessels(vessels, limits, has_class(ctx.inputs, vessels), np.isin(vessels, sorted(nowhere)))
        on_time = _without_late(ctx, kept, vessels[is_judged], v_max_kn)
        scores = _score(_with_last_fix(on_time, before, v_max_kn), judged)
        scores = replace(scores, n_pos=n_pos)
        outputs = list(_outputs(vessels, scores, is_judged, unusable))
        return ModelResult(
            outputs_per_input=outputs,
            metrics=vessel_metrics(
                outputs,
                impossible_hop_count=lambda output: int(output["evidence"]["impossible_hops"]),
                position_unavailable_count=lambda output: int(output["evidence"]["position_unavailable"]),
            ),
            features=kept.features((*self.features, TIME)),
        )

    def reads_since(self, cycle: Cycle) -> datetime:
        """Return the instant from which the last fix before the window is looked for, UTC."""
        return _since(cycle, self.params)

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
            limit_kn: float = v_max_kn,
            vessel_type: int | None = None,
            at: tuple[float, float] = (27.0, -89.5),
            upstream: Mapping[str, tuple[tuple[JsonMapping, JsonMapping], ...]] | None = None,
        ) -> Canary:
            """Sail to and fro on one latitude, `km` at `kn` each way, and what is uncertain besides."""
            step_s = km / KM_PER_NM / kn * 3600.0
            lat, lon = at
            km += float(uncertainty_km(np.array(limit_kn if sog is None else sog))) if kn > limit_kn else 0.0
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
            code, kn = CLASSES[name][0], by_type[name]
            yield canary(
                -10 - number,
                0.95 * marginal,
                km=5,
                kn=1.5 * kn,
                fixes=2,
                sog=None,
                limit_kn=kn,
                vessel_type=code,
            )


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
    is_nowhere: NDArray[np.bool_]
    score: FloatArray
    max_speed_kn: FloatArray
    hops: NDArray[np.int64]
    worst: dict[int, dict[str, Any]]  # Any: JSON; by index of the vessel, those with an impossible hop
    stretches: NDArray[np.int64]
    fastest: dict[int, dict[str, Any]]


def _crowded(kept: Fixes) -> set[int]:
    """Return the vessels that say that they are at one point with many others, far from shore."""
    real = kept.take(~is_reserved(kept.mmsi) & is_of_kind(kept.mmsi, VESSELS))
    return {mmsi for point in crowds(real) for mmsi in point.mmsis}


def _since(cycle: Cycle, params: JsonMapping) -> datetime:
    return cycle.window.start - timedelta(hours=positive(params, "history_h", 12.0))


def _without_late(ctx: ModelContext, kept: Fixes, judged: NDArray[np.int64], v_max_kn: float) -> Fixes:
    """Leave out fixes that a receiver with a wrong clock has of a vessel's own track, in time order."""
    suspects = np.intersect1d(may_be_late(kept, v_max_kn), judged)
    if not len(suspects):
        return kept
    just_before = read_fixes(stored_fixes(ctx, ctx.window.start - timedelta(seconds=DENSE_S), suspects))
    before = merged(thinned_fixes(ctx, _since(ctx.cycle, ctx.params), THINNED_S, suspects), just_before)
    return without(kept, late_fixes(kept.take(np.isin(kept.mmsi, suspects)), before, v_max_kn))


def _with_last_fix(kept: Fixes, before: Fixes, v_max_kn: float) -> Fixes:
    """Add the last fix from before the window of each vessel that cannot have sailed from it, in time order.

    Not where it can have sailed from the fix before that one: the last one alone was false.
    """
    is_first = np.append(True, kept.mmsi[1:] != kept.mmsi[:-1])[: len(kept)]
    first = kept.take(is_first & np.isin(kept.mmsi, before.mmsi))
    before = in_time_order(before)
    end = np.searchsorted(before.mmsi, first.mmsi, side="right")
    has_two = end - np.searchsorted(before.mmsi, first.mmsi) > 1
    last, earlier = before.take(end - 1), before.take(end - 1 - has_two)
    is_hop = _is_impossible(last, first, v_max_kn)
    is_false = has_two & _is_impossible(earlier, last, v_max_kn) & ~_is_impossible(earlier, first, v_max_kn)
    return merged(last.take(is_hop & ~is_false), kept)


def _is_impossible(one: Fixes, other: Fixes, v_max_kn: float) -> NDArray[np.bool_]:
    """Tell from which fixes of `one` no ship can have sailed to those of `other` in the same places."""
    rows = np.arange(len(one))
    return is_impossible(concatenated(one, other), Hops(rows, rows + len(one)), v_max_kn)


@dataclass(frozen=True, slots=True)
class _Vessels:
    """Vessels in ascending order of MMSI, shape (n,), each with its speed limit, knots."""

    mmsi: NDArray[np.int64]
    limit_kn: FloatArray
    has_class: NDArray[np.bool_]
    is_nowhere: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class _JudgedHops:
    """Hops, and how far above the limit the speed is that each needs, from 0 to 1.

    What is at either side of a break may not be one ship.
    """

    group: NDArray[np.int64]
    km: FloatArray
    seconds: FloatArray
    excess: FloatArray
    is_break: NDArray[np.bool_]

    @property
    def kn(self) -> FloatArray:
        return speed_kn(self.km, self.seconds)


def _judged(fixes: Fixes, of: Hops, vessels: _Vessels) -> _JudgedHops:
    group = np.searchsorted(vessels.mmsi, fixes.mmsi[of.first])
    km, seconds, reported = of.km(fixes), of.seconds(fixes), of.reported_kn(fixes)
    limit = vessels.limit_kn[group]
    surplus = surplus_km(km, reported, limit)
    limit = np.where(vessels.has_class[group], limit, reported_limits_kn(limit, reported))
    excess = np.clip((speed_kn(surplus, seconds) - limit) / limit, 0, 1)
    excess *= -np.expm1(-surplus / DISTANCE_SCALE_KM)
    is_break = (excess > 0) & (surplus > DISTANCE_SCALE_KM)
    return _JudgedHops(group=group, km=km, seconds=seconds, excess=excess, is_break=is_break)


def _score(fixes: Fixes, vessels: _Vessels) -> _Scores:
    """Score time-ordered fixes; each MMSI of theirs is among the vessels."""
    n = len(vessels.mmsi)
    own = hops(fixes)
    hop = _judged(fixes, own, vessels)
    kept_up = stretches(fixes, own.take(hop.is_break))
    stretch = _judged(fixes, kept_up, vessels)
    doubt = np.bincount(hop.group, weights=np.log1p(-HOP_WEIGHT * hop.excess), minlength=n)
    doubt += np.bincount(
        stretch.group,
        weights=stretch.seconds / STRETCH_HOP_S * np.log1p(-HOP_WEIGHT * stretch.excess),
        minlength=n,
    )
    c_kin = 0.0 - np.expm1(doubt)
    both_reported = np.maximum(fixes.sog_kn[own.first], fixes.sog_kn[own.second])
    c_sog = _contradicted_share(both_reported, hop.kn, hop.seconds, hop.group, n)
    c_id = np.where(is_valid(vessels.mmsi), 0.0, 1.0)
    certain = (1 - KIN_WEIGHT * c_kin) * (1 - SOG_WEIGHT * c_sog) * (1 - ID_WEIGHT * c_id)

    max_speed = np.full(n, np.nan)
    np.fmax.at(max_speed, hop.group, hop.kn)
    is_hop = (hop.excess > 0) & (hop.km >= MIN_HOP_KM)
    is_stretch = stretch.excess > 0
    return _Scores(
        n_pos=np.bincount(np.searchsorted(vessels.mmsi, fixes.mmsi), minlength=n),
        c_kin=c_kin,
        c_sog=c_sog,
        c_id=c_id,
        is_nowhere=vessels.is_nowhere,
        score=1 - certain * (1 - NOWHERE_WEIGHT * vessels.is_nowhere),
        max_speed_kn=max_speed,
        hops=np.bincount(hop.group[is_hop], minlength=n),
        worst=_longest(fixes, own, hop, is_hop),
        stretches=np.bincount(stretch.group[is_stretch], minlength=n),
        fastest=_longest(fixes, kept_up, stretch, is_stretch),
    )


def _contradicted_share(
    reported: FloatArray, speed: FloatArray, duration: FloatArray, group: NDArray[np.int64], n: int
) -> FloatArray:
    """Mean, per vessel, of how far the needed speed exceeds the higher of the two reported ones, in [0, 1].

    One-sided: the straight line is the shortest way, so a lower needed speed contradicts nothing.
    """
    usable = ~np.isnan(reported) & (duration <= SOG_MAX_DURATION_S)
    noise_km = SOG_POSITION_NOISE_KM + reported * KM_PER_NM * CLOCK_S / 3600.0
    tolerance = SOG_TOLERANCE_KN + speed_kn(noise_km, duration)
    excess = np.clip((speed - reported - tolerance) / SOG_SCALE_KN, 0, 1)[usable]
    counted = np.bincount(group[usable], minlength=n)
    share = np.bincount(group[usable], weights=excess, minlength=n) / np.maximum(counted, 1)
    return np.asarray(share, dtype=np.float64)


def _longest(
    fixes: Fixes, of: Hops, judged: _JudgedHops, chosen: NDArray[np.bool_]
) -> dict[int, dict[str, Any]]:
    """Describe the longest of the chosen hops of each vessel that has one, by the vessel's index."""
    rows = np.flatnonzero(chosen)
    rows = rows[np.lexsort((rows, judged.km[rows], judged.group[rows]))]
    is_last = np.append(np.diff(judged.group[rows]) != 0, True)[: len(rows)]
    described = {}
    for k in rows[is_last].tolist():
        i, j = int(of.first[k]), int(of.second[k])
        described[int(judged.group[k])] = {
            "at": iso_utc(fixes.observed_s[j]),
            "from": [float(fixes.lat[i]), float(fixes.lon[i])],
            "to": [float(fixes.lat[j]), float(fixes.lon[j])],
            "km": round(float(judged.km[k]), 3),
            "kn": round(float(judged.kn[k]), 1),
        }
    return described


def _outputs(
    vessels: NDArray[np.int64], scores: _Scores, is_judged: NDArray[np.bool_], unusable: frozenset[str]
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
        scores.stretches.tolist(),
        scores.is_nowhere.tolist(),
        is_judged.tolist(),
        strict=True,
    )
    for index, (
        mmsi, n_pos, value, c_kin, c_sog, c_id, max_speed, hop_count, stretch_count, nowhere, judged
    ) in enumerate(columns):  # fmt: skip
        is_known = n_pos > 1 or hop_count or nowhere
        score = value if is_known and judged and str(mmsi) not in unusable else None
        worst = scores.worst.get(index)
        evidence = {
            "c_kin": round(c_kin, 6),
            "c_sog": round(c_sog, 6),
            "c_id": c_id,
            "position_unavailable": nowhere,
            "max_speed_kn": None if math.isnan(max_speed) else round(max_speed, 1),
            "impossible_hops": hop_count,
            "largest_hop_km": worst["km"] if worst else None,
            "worst_hop": worst,
            "impossible_stretches": stretch_count,
            "worst_stretch": scores.fastest.get(index),
        }
        yield vessel_output(mmsi, score, n_pos, evidence if judged else unjudged(mmsi, evidence))
