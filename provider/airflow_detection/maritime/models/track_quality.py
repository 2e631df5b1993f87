"""The usable part of each vessel's track: fixes kept and dropped, fields missing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.engine.model import BaseDetectionModel, Canary, ModelContext, ModelResult
from airflow_detection.engine.reads import RATIO
from airflow_detection.maritime.severity import severity
from airflow_detection.maritime.tracks.fixes import TIME, Fixes, in_time_order, read_fixes
from airflow_detection.maritime.tracks.geo import speed_kn
from airflow_detection.maritime.tracks.hops import hops
from airflow_detection.maritime.tracks.mmsi import MMSI_LIMIT, is_reserved, is_valid
from airflow_detection.maritime.tracks.position_faults import Circle, circles, fault_scores, frozen_s
from airflow_detection.maritime.vessel_canaries import vessel_canary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from airflow_detection.domain.specs import Cycle
    from airflow_detection.maritime.tracks.geo import FloatArray


RATIO_S = 600.0  # what creeps in shows in the newest reports first
RATIO_KN = (3.0, 60.0)  # slower ships report noise, faster ones are in two places
RATIO_DEAD = 0.35


class TrackQuality(BaseDetectionModel):
    """One output per vessel; the score is the share of its fixes that were dropped, or higher.

    It is above 0.5, and below what makes a track unusable, where the position does not follow the ship:
    frozen while a speed is reported, or going round one middle again and again.

    A fix is a row with a time. It is dropped when its position is not available (latitude 91, longitude
    181, null, or out of range). Speed 102.3, course 360 and heading 511 cost the field, not the fix. An
    impossible MMSI is flagged, not dropped: the models behind this one judge it.
    """

    features: ClassVar[tuple[str, ...]] = ("lat", "lon", "sog_kn", "cog_deg", "heading_deg")

    def run(self, ctx: ModelContext) -> ModelResult:
        """Judge every vessel that has a row in the inputs."""
        fixes = read_fixes(ctx.inputs)
        real = fixes.take(~is_reserved(fixes.mmsi))
        outputs = _outputs(fixes)
        return ModelResult(
            outputs_per_input=outputs,
            metrics={**_metrics(real), **_fault_counts(outputs)},
            features={**real.features((*self.features, TIME)), RATIO + "speed": _speed_ratios(real)},
        )

    def canaries(self, cycle: Cycle) -> Iterator[Canary]:
        """All fixes unusable, a third, none, and a row without a time (null: no fix at all).

        And a position that is frozen for six minutes while 10 knots are reported, and three turns of a
        circle.
        """
        start = cycle.window.start.timestamp()

        def canary(mmsi: int, expected: float | None, lats: tuple[float | None, ...]) -> Canary:
            lons = [None if lat is None else 181.0 if lat == 91.0 else 0.0 for lat in lats]
            seconds = [None if expected is None else start + 60.0 * i for i in range(len(lats))]
            return vessel_canary(mmsi, expected, zip(seconds, lats, lons, strict=True))

        yield canary(-1, 1.0, (91.0, None, 91.0))
        yield canary(-123_456_789, 1 / 3, (0.0, 0.01, 91.0, 0.02, None, 0.03))  # as long as a real MMSI
        yield canary(-3, 0.0, (0.0, 0.01, 0.02))
        yield canary(-4, None, (0.0,))
        yield vessel_canary(-5, 0.535, [(start + 60.0 * i, 1.0, 0.0) for i in range(7)], sog_kn=10.0)
        round_one = [(start + 20.0 * i, math.radians(60 * i)) for i in range(19)]
        circle = [(s, 2 + 0.005 * math.sin(angle), 0.005 * math.cos(angle)) for s, angle in round_one]
        yield vessel_canary(-6, 0.675, circle, sog_kn=10.0)


def _speed_ratios(fixes: Fixes) -> list[float]:
    """Return, of each vessel under way lately, the logarithm of the speed reported over that made good.

    In [-1, 1], and 0 within a third: what differs by as much as units do stands out.
    """
    kept = in_time_order(fixes)
    lately = kept.take(kept.observed_s >= np.max(kept.observed_s, initial=-np.inf) - RATIO_S)
    own = hops(lately)
    duration = own.seconds(lately)
    made_good = speed_kn(own.km(lately), duration)
    reported = (lately.sog_kn[own.first] + lately.sog_kn[own.second]) / 2
    is_under_way = (made_good >= RATIO_KN[0]) & (made_good < RATIO_KN[1]) & (reported > 0) & (duration >= 30)
    ratio = np.log(reported[is_under_way] / made_good[is_under_way])
    _, group, count = np.unique(lately.mmsi[own.first[is_under_way]], return_inverse=True, return_counts=True)
    ordered = ratio[np.lexsort((ratio, group))]
    medians = np.clip(ordered[np.cumsum(count) - count + count // 2], -1.0, 1.0)
    values: list[float] = np.where(np.abs(medians) < RATIO_DEAD, 0.0, medians).tolist()
    return values


def mostly_dropped(ctx: ModelContext, max_dropped_share: float) -> frozenset[str]:
    """Return the entities of which the champion dropped more than this share; none without a champion."""
    upstream = ctx.shared.get("track_quality")
    if upstream is None:
        return frozenset()
    pairs = zip(*upstream.columns(), strict=True)
    return frozenset(
        e for e, share in pairs if e is not None and share is not None and share > max_dropped_share
    )


def _outputs(fixes: Fixes) -> list[tuple[JsonMapping, JsonMapping]]:
    vessels, group = np.unique(fixes.mmsi, return_inverse=True)
    kept_fixes = in_time_order(fixes)
    is_fix = ~np.isnan(fixes.observed_s)

    def count(flags: NDArray[np.bool_]) -> list[int]:
        return _counts(group[flags], len(vessels))

    unique_kept = _counts(np.searchsorted(vessels, kept_fixes.mmsi), len(vessels))
    columns = zip(
        vessels.tolist(),
        is_valid(vessels).tolist(),
        count(is_fix),
        count(fixes.is_usable),
        unique_kept,
        _distinct_places(kept_fixes, vessels),
        count(is_fix & np.isnan(fixes.sog_kn)),
        count(is_fix & np.isnan(fixes.heading_deg)),
        strict=True,
    )
    frozen, circling = frozen_s(kept_fixes), circles(kept_fixes)
    faults = dict(zip(vessels.tolist(), fault_scores(vessels, frozen, circling).tolist(), strict=True))
    outputs: list[tuple[JsonMapping, JsonMapping]] = []
    for mmsi, identity_ok, n_fixes, n_kept, n_unique, n_places, no_sog, no_heading in columns:
        score = max((n_fixes - n_kept) / n_fixes, faults[mmsi]) if n_fixes else None
        output = {
            "entity_id": str(mmsi),
            "mmsi": mmsi,
            "score": score,
            "severity": severity(score),
            "n_pos": n_kept,
            "is_identity_valid": identity_ok,
            "evidence": {
                "kept": n_kept,
                "dropped": n_fixes - n_kept,
                "duplicates": n_kept - n_unique,
                "distinct_position_ratio": round(n_places / n_unique, 4) if n_unique else None,
                "sog_missing": no_sog,
                "heading_missing": no_heading,
                "frozen_s": frozen.get(mmsi),
                "circle": _described(circling.get(mmsi)),
            },
        }
        outputs.append(({"mmsi": mmsi}, output))
    return outputs


def _described(circle: Circle | None) -> JsonMapping | None:
    if circle is None:
        return None
    middle = [round(circle.lat, 5), round(circle.lon, 5)]
    return {"turns": round(circle.turns, 1), "radius_km": round(circle.radius_km, 3), "middle": middle}


def _distinct_places(kept: Fixes, vessels: NDArray[np.int64]) -> list[int]:
    """Count, per vessel, the different positions among its kept fixes."""
    order = np.lexsort((kept.lon, kept.lat, kept.mmsi))
    mmsi, lat, lon = kept.mmsi[order], kept.lat[order], kept.lon[order]
    is_new = np.ones(len(mmsi), dtype=np.bool_)
    is_new[1:] = (mmsi[1:] != mmsi[:-1]) | (lat[1:] != lat[:-1]) | (lon[1:] != lon[:-1])
    return _counts(np.searchsorted(vessels, mmsi[is_new]), len(vessels))


def _counts(group: NDArray[np.int64], n: int) -> list[int]:
    counts: list[int] = np.bincount(group, minlength=n).tolist()
    return counts


def _metrics(fixes: Fixes) -> dict[str, float | int | None]:
    fixes = fixes.take(~np.isnan(fixes.observed_s))
    vessels = np.unique(fixes.mmsi)
    kept = in_time_order(fixes)
    n_usable = int(np.count_nonzero(fixes.is_usable))
    return {
        "fix_count": len(fixes),
        "vessel_count": len(vessels),
        "dropped_count": len(fixes) - n_usable,
        "duplicate_count": n_usable - len(kept),
        "invalid_identity_count": int(np.count_nonzero(~is_valid(vessels))),
        "position_null_rate": _null_rate(fixes.lat),
        "sog_null_rate": _null_rate(fixes.sog_kn),
        "cog_null_rate": _null_rate(fixes.cog_deg),
        "heading_null_rate": _null_rate(fixes.heading_deg),
        "distinct_position_ratio": sum(_distinct_places(kept, vessels)) / len(kept) if len(kept) else None,
    }


def _fault_counts(outputs: list[tuple[JsonMapping, JsonMapping]]) -> dict[str, int]:
    evidence = [o["evidence"] for _, o in outputs if 0 <= o["mmsi"] < MMSI_LIMIT]
    return {
        "frozen_count": sum(e["frozen_s"] is not None for e in evidence),
        "circle_count": sum(e["circle"] is not None for e in evidence),
    }


def _null_rate(values: FloatArray) -> float | None:
    return float(np.mean(np.isnan(values))) if len(values) else None
